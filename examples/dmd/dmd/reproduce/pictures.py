"""The pictures of tables and figures, drawn without pyplot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdkit import DistillationGraph
from gdkit.plot import edge_curves, embedding_map

from .published import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {"mosi": ("mae", "acc2_neg_pos", "acc7"), "sims": ("mae", "acc2_nonpos_pos"), "accuracy": ("accuracy",)}
MEAN, FULL, PAPER = "#0072B2", "#D55E00", "#CC79A7"


def table_picture(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], suite: str, title: str) -> Figure:
    """A line a network: mean, interval over the test samples, the single seeds, and the paper's number."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    metrics, labels = PANELS[suite], _labels(rows, columns)
    height = 0.36 * len(rows) + 1.5
    figure = Figure(figsize=(2.6 + 0.055 * max(map(len, labels)) + 2.6 * len(metrics), height), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    places = np.arange(len(rows))
    has_paper = False
    for ax, metric in zip(axes, metrics, strict=True):
        for place, row in zip(places, rows, strict=True):
            mean, _, low, high = row["metrics"][metric]
            color = FULL if row["is_full"] else MEAN
            ax.plot([low, high], [place, place], color=color, linewidth=2.2, alpha=0.45, solid_capstyle="butt")
            ax.plot(mean, place, "o", color=color, markersize=6)
            seeds = row["seeds"][metric]
            ax.plot(seeds, np.full(len(seeds), place + 0.24), "|", color="#666666", markersize=5)
            for numbers in row["paper"].values():
                value = numbers[METRICS.index(metric)] if metric in METRICS else None
                if value is not None:
                    has_paper = True
                    ax.plot(value / 100, place, "D", color=PAPER, markersize=5, markerfacecolor="none")
            if row["is_full"]:
                ax.axvline(mean, color=FULL, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
        better = "lower" if metric == "mae" else "higher"
        ax.set_title(f"{metric} ({better} is better)", fontsize=10)
        ax.grid(axis="x", alpha=0.25)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    handles = [
        Line2D([], [], marker="o", color=MEAN, linewidth=2.2, label="mean over the seeds, 95 % interval"),
        Line2D([], [], marker="|", color="#666666", linestyle="", label="single seeds"),
    ]
    if has_paper:
        handles.append(Line2D([], [], marker="D", color=PAPER, linestyle="", markerfacecolor="none", label="paper"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _labels(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """What stands at a line: its title, and its further cells where titles alone do not tell lines apart."""
    titles = [row["title"] for row in rows]
    if len(set(titles)) == len(rows):
        return titles
    if len(columns) > 2:
        cells = [", ".join(cell for cell in row["cells"] if cell != "none") for row in rows]
        cells = [cell.replace("published", "published prior") for cell in cells]
    else:
        cells = [", ".join(map(" ".join, zip(columns, row["cells"], strict=True))) for row in rows]
    return [f"{title}: {cell}" if title else cell for title, cell in zip(titles, cells, strict=True)]


def embedding_picture(
    panels: Mapping[str, Mapping[str, np.ndarray]], labels: np.ndarray, classes: Sequence[str], title: str
) -> Figure:
    """One map a variant, side by side: colour by label, marker by modality."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * len(panels) + 0.9, 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (variant, features) in zip(axes, panels.items(), strict=True):
        is_last = ax is axes[-1]
        embedding_map(features, labels, ax=ax, title=variant, classes=classes or None, max_samples=250, legend=is_last)
    if (legend := axes[-1].get_legend()) is not None:  # of all panels: below them, not below the last
        handles = legend.legend_handles
        legend.remove()
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def edges_picture(panels: Sequence[Sequence[Mapping[str, Any]]], graph: DistillationGraph) -> Figure:
    """Every edge over the epochs, thin lines for the single seeds: a row a form, a column a unit and kind of labels.

    Args:
        panels: rows of {"title", "epochs" (epoch,), "weights" (seed, epoch, edge)}.
        graph: of the edges.
    """
    from matplotlib.figure import Figure

    num_rows, num_columns = len(panels), len(panels[0])
    figure = Figure(figsize=(2.95 * num_columns, 2.35 * num_rows + 0.7), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey="row")
    handles: list[Any] = []
    for row, line in zip(axes, panels, strict=True):
        for ax, panel in zip(row, line, strict=True):
            weights = panel["weights"]
            edge_curves(graph, weights.mean(axis=0), ax=ax, title=panel["title"], epochs=panel["epochs"], mean=False)
            handles, legend = ax.lines[: graph.num_edges], ax.get_legend()
            for edge, curve in enumerate(handles):
                seeds = weights[..., edge].T  # (epoch, seed)
                ax.plot(panel["epochs"], seeds, color=curve.get_color(), alpha=0.35, linewidth=0.6, zorder=1)
            if legend is not None:
                legend.remove()
            ax.title.set_fontsize(9)
            if len(panel["epochs"]) == 1:
                ax.set_xticks(panel["epochs"])
            ax.label_outer()
    columns = 6 if graph.num_edges <= 12 else 8
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8, handlelength=3)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of at most 128 colours: a third of the size, and the eye sees no difference."""
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    Image.open(stream).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
