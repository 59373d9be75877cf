"""Draws the pictures of docs/concepts.md: `python docs/images/concepts.py` writes concepts/eq01.svg to eq11.svg.

They have no ground of their own, and their colours (nearly Okabe and Ito's, and a middle grey) stand out from white and
from black, so that one picture serves light and dark pages. Numbers in them are made up but for those of formulas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from shapes import BLUE, COLOURS, GREEN, GREY, RED, arrow, box, canvas, node

from gdkit import DistillationGraph
from gdkit import functional as GF

STYLE = {
    "svg.hashsalt": "gdkit",  # the same file from the same drawing
    "font.size": 11,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "mathtext.fontset": "dejavusans",
}


def eq01() -> Axes:
    ax = canvas(15, 6)
    box(ax, 1.6, 3, "$X_m$")
    box(ax, 6, 3, r"$\tilde{X}_m$")
    arrow(ax, (2.9, 3), (4.7, 3), "Conv1D")
    for y, text, colour, encoder in ((4.7, "$X_m^{com}$", BLUE, "$E^{com}$"), (1.3, "$X_m^{prt}$", RED, "$E_m^{prt}$")):
        box(ax, 11.2, y, text, colour)
        arrow(ax, (7.3, 3), (9.9, y), encoder, colour, dy=0.7 if y > 3 else -0.7)
    ax.text(13.8, 4.7, "shared", color=BLUE, ha="center", va="center")
    ax.text(13.8, 1.3, "private", color=RED, ha="center", va="center")
    return ax


def eq02() -> Axes:
    ax = canvas(15, 6)
    box(ax, 2, 4.6, "$X_m^{com}$", BLUE)
    box(ax, 2, 1.4, "$X_m^{prt}$", RED)
    box(ax, 7.2, 3, "$D_m$", height=2)
    box(ax, 12.6, 4.6, "decoded")
    box(ax, 12.6, 1.4, r"$\tilde{X}_m$")
    arrow(ax, (3.3, 4.6), (5.9, 3.4), colour=BLUE)
    arrow(ax, (3.3, 1.4), (5.9, 2.6), colour=RED)
    arrow(ax, (8.5, 3.2), (11.3, 4.5))
    ax.plot([12.6, 12.6], [2.2, 3.8], color=GREEN, lw=2.4, ls=":")
    ax.text(13.1, 3, "close", color=GREEN, va="center")
    return ax


def eq03() -> Axes:
    ax = canvas(15, 6)
    for x, text, colour in ((1.8, "$X_m^{prt}$", RED), (7.2, "decoded", GREY), (12.6, "again", RED)):
        box(ax, x, 4.2, text, colour)
    arrow(ax, (3.1, 4.2), (5.9, 4.2), "$D_m$")
    arrow(ax, (8.5, 4.2), (11.3, 4.2), "$E_m^{prt}$", RED)
    ax.add_patch(
        FancyArrowPatch(
            (1.8, 3.4), (12.6, 3.4), connectionstyle="arc3,rad=0.28", arrowstyle="-", color=GREEN, lw=2.4, ls=":"
        )
    )
    ax.text(7.2, 1.2, "close", color=GREEN, ha="center")
    return ax


def eq04() -> Axes:
    ax = canvas(15, 7)
    origin = np.array((3.0, 1.0))
    ax.add_patch(Circle(origin, 5.2, fc="none", ec=GREY, lw=0.8, ls=":"))
    for degrees, text, colour, dx in (
        (38, "anchor $i$: vision, happy", BLUE, 0.3),
        (58, "positive $j$: language, happy", GREEN, 0.2),
    ):
        tip = origin + 5.2 * np.array((np.cos(np.radians(degrees)), np.sin(np.radians(degrees))))
        arrow(ax, origin, tip, colour=colour, width=2)
        ax.text(tip[0] + dx, tip[1] + 0.2, text, color=colour)
    tip = origin + 5.2 * np.array((1.0, 0.02))
    arrow(ax, origin, tip, colour=RED, width=2)
    ax.text(tip[0] + 0.3, tip[1] - 0.1, "negative $k$: vision, sad", color=RED)
    arrow(ax, (5.9, 5.0), (6.6, 4.6), colour=GREEN, width=1.4, bend=-0.3)
    arrow(ax, (7.6, 3.2), (8.1, 1.6), colour=RED, width=1.4, bend=-0.2)
    ax.set_ylim(0, 7)
    return ax


def eq05() -> Axes:
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    ax = figure.add_subplot(facecolor="none")
    cosine = torch.linspace(-1, 1, 201)
    shared, private = torch.stack([cosine, (1 - cosine**2).sqrt()], dim=-1), torch.tensor([1.0, 0.0]).expand(201, 2)
    styles = {"hinge": (BLUE, "-"), "absolute": (RED, "--"), "squared": (GREEN, "-."), "signed": (GREY, ":")}
    for kind, (colour, dashes) in styles.items():
        losses = [float(GF.soft_orthogonality(s[None], p[None], kind)) for s, p in zip(shared, private)]
        ax.plot(cosine, losses, color=colour, ls=dashes, lw=2.2, label=kind)
    ax.set_xlabel("cosine of shared and private")
    ax.set_ylabel("loss")
    ax.legend(frameon=False, labelcolor="linecolor")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def eq06() -> Axes:
    ax = canvas(16, 3)
    parts = [("rec", BLUE, 1.0), ("cyc", BLUE, 1.0), ("margin", GREEN, 1.0), ("orthogonality", GREEN, 1.0)]
    for x, (text, colour, _) in zip((1.9, 5.2, 9.4, 13.4), parts, strict=True):
        box(ax, x, 1.9, text, colour, width=2.4 if len(text) < 8 else 3.9)
    for x, sign in ((3.55, "+"), (7.2, r"$+\;\gamma\,($"), (11.0, "+"), (15.7, ")")):
        ax.text(x, 1.9, sign, ha="center", va="center")
    ax.text(3.55, 0.6, "nothing is lost", color=BLUE, ha="center", va="center")
    ax.text(11.6, 0.6, "nothing is said twice", color=GREEN, ha="center", va="center")
    return ax


def eq07() -> Axes:
    ax = canvas(13, 6.4)
    node(ax, 2, 5.2, "L")
    node(ax, 2, 1.2, "V")
    node(ax, 9.6, 3.2, "A")
    arrow(ax, (2.9, 5.0), (8.7, 3.5), r"$w_{L \to A} = 0.8$", RED, width=4, dy=0.75, dx=0.4)
    arrow(ax, (2.9, 1.4), (8.7, 2.9), r"$w_{V \to A} = 0.2$", BLUE, width=1.2, dy=-0.75, dx=0.4)
    ax.text(11.7, 3.2, "student $j$", color=GREEN, ha="center", va="center")
    ax.text(2, 3.2, "teachers $i$", ha="center", va="center")
    return ax


def eq08() -> Axes:
    figure = Figure(figsize=(6.0, 2.7), layout="constrained")
    graph = DistillationGraph.complete(["L", "V", "A"])
    scores = torch.tensor([[1.2, 0.4, -0.2, 0.3, -0.6, 0.1]])
    for column, normalize in enumerate(("graph", "target")):
        ax = figure.add_subplot(1, 2, column + 1, facecolor="none")
        weights = graph.matrix(GF.edge_weights(scores, graph.edge_index, 3, normalize)[0])
        shown = np.where(np.eye(3, dtype=bool), np.nan, weights.numpy())
        ax.imshow(shown, cmap="cividis", vmin=0, vmax=1)
        for (i, j), weight in np.ndenumerate(shown):
            if i != j:
                ax.text(j, i, f"{weight:.2f}", color="white" if weight < 0.55 else "black", ha="center", va="center")
        ax.set_xticks(range(3), graph.names)
        ax.set_yticks(range(3), graph.names)
        ax.set_xlabel("student")
        ax.set_ylabel("teacher")
        ax.set_title(f'"{normalize}": ' + ("all sum to 1" if normalize == "graph" else "each column does"), fontsize=11)
        ax.spines[:].set_visible(False)
    return ax


def eq09() -> Axes:
    figure = Figure(figsize=(6.4, 2.0), layout="constrained")
    axes = figure.subplots(1, 3)
    weights = np.array([[0, 0.35, 0.3], [0.05, 0, 0.15], [0.05, 0.1, 0]])
    distances = np.array([[0, 0.6, 0.9], [0.6, 0, 0.4], [0.9, 0.4, 0]])
    titles = ("$W$, weights", r"$\odot\ E$, distances", r"$=$  sum: " + f"{(weights * distances).sum():.2f}")
    for ax, values, title in zip(axes, (weights, distances, weights * distances), titles, strict=True):
        ax.imshow(np.where(np.eye(3, dtype=bool), np.nan, values), cmap="cividis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            if i != j:
                ax.text(j, i, f"{value:.2f}", color="white" if value < 0.55 else "black", ha="center", va="center")
        ax.set(xticks=[], yticks=[], facecolor="none")
        ax.set_title(title, fontsize=11)
        ax.spines[:].set_visible(False)
    return axes[0]


def eq10() -> Axes:
    ax = canvas(15, 6.4)
    box(ax, 2.4, 5, "vision asks", BLUE, width=4)
    box(ax, 2.4, 1.4, "language answers", RED, width=4.4)
    weights = np.random.default_rng(3).dirichlet(np.full(6, 0.5), size=4)
    ax.imshow(weights, cmap="cividis", extent=(7, 11.5, 1.6, 4.8), aspect="auto")
    ax.set(xlim=(0, 15), ylim=(0, 6.4))
    arrow(ax, (4.5, 5), (6.8, 3.9), "$Q_V$", BLUE)
    arrow(ax, (4.7, 1.6), (6.8, 2.4), "$K_L$", RED)
    arrow(ax, (4.7, 1.1), (12.2, 1.1), "$V_L$", RED, dy=-0.55)
    box(ax, 13.3, 3, r"$Z_{L \to V}$", BLUE, width=2.6)
    arrow(ax, (11.7, 3.2), (11.95, 3.2), colour=GREY)
    arrow(ax, (12.4, 1.2), (13.0, 2.2), colour=RED)
    ax.text(9.25, 5.3, "each row sums to 1", ha="center")
    return ax


def eq11() -> Axes:
    ax = canvas(22, 8)
    for y, name in ((6.4, "L"), (4.0, "V"), (1.6, "A")):
        box(ax, 1.5, y, "conv", COLOURS[name], width=2.2)
        box(ax, 5.2, y + 0.55, "shared", COLOURS[name], width=2.6, height=0.95)
        box(ax, 5.2, y - 0.55, "private", COLOURS[name], width=2.6, height=0.95)
        arrow(ax, (2.7, y), (3.8, y), colour=COLOURS[name])
    for x, y, title in ((9.4, 5.6, "HomoGD"), (14.6, 2.4, "HeteroGD")):
        for dx, dy, name in ((0, 1.0, "L"), (-1.0, -0.6, "V"), (1.0, -0.6, "A")):
            node(ax, x + dx, y + dy, name, 0.45)
        for start, end in (((-0.2, 0.5), (-0.75, -0.15)), ((0.2, 0.5), (0.75, -0.15)), ((0.5, -0.6), (-0.5, -0.6))):
            arrow(ax, (x + start[0], y + start[1]), (x + end[0], y + end[1]), width=1.0)
        ax.text(x, y + 1.85, title, ha="center")
    box(ax, 10.0, 2.2, "cross-modal\nattention", width=3.8, height=1.8)
    arrow(ax, (6.6, 5.6), (7.8, 5.6))
    arrow(ax, (6.6, 2.2), (8.0, 2.2))
    arrow(ax, (12.0, 2.2), (13.0, 2.2))
    box(ax, 18.4, 4.0, "gates", width=2.2)
    arrow(ax, (11.0, 5.6), (17.2, 4.4))
    arrow(ax, (16.1, 2.5), (17.2, 3.5))
    arrow(ax, (19.6, 4.0), (20.5, 4.0))
    ax.text(21.2, 4.0, r"$\hat{y}$", ha="center", va="center", fontsize=15)
    return ax


PICTURES: tuple[Callable[[], Axes], ...] = (eq01, eq02, eq03, eq04, eq05, eq06, eq07, eq08, eq09, eq10, eq11)


def draw(folder: Path) -> list[Path]:
    """Every picture into a folder; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.__name__}.svg" for picture in PICTURES]
    with matplotlib.rc_context(STYLE):
        for picture, path in zip(PICTURES, paths):
            picture().figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "concepts")
    for path in draw(parser.parse_args().out):
        print(path, path.stat().st_size)
