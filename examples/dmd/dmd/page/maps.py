"""What the features of a split know: t-SNE maps whose points say which sample they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .figure import NUM_COLORS, SYMBOLS, Figure, number, plain


def feature_map(title: str, unit: str, part: Mapping[str, Any]) -> Figure | None:
    """One marker a sample and modality: the shape is the modality's, the colour the label's; None without places."""
    found = part.get("map")
    if not found or unit not in found["places"]:
        return None
    classes = part["classes"]
    said = [
        f"<b>{plain(name)}</b><br>truth {plain(label_text(mine, classes))}<br>"
        f"prediction {plain(label_text(yours, classes))}"
        for name, mine, yours in zip(found["id"], found["truth"], found["prediction"], strict=True)
    ]
    truth = found["truth"]
    paint, scale = _paint(truth, classes)
    data = []
    for index, (name, places) in enumerate(found["places"][unit].items()):
        here = [i for i, place in enumerate(places) if None not in place]
        for is_known in (True, False):  # grey has no place on a scale of numbers
            chosen = [i for i in here if (truth[i] is not None) == is_known]
            marker = {
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 8,
                "opacity": 0.85,
                "line": {"width": 0.5, "color": "@surface"},
                **({"color": [paint(truth[i]) for i in chosen], **scale} if is_known else {"color": "@none"}),
            }
            trace = {
                "type": "scatter",
                "mode": "markers",
                "name": plain(name),
                "x": [places[i][0] for i in chosen],
                "y": [places[i][1] for i in chosen],
                "customdata": [f"{said[i]}<br>feature of {plain(name)}" for i in chosen],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": marker,
                "legendgroup": str(index),
                "showlegend": is_known == any(value is not None for value in truth),
            }
            if chosen or trace["showlegend"]:
                data.append(trace)
    if scale:
        data[0]["marker"] |= {"showscale": True, "colorbar": _bar()}
    elif classes:
        data += _legend_of_classes(classes)
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    layout = {
        "xaxis": hidden,
        "yaxis": hidden,
        "legend": {"itemsizing": "constant", "y": -0.02},
        "hovermode": "closest",
    }
    rows = -(-len(classes) // 3) if not scale else 0
    count = len(found["id"])
    label = f"t-SNE map of the {unit} features of {count} {title} samples, one marker a modality of a sample."
    note = f"{count} samples; the shape is the modality, the colour the true label. Grey: no label."
    return Figure(f"{unit} features, {title}", label, data, layout, 430 + 20 * rows, note)


def label_text(value: float | None, classes: Sequence[str]) -> str:
    """A label for people: a class's name, or a number."""
    if value is None:
        return "unknown"
    if classes:
        return classes[int(value)] if 0 <= value < len(classes) else str(int(value))
    return number(value, 2)


def _paint(truth: Sequence[float | None], classes: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """What gives a label its colour, and the colour scale where colours are numbers."""
    if classes and len(classes) <= NUM_COLORS:
        return (lambda value: f"@{int(value)}"), {}
    known = [value for value in truth if value is not None] or [0]
    low, high = (0, len(classes) - 1) if classes else (min(known), max(known))
    return (lambda value: value), {"colorscale": "@values", "cmin": low, "cmax": high if high > low else low + 1}


def _bar() -> dict[str, Any]:
    return {"title": {"text": "label", "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}


def _legend_of_classes(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Entries that say which colour is which class."""
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(name),
            "x": [None],
            "y": [None],
            "marker": {"symbol": "circle", "size": 10, "color": f"@{index}"},
            "hoverinfo": "skip",
            "legend": "legend2",
        }
        for index, name in enumerate(classes)
    ]
