"""The pictures of a run: what it lost, who taught whom, what the features know, and where it errs.

They are drawn without pyplot, so that a machine without a display draws them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdkit.plot import COLORS, LINE_STYLES, edge_curves, edge_heatmap, embedding_map

from .confusion import confusion, shown_classes
from .edge_tables import EdgeTables, edge_tables, shown_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = LINE_STYLES[:3]  # beside eight colours: 24 lines until one looks as another
MOST_MAPPED = 300  # samples of a t-SNE: they show the picture as well as all do, in a few seconds
MOST_DOTS = 1800  # of a t-SNE, one a modality of a sample: of many modalities fewer samples, in the same seconds

Places = dict[str, dict[str, np.ndarray]]  # unit -> modality -> (sample, 2), NaN where the sample lacks it


def write_pictures(
    out: Path,
    *,
    recordings_task: str,
    classes: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    edges: Iterable[Mapping[str, Any]],
    truth: np.ndarray,
    prediction: np.ndarray,
    embeddings: Mapping[str, Mapping[str, np.ndarray]],
    labels: np.ndarray,
    best_epoch: int | None = None,
) -> Places:
    """Draw what there is to draw, and return where t-SNE puts the samples of :func:`mapped_samples`.

    losses.png, edges_heatmap.png and edges_over_epochs.png (the paper's Fig. 5) and tsne.png (Fig. 3 and 4), each with
    one panel a GD-Unit, and predictions.png (regression) or confusion.png (classification). A GD-Unit that is
    switched off has no panel, and a picture without any panel is not written.

    Args:
        out: an existing folder.
        recordings_task: "regression" or "classification".
        classes: class names; empty for regression.
        history: one mapping an epoch: "epoch", "train" {term: value}, "valid" {term or metric: value}.
        edges: rows with "epoch", "unit", "source", "target", "weight".
        truth: (N,) labels of the split shown; NaN or -100 = unlabelled, left out.
        prediction: (N,) numbers, or class numbers.
        embeddings: GD-Unit -> node -> (M, dim); rows of NaN (an absent node) are left out.
        labels: (M,) labels of the embedded samples.
        best_epoch: the epoch whose weights were kept: marked in the curves, and shown in the heat maps; without it,
            these show the last epoch.
    """
    units = edge_tables(edges)
    maps, places = feature_maps(embeddings, labels, classes)
    figures = {
        "losses.png": _losses(history, best_epoch),
        "edges_heatmap.png": _heatmaps(units, best_epoch),
        "edges_over_epochs.png": _curves(units, best_epoch),
        "tsne.png": maps,
    }
    if recordings_task == "classification":
        figures["confusion.png"] = _confusion(truth, prediction, classes)
    else:
        figures["predictions.png"] = _predictions(truth, prediction)
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(out / name, dpi=130)
    return places


def _panels(count: int, width: float, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of this size in inches."""
    from matplotlib.figure import Figure

    columns = min(count, columns or count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)[:count]


def _losses(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Figure | None:
    """Terms of the training loss, the loss of both splits, and the validation metrics."""
    from matplotlib.ticker import MaxNLocator

    if not history:
        return None

    def series(part: str, keys: Iterable[str]) -> dict[str, list[float]]:
        table = {key: [_real(epoch.get(part, {}).get(key)) for epoch in history] for key in keys}
        return {key: values for key, values in table.items() if np.isfinite(values).any()}

    terms = dict.fromkeys(key for epoch in history for key in epoch.get("train", {}))
    metrics = dict.fromkeys(key for epoch in history for key in epoch.get("valid", {}) if key not in terms)
    both = {f"{part} loss": values for part in ("train", "valid") for values in series(part, ["loss"]).values()}
    panels = {
        "loss": both,
        "terms of the training loss": {k: v for k, v in series("train", terms).items() if k != "loss" and any(v)},
        # An error has no common scale with scores that lie in [0, 1].
        "validation error": series("valid", [key for key in metrics if key == "mae"]),
        "validation scores": series("valid", [key for key in metrics if key != "mae"]),
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    epochs = [epoch["epoch"] for epoch in history]
    figure, axes = _panels(len(panels), 5.8, 3.4, columns=2 if len(panels) == 4 else None)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for (label, values), color, style in zip(lines.items(), cycle(COLORS), cycle(STYLES), strict=False):
            marker = "o" if len(epochs) == 1 else None
            ax.plot(epochs, values, color=color, linestyle=style, marker=marker, label=label)
        if title == "terms of the training loss":  # they differ by orders of magnitude, and some can be negative
            negative = np.nanmin(list(lines.values())) < 0
            ax.set_yscale("symlog", linthresh=1e-3) if negative else ax.set_yscale("log")
        _mark(ax, best_epoch)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.25)
        ax.set(title=title, xlabel="epoch")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _mark(ax: Axes, best_epoch: int | None) -> None:
    if best_epoch is not None:
        ax.axvline(best_epoch, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        ax.text(
            best_epoch, 1.0, "best ", transform=ax.get_xaxis_transform(), ha="right", va="top", color="#666666", size=9
        )


def _real(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _heatmaps(units: EdgeTables, best_epoch: int | None) -> Figure | None:
    if not units:
        return None
    shown = {unit: shown_epoch(epochs, best_epoch) for unit, (_, epochs, _) in units.items()}
    rows = {unit: weights[shown[unit]] for unit, (_, _, weights) in units.items()}
    largest = max(graph.num_nodes for graph, _, _ in units.values())
    figure, axes = _panels(len(units), 3.2 + 0.8 * largest, 1.7 + 0.7 * largest)
    # One colour scale, so that the panels can be compared.
    top = float(np.fmax.reduce(np.concatenate(list(rows.values()))))
    for ax, (unit, (graph, epochs, _)) in zip(axes, units.items(), strict=True):
        edge_heatmap(graph, rows[unit], ax=ax, title=f"{unit} GD-Unit, epoch {epochs[shown[unit]]}", vmax=top)
    return figure


def _curves(units: EdgeTables, best_epoch: int | None) -> Figure | None:
    if not units:
        return None
    most = max(graph.num_edges for graph, _, _ in units.values())
    figure, axes = _panels(len(units), 7.6 if most < 16 else 10.5, 3.8)
    for ax, (unit, (graph, epochs, weights)) in zip(axes, units.items(), strict=True):
        edge_curves(graph, weights, ax=ax, title=f"{unit} GD-Unit", epochs=epochs)
        _mark(ax, best_epoch)
    return figure


def mapped_samples(count: int, most: int) -> np.ndarray:
    """Which of `count` samples the maps show, in ascending order: all, or as many as may be, drawn by chance."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def feature_maps(
    embeddings: Mapping[str, Mapping[str, np.ndarray]], labels: np.ndarray, classes: Sequence[str]
) -> tuple[Figure | None, Places]:
    """One t-SNE a GD-Unit, as a picture and as places for others to draw; arguments as in :func:`write_pictures`."""
    num_nodes = max(map(len, embeddings.values()), default=1)
    chosen = mapped_samples(len(labels), min(MOST_MAPPED, max(2, MOST_DOTS // num_nodes)))
    drawable = {unit: {name: rows[chosen] for name, rows in nodes.items()} for unit, nodes in embeddings.items()}
    finite = {
        unit: {name: np.isfinite(rows).all(1) for name, rows in nodes.items()} for unit, nodes in drawable.items()
    }
    drawable = {unit: nodes for unit, nodes in drawable.items() if sum(map(np.sum, finite[unit].values())) >= 2}
    places: Places = {}
    if not drawable:
        return None, places
    figure, axes = _panels(len(drawable), 6.4, 5.6)
    for ax, (unit, nodes) in zip(axes, drawable.items(), strict=True):
        title = f"{unit} features (t-SNE)"
        embedding_map(nodes, labels[chosen], ax=ax, title=title, classes=classes or None, max_samples=len(chosen))
        places[unit] = {name: np.full((len(chosen), 2), np.nan) for name in nodes}
        for name, dots in zip(nodes, ax.collections, strict=False):  # the first ones, one a modality
            places[unit][name][finite[unit][name]] = dots.get_offsets()
    return figure, places


def _predictions(truth: np.ndarray, prediction: np.ndarray) -> Figure | None:
    """Prediction against truth; on the diagonal both agree."""
    truth, prediction = (np.asarray(values, dtype=np.float64).ravel() for values in (truth, prediction))
    known = np.isfinite(truth) & np.isfinite(prediction)
    truth, prediction = truth[known], prediction[known]
    if not len(truth):
        return None
    defined = np.ptp(truth) > 0 and np.ptp(prediction) > 0
    correlation = f"{np.corrcoef(truth, prediction)[0, 1]:.3f}" if defined else "undefined"
    figure, (ax,) = _panels(1, 5.2, 5.2)
    low, high = min(truth.min(), prediction.min()), max(truth.max(), prediction.max())
    margin = 0.05 * (high - low) or 0.5
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color="#888888", linewidth=1, zorder=0)
    ax.scatter(truth, prediction, s=18, alpha=0.5, linewidths=0, color=COLORS[0])
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="truth", ylabel="prediction")
    ax.set_title(f"n = {len(truth)}, corr = {correlation}")
    ax.grid(alpha=0.25)
    return figure


def _confusion(truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]) -> Figure | None:
    """Counts of every pair of true and predicted class; the colour is the share of the true class."""
    truth, prediction = np.asarray(truth).ravel(), np.asarray(prediction).ravel()
    counts = confusion(truth, prediction, len(classes))
    if not counts.any():
        return None
    title = f"n = {counts.sum()}, accuracy = {np.trace(counts) / counts.sum():.3f}"
    shown = shown_classes(counts)
    if len(shown) < len(classes):
        title += f"; the {len(shown)} of {len(classes)} classes with most errors"
    share = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    counts, classes, count = counts[np.ix_(shown, shown)], [classes[i] for i in shown], len(shown)
    longest = 0.08 * max(map(len, classes))
    size, fontsize = max(2.5, 0.34 * count), 10 if count <= 10 else 8
    figure, (ax,) = _panels(1, size + longest + 1.6, size + longest + 1.0)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        color = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=fontsize)
    ax.set_xticks(range(count), classes, rotation=90, fontsize=fontsize)
    ax.set_yticks(range(count), classes, fontsize=fontsize)
    ax.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="#dddddd", linewidth=0.5)
    ax.tick_params(which="both", length=0)
    ax.set(xlabel="prediction", ylabel="truth")
    ax.set_title(title)
    figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, label="share of the true class")
    return figure
