"""One chart of a page: what plotly draws, and what it says to those who do not see it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NUM_COLORS = 8  # of page.js, which knows each in a light and in a dark form
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "triangle-up", "square", "diamond", "triangle-down", "cross", "x", "star")
MOST_LETTERS = 80  # of a name in a chart


@dataclass
class Figure:
    """A chart in the form of plotly.js; colours are names (`@0` to `@7`, `@ink`, `@muted`, `@grid`, `@surface`).

    Attributes:
        title: above it.
        label: says in words what it shows, for screen readers.
        data, layout: as plotly.js takes them.
        height: in pixels.
        note: a line below it.
        frames: "epochs", and for each of them what the slider of the page changes, see page.js.
        wide: takes the whole width of the page.
    """

    title: str
    label: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 320
    note: str = ""
    frames: dict[str, Any] = field(default_factory=dict)
    wide: bool = False

    def drawn(self) -> dict[str, Any]:
        """What page.js gets."""
        layout = {"height": self.height, **self.layout}
        return (
            {"data": self.data, "layout": layout, "frames": self.frames}
            if self.frames
            else {"data": self.data, "layout": layout}
        )


def color(index: int) -> str:
    """The name of a colour."""
    return f"@{index % NUM_COLORS}"


def plain(text: object) -> str:
    """Text that plotly shows as it is: it would take tags for styles and links."""
    text = str(text)
    text = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"
    return html.escape(text, quote=False)


def numbers(values: Iterable[float | None], digits: int = 6) -> list[float | None]:
    """For JSON: None where there is no finite number; else as many digits as a picture can show."""
    return [None if x is None or not math.isfinite(x) else float(f"{x:.{digits}g}") for x in values]


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where it is undefined."""
    return "—" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def lines(
    title: str,
    label: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_title: str = "epoch",
    marked: float | None = None,
    **layout: Any,
) -> Figure:
    """Curves over `x`, told apart by colour and dashes; `marked` gets a thin upright line."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(x) < 8 else "lines",
            "name": plain(name),
            "x": list(x),
            "y": numbers(values),
            "line": {"color": color(i), "width": 2, "dash": DASHES[i % len(DASHES)]},
            "marker": {"color": color(i), "size": 6},
        }
        for i, (name, values) in enumerate(series.items())
    ]
    axis = {"title": {"text": x_title}, "showgrid": False}
    layout = {"xaxis": axis, "hovermode": "x unified", "hoverlabel": {"namelength": -1}, "showlegend": True} | layout
    if marked is not None:
        layout["shapes"] = [upright(marked)]
    if x_title == "epoch" and 0 < len(x) < 8:
        layout["xaxis"] = layout["xaxis"] | {"dtick": 1}
    return Figure(title, label, data, layout)


def upright(x: float) -> dict[str, Any]:
    """A thin line over the whole height."""
    line = {"color": "@muted", "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line, "layer": "below"}


def is_defined(values: Iterable[float | None]) -> bool:
    """Whether any is a finite number."""
    return any(value is not None and math.isfinite(value) for value in values)


def cells(table: np.ndarray) -> list[list[float | None]]:
    """Rows of a matrix for JSON."""
    return [numbers(row) for row in table.tolist()]


def shortened(names: Iterable[str], most: int) -> list[str]:
    """Names for ticks."""
    return [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
