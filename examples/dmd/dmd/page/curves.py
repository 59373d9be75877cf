"""How a run went, and where it errs: losses, metrics, seconds, and predictions against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..confusion import shown_classes
from .figure import Figure, is_defined, lines, number, numbers, plain, shortened

TICKS = [float(f"{digit}e{power}") for power in range(-9, 10) for digit in (1, 2, 5)]  # of logarithmic axes


def learning(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Figure]:
    """Loss of both splits, the terms of the training loss, validation errors, and validation scores."""
    terms = dict.fromkeys(name for epoch in history for name in epoch.get("train", {}))
    metrics = dict.fromkeys(name for epoch in history for name in epoch.get("valid", {}) if name not in terms)
    loss = {f"{part} loss": series(history, part, "loss") for part in ("train", "valid")}
    groups = {
        "Loss": loss,
        "Terms of the training loss": {name: series(history, "train", name) for name in terms if name != "loss"},
        # An error has no common scale with scores that lie in [0, 1].
        "Validation error": {name: series(history, "valid", name) for name in metrics if name == "mae"},
        "Validation scores": {name: series(history, "valid", name) for name in metrics if name != "mae"},
    }
    epochs = [epoch["epoch"] for epoch in history]
    figures = []
    for title, found in groups.items():
        found = {name: values for name, values in found.items() if is_defined(values)}
        if title.startswith("Terms"):  # what is always 0 is switched off
            found = {name: values for name, values in found.items() if any(values)}
        if not found:
            continue
        label = f"{title} over the epochs. {spoken(found)}"
        options = {}
        if title.startswith("Terms") and min(x for values in found.values() for x in values if x is not None) > 0:
            options["yaxis"] = {"type": "log", "tickvals": TICKS}  # they differ by orders of magnitude
        figures.append(lines(title, label, epochs, found, marked=best_epoch, **options))
    return figures


def series(history: Sequence[Mapping[str, Any]], part: str, name: str) -> list[float | None]:
    """One value an epoch."""
    return [epoch.get(part, {}).get(name) for epoch in history]


def spoken(found: Mapping[str, Sequence[float | None]]) -> str:
    """First and last value of each curve, in words."""
    ends = {name: [x for x in values if x is not None] for name, values in found.items()}
    return "; ".join(f"{name} from {number(known[0])} to {number(known[-1])}" for name, known in ends.items()) + "."


def seconds(history: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Seconds of each epoch, and the learning rate at its end."""
    epochs, figures = [epoch["epoch"] for epoch in history], []
    spent = [epoch.get("seconds") for epoch in history]
    if is_defined(spent):
        known = [x for x in spent if x is not None]
        label = f"Seconds of each epoch, from {number(min(known), 2)} to {number(max(known), 2)}."
        bars = {"type": "bar", "x": epochs, "y": numbers(spent, 4), "marker": {"color": "@0"}}
        bars |= {"hovertemplate": "epoch %{x}: %{y:.2f} s<extra></extra>"}
        axis = {"title": {"text": "epoch"}} | ({"dtick": 1} if len(epochs) < 8 else {})
        figures.append(Figure("Seconds of each epoch", label, [bars], {"xaxis": axis}, height=240))
    rates = [epoch.get("learning_rate") for epoch in history]
    if is_defined(rates):
        figure = lines("Learning rate", f"Learning rate. {spoken({'It goes': rates})}", epochs, {"rate": rates})
        figure.layout["showlegend"], figure.height = False, 240
        figure.layout["yaxis"] = {"exponentformat": "e"}
        figures.append(figure)
    return figures


def errors(title: str, part: Mapping[str, Any]) -> Figure | None:
    """Prediction against truth, or counts of each pair of true and predicted class; None without labels."""
    if part.get("confusion"):
        return _confusion(title, np.asarray(part["confusion"]), part["classes"])
    return _scatter(title, part) if part.get("points") else None


def _scatter(title: str, part: Mapping[str, Any]) -> Figure:
    ids, truth, prediction = zip(*part["points"], strict=True)
    known = [x for x in (*truth, *prediction) if x is not None]
    low, high = min(known), max(known)
    margin = 0.05 * (high - low) or 0.5
    ends = [low - margin, high + margin]
    diagonal = {"type": "line", "x0": ends[0], "x1": ends[1], "y0": ends[0], "y1": ends[1], "layer": "below"}
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": list(truth),
        "y": list(prediction),
        "customdata": [plain(name) for name in ids],
        "marker": {"color": "@0", "size": 7, "opacity": 0.65},
        "hovertemplate": "<b>%{customdata}</b><br>truth %{x:.2f}<br>prediction %{y:.2f}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "truth"}, "range": ends},
        "yaxis": {"title": {"text": "prediction"}, "range": ends, "scaleanchor": "x"},
        "shapes": [diagonal | {"line": {"color": "@muted", "width": 1, "dash": "dot"}}],
        "showlegend": False,
    }
    absolute = np.abs(np.array(prediction, float) - np.array(truth, float))
    shown = f"{len(ids)} of {part['labelled']}" if len(ids) < part["labelled"] else f"{len(ids)}"
    label = f"Prediction against truth of {shown} {title} samples; the mean distance is {number(absolute.mean())}."
    note = f"{shown} labelled samples; on the dotted line both agree."
    return Figure(f"Prediction and truth, {title}", label, [dots], layout, 420, note)


def _confusion(title: str, counts: np.ndarray, classes: Sequence[str]) -> Figure:
    right, total = int(np.trace(counts)), int(counts.sum())
    label = f"Confusion matrix of {title}: {right} of {total} samples are right. {_confused(counts, classes)}"
    note = f"{right} of {total} right; numbers are samples, the colour is the share of the true class."
    shown = shown_classes(counts)
    if len(shown) < len(classes):
        note += f" Shown are the {len(shown)} of {len(classes)} classes that take part in most errors."
    share = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    counts, classes = counts[np.ix_(shown, shown)], [classes[i] for i in shown]
    names = list(map(plain, classes))
    grid = {
        "type": "heatmap",
        "z": np.round(share, 4).tolist(),
        "x": list(range(len(names))),
        "y": list(range(len(names))),
        "text": [[str(count) if count else "" for count in row] for row in counts.tolist()],
        "texttemplate": "%{text}",
        "customdata": [
            [[mine, yours, count] for yours, count in zip(names, row)] for mine, row in zip(names, counts.tolist())
        ],
        "hovertemplate": "truth %{customdata[0]}<br>prediction %{customdata[1]}<br>"
        "%{customdata[2]} samples, %{z:.0%} of the class<extra></extra>",
        "colorscale": "@blues",
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
    }
    ticks = {
        "tickvals": list(range(len(names))),
        "ticktext": list(map(plain, shortened(classes, 18))),
        "showgrid": False,
        "automargin": True,
    }
    layout = {
        "xaxis": {"title": {"text": "prediction"}, "tickangle": -60, **ticks},
        "yaxis": {"title": {"text": "truth"}, "autorange": "reversed", **ticks},
    }
    if len(names) > 12:
        grid["textfont"] = {"size": 9}
        layout["xaxis"]["tickfont"] = layout["yaxis"]["tickfont"] = {"size": 9}
    return Figure(f"Confusion, {title}", label, [grid], layout, min(260 + 34 * len(names), 900), note)


def _confused(counts: np.ndarray, classes: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return ""
    truth, prediction = np.unravel_index(wrong.argmax(), wrong.shape)
    text = f"{classes[truth]} is taken for {classes[prediction]} in {wrong.max()} samples"
    return f"The most frequent error: {text}."
