"""Pictures of learned edges and of what nodes know; they need the ``plot`` extra (matplotlib, scikit-learn).

Each function draws on the Axes it is given, or on a Figure of its own that pyplot knows nothing of, and returns the
Axes: ``axes.figure.savefig("edges.png")`` works without a display. In a notebook, pass ``ax=plt.subplots()[1]`` to see
the picture under the cell.

``COLORS``, ``LINE_STYLES`` and ``MARKERS``, eight each, are for your own pictures beside these: colours stay apart for
colour-blind readers, and styles and markers say the same without any.
"""

# matplotlib types its keyword arguments as unknown, so under strict rules every call of it would be an error.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from gdkit import _plotting
from gdkit._check import check_positive
from gdkit._plotting import COLORS, LINE_STYLES, MARKERS
from gdkit.graph import DistillationGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLORS", "LINE_STYLES", "MARKERS", "edge_curves", "edge_heatmap", "embedding_map"]


def edge_heatmap(
    graph: DistillationGraph,
    weights: Tensor | ArrayLike,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    vmax: float | None = None,
) -> Axes:
    """Who teaches whom, as a matrix: a row a teacher, a column a student, every edge's value in its cell.

    Cells without an edge are hatched. Colours run from 0 (or the lowest value, if negative) to ``vmax``.

    Args:
        graph: the graph whose edges ``weights`` follows.
        weights: one value an edge, such as ``out.weights.mean(0)`` of a GD-Unit.
        ax: where to draw; a new Figure if left out.
        title: text above the picture.
        vmax: value of the brightest colour, to compare pictures; the largest weight if left out.

    Shape:
        - weights: ``(edge,)``

    Returns:
        The Axes.

    Raises:
        TypeError: if ``graph``, ``weights`` or ``ax`` is of another type.
        ValueError: if ``weights`` does not hold one value an edge.

    Example:
        >>> import torch
        >>> graph = DistillationGraph.complete(["language", "vision", "acoustic"])
        >>> axes = edge_heatmap(graph, torch.full((6,), 1 / 6), title="before training")
        >>> axes.get_ylabel(), axes.get_xlabel()
        ('teacher', 'student')
    """
    from matplotlib.patches import Rectangle

    _plotting.check_graph("edge_heatmap", graph)
    values = _plotting.numbers("edge_heatmap", "weights", weights, [graph.num_edges])
    count, (source, target) = graph.num_nodes, graph.edge_index.numpy()
    cells, is_edge = np.full((count, count), np.nan), np.zeros((count, count), dtype=bool)
    cells[source, target], is_edge[source, target] = values, True

    ax = _plotting.axes_or_new("edge_heatmap", ax, (1.0 * count + 2.0, 0.8 * count + 1.6))
    low = min(0.0, np.fmin.reduce(values))
    high = np.fmax.reduce(values) if vmax is None else vmax
    image = ax.imshow(cells, cmap=_plotting.SCALE, vmin=low, vmax=high if high > low else low + 1.0, aspect="auto")
    dark, size = _plotting.is_dark(image.to_rgba(cells)), 11 if count <= 4 else 9
    for row, column in np.ndindex(count, count):
        if is_edge[row, column]:
            color, text = "white" if dark[row, column] else "black", f"{cells[row, column]:.3f}"
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
        else:
            corner = (column - 0.5, row - 0.5)
            ax.add_patch(Rectangle(corner, 1, 1, facecolor="#f4f4f4", edgecolor="#c4c4c4", hatch="///", linewidth=0))
    slanted = count > 3 and max(map(len, graph.names)) > 6
    turn: dict[str, Any] = {"rotation": 35, "ha": "right"} if slanted else {"ha": "center"}
    ax.set_xticks(range(count), graph.names, rotation_mode="anchor", **turn)
    ax.set_yticks(range(count), graph.names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="student", ylabel="teacher", title=title or "")
    return ax


def edge_curves(
    graph: DistillationGraph,
    history: Tensor | ArrayLike | Sequence[Tensor],
    *,
    ax: Axes | None = None,
    title: str | None = None,
    epochs: ArrayLike | None = None,
    mean: bool = True,
) -> Axes:
    """Every edge's weight over the epochs, a labelled line an edge: colour by teacher, dashes by student.

    Args:
        graph: the graph whose edges ``history`` follows.
        history: the edge weights of one epoch after another.
        ax: where to draw; a new Figure if left out.
        title: text above the picture.
        epochs: where each row of ``history`` stands on the horizontal axis; 1, 2, ... if left out.
        mean: draw a thin line at the mean weight: ``1 / num_edges`` where all weights sum to 1.

    Shape:
        - history: ``(epoch, edge)``, or a list of ``(edge,)`` tensors
        - epochs: ``(epoch,)``

    Returns:
        The Axes.

    Raises:
        TypeError: if ``graph``, ``history``, ``epochs`` or ``ax`` is of another type.
        ValueError: if ``history`` does not hold one value an edge and epoch, or ``epochs`` has another length.

    Example:
        >>> import torch
        >>> graph = DistillationGraph.complete(["language", "vision"])
        >>> axes = edge_curves(graph, [torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.3])])
        >>> [line.get_label() for line in axes.lines]
        ['language -> vision', 'vision -> language', 'mean']

    References:
        Li, Wang, Cui: Decoupled Multimodal Distilling for Emotion Recognition, CVPR 2023, Fig. 5.
    """
    from matplotlib.ticker import MaxNLocator

    _plotting.check_graph("edge_curves", graph)
    values = _plotting.numbers("edge_curves", "history", history, ["epoch", graph.num_edges])
    count = len(values)
    at = _plotting.numbers("edge_curves", "epochs", range(1, count + 1) if epochs is None else epochs, [count])

    columns = 1 + graph.num_edges // 16  # of the legend
    ax = _plotting.axes_or_new("edge_curves", ax, (5.0 + 2.8 * columns, 3.8))
    for edge, (source, target) in enumerate(graph.edges):
        color = COLORS[graph.names.index(source) % len(COLORS)]
        style = LINE_STYLES[graph.names.index(target) % len(LINE_STYLES)]
        marker = "o" if count == 1 else None
        ax.plot(at, values[:, edge], color=color, linestyle=style, marker=marker, label=f"{source} -> {target}")
    finite = values[np.isfinite(values)]
    if mean and len(finite):
        ax.axhline(finite.mean(), color="#888888", linewidth=0.7, label="mean", zorder=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.25)
    ax.set(xlabel="epoch", ylabel="edge weight", title=title or "")
    # Beside the curves, never over them; dashes need long handles to be told apart.
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "ncols": columns}
    ax.legend(frameon=False, handlelength=3.4, fontsize="medium" if columns == 1 else "small", **place)
    return ax


def embedding_map(
    features: Mapping[str, Tensor | ArrayLike],
    labels: Tensor | ArrayLike,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    max_samples: int = 500,
    legend: bool = True,
) -> Axes:
    """All nodes' features in one plane by t-SNE: the colour is the label's, the marker the node's.

    The nodes are embedded together, so nodes that know the same lie on one another. Samples without a label (NaN, or
    -100 among integers) are grey; a row that is not finite, such as NaN for an absent node, is left out.

    Args:
        features: node name to features; all nodes of one width.
        labels: real numbers are drawn on a continuous scale, integers and strings as classes.
        ax: where to draw; a new Figure if left out.
        title: text above the picture.
        seed: of t-SNE, and of the choice of samples where there are more than ``max_samples``.
        classes: names of the integer labels 0, 1, ...; the numbers found if left out.
        max_samples: draw at most so many samples (each with all its nodes); t-SNE takes seconds for 1500 points.
        legend: explain markers (below the picture) and colours (bar at its right).

    Shape:
        - features: ``(batch, dim)`` each
        - labels: ``(batch,)``

    Returns:
        The Axes.

    Raises:
        TypeError: if ``features`` is not a mapping, or an argument holds no numbers.
        ValueError: if shapes differ, a label is out of range, or fewer than two finite rows remain.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> features = {name: torch.randn(20, 8, generator=generator) for name in ("language", "vision")}
        >>> axes = embedding_map(features, torch.arange(20) % 3, classes=["sad", "calm", "glad"])
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['language', 'vision']

    References:
        van der Maaten, Hinton: Visualizing Data using t-SNE, JMLR 9, 2008.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    rows = _plotting.node_features("embedding_map", features)
    count = len(next(iter(rows.values())))
    scale = _plotting.label_scale("embedding_map", labels, count, classes)
    check_positive("embedding_map", "max_samples", max_samples, integer=True)
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:max_samples])
    points = np.concatenate([row[chosen] for row in rows.values()])  # (node * sample, dim)
    finite = np.isfinite(points).all(1)
    if finite.sum() < 2:
        raise ValueError(f"embedding_map: features must hold at least 2 finite rows, got {finite.sum()}")
    places = _plotting.tsne(points[finite], seed)
    values = np.tile(scale.values[chosen], len(rows))[finite]
    node = np.repeat(np.arange(len(rows)), len(chosen))[finite]

    ax = _plotting.axes_or_new("embedding_map", ax, (6.4, 5.4))
    shade: dict[str, Any] = {"cmap": scale.colors, "norm": scale.norm}
    dots: dict[str, Any] = {"s": 26, "edgecolors": "white", "linewidths": 0.3, "plotnonfinite": True}
    handles: list[Line2D] = []
    for index, name in enumerate(rows):
        marker, here = MARKERS[index % len(MARKERS)], node == index
        ax.scatter(*places[here].T, c=values[here], marker=marker, **dots, **shade)
        handles.append(Line2D([], [], linestyle="", marker=marker, color="#444444", label=name))
    ax.set(xticks=[], yticks=[], title=title or "")
    if legend:
        bar = ax.figure.colorbar(ScalarMappable(**shade), ax=ax, fraction=0.05, pad=0.02)
        if scale.names:
            bar.set_ticks(range(len(scale.names)), labels=scale.names)
            bar.ax.invert_yaxis()  # first class on top, as one reads
            bar.ax.tick_params(length=0, labelsize=9 if len(scale.names) <= 12 else 7)
        else:
            bar.set_label("label")
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False)
    return ax
