"""What the drawn pictures are made of: boxes, nodes and arrows, in colours that stand out from white and from black."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

BLUE, GREEN, RED, GREY = "#1C84C6", "#009E73", "#D55E00", "#7F7F7F"
COLOURS = {"L": RED, "V": BLUE, "A": GREEN}


def canvas(width: float, height: float) -> Axes:
    """Empty Axes in which one unit is a third of an inch."""
    figure = Figure(figsize=(width / 3, height / 3))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.set_axis_off()
    return ax


def box(ax: Axes, x: float, y: float, text: str, colour: str = GREY, width: float = 2.4, height: float = 1.4) -> None:
    """A box around its middle."""
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.25", fc="none", ec=colour
    )
    shape.set_linewidth(1.8)
    ax.add_patch(shape)
    ax.text(x, y, text, color=colour, ha="center", va="center")


def node(ax: Axes, x: float, y: float, text: str, radius: float = 0.75) -> None:
    """A node of a graph, coloured by its first letter."""
    ax.add_patch(Circle((x, y), radius, fc="none", ec=COLOURS[text[0]], lw=2.4))
    ax.text(x, y, text, color=COLOURS[text[0]], ha="center", va="center", weight="bold")


def arrow(
    ax: Axes, start, end, text: str = "", colour: str = GREY, width: float = 1.6, bend: float = 0.0, **at
) -> None:
    """An arrow with a word beside its middle."""
    style = f"arc3,rad={bend}"
    shape = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=8 + 3 * width, connectionstyle=style, shrinkA=0, shrinkB=0
    )
    shape.set(color=colour, linewidth=width)
    ax.add_patch(shape)
    x, y = (start[0] + end[0]) / 2 + at.get("dx", 0.0), (start[1] + end[1]) / 2 + at.get("dy", 0.45)
    ax.text(x, y, text, color=colour, ha="center", va="center")
