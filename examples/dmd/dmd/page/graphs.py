"""Who teaches whom: learned graphs as nodes and links, as matrices, and over the epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gdkit import DistillationGraph

from ..edge_tables import EdgeTables, UnitTable, shown_epoch
from .figure import DASHES, Figure, cells, color, lines, number, numbers, plain, shortened

THINNEST, WIDEST = 0.6, 15.0  # pixels of an edge without weight, and of the heaviest
BEND = 0.16  # of an edge, in units of its length: the two edges of a pair pass each other
GAP = 0.17  # between the middle of a node and an edge's end, where there is room; nodes lie on a circle of radius 1
MOST_NUMBERED = 12  # edges; of more, the numbers would lie on one another
MOST_DRAWN = 60  # edges, all of eight nodes; more take seconds an epoch, and none can be told from the others


def heaviest(tables: EdgeTables) -> float:
    """The largest weight of all units and epochs, which every picture is scaled by; 1 where there is none."""
    known = [weights[np.isfinite(weights)] for _, _, weights in tables.values()]
    return max([float(weights.max()) for weights in known if len(weights)] or [0.0]) or 1.0


def drawn_edges(table: UnitTable, at: int) -> tuple[UnitTable, str]:
    """The table of the edges that are drawn, those that are heaviest in one epoch, and a note where that is not all."""
    graph, epochs, weights = table
    if graph.num_edges <= MOST_DRAWN:
        return table, ""
    chosen = np.sort(np.argsort(-np.nan_to_num(weights[at]), kind="stable")[:MOST_DRAWN])
    edges = graph.edges
    fewer = DistillationGraph.from_edges(graph.names, [edges[i] for i in chosen])
    note = f"The {MOST_DRAWN} edges of {graph.num_edges} that are heaviest{_in_epoch(epochs, at)}."
    return (fewer, epochs, weights[:, chosen]), note


def _in_epoch(epochs: np.ndarray, at: int) -> str:
    """Epoch 0, which no run has, stands for a mean over several, of which nothing is said."""
    return f" in epoch {epochs[at]}" if epochs[at] else ""


def node_links(unit: str, table: UnitTable, top: float, at: int) -> Figure:
    """Nodes on a circle, and an arrow from each teacher to its students, as wide as its weight; one frame an epoch."""
    (graph, epochs, weights), note = drawn_edges(table, at)
    places, gap = _circle(graph.num_nodes), _gap(graph.num_nodes)
    arcs = [_arc(*places[[graph.names.index(name) for name in edge]], gap) for edge in graph.edges]
    middles = np.array([arc[len(arc) // 2] for arc in arcs])
    widths = np.where(np.isfinite(weights), THINNEST + (WIDEST - THINNEST) * np.nan_to_num(weights) / top, 0.0)
    widths = np.clip(widths, 0.0, WIDEST)
    colors = [color(graph.names.index(source)) for source, _ in graph.edges]
    texts = [[number(weight) for weight in row] for row in weights]
    numbered = graph.num_edges <= MOST_NUMBERED
    edges = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": numbers(arc[:, 0], 4),
            "y": numbers(arc[:, 1], 4),
            "line": {"color": paint, "width": width, "shape": "spline"},
            "opacity": 0.8,
            "hoverinfo": "skip",
        }
        for arc, paint, width in zip(arcs, colors, widths[at].tolist(), strict=True)
    ]
    heads = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers([arc[-1][0] for arc in arcs], 4),
        "y": numbers([arc[-1][1] for arc in arcs], 4),
        "marker": {
            "symbol": "triangle-up",
            "angle": [_heading(arc) for arc in arcs],
            "size": _heads(widths[at]),
            "color": colors,
            "line": {"width": 0},
        },
        "hoverinfo": "skip",
    }
    hover = {
        "type": "scatter",
        "mode": "markers+text" if numbered else "markers",
        "x": numbers(middles[:, 0], 4),
        "y": numbers(middles[:, 1], 4),
        "text": texts[at],
        "customdata": [f"{plain(source)} teaches {plain(target)}" for source, target in graph.edges],
        "marker": {"size": 30 if numbered else 16, "color": "@surface", "opacity": 0.78 if numbered else 0},
        "textfont": {"size": 12, "color": "@ink"},
        "hovertemplate": "%{customdata}<br>weight %{text}<extra></extra>",
    }
    nodes = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(places[:, 0], 4),
        "y": numbers(places[:, 1], 4),
        "marker": {"size": 24 * gap / GAP, "color": [color(i) for i in range(graph.num_nodes)], "line": {"width": 0}},
        "hoverinfo": "skip",
    }
    beside = 1.36 * places if graph.num_nodes > 2 else places - [[0.0, 0.5]]
    names = {
        "type": "scatter",
        "mode": "text",
        "x": numbers(beside[:, 0], 4),
        "y": numbers(beside[:, 1], 4),
        "text": [f"<b>{plain(name)}</b>" for name in shortened(graph.names, 24)],
        "textfont": {"size": 14, "color": "@ink"},
        "hoverinfo": "skip",
    }
    flat = graph.num_nodes == 2
    hidden = {"visible": False, "fixedrange": True}
    layout = {
        "xaxis": {"range": [-1.75, 1.75], **hidden},
        "yaxis": {
            "range": [-0.75, 0.65] if flat else [-1.2, 1.5] if graph.num_nodes == 3 else [-1.5, 1.5],
            "scaleanchor": "x",
            **hidden,
        },
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
    }
    frames = {
        "epochs": epochs.tolist(),
        "widths": np.round(widths, 2).tolist(),
        "heads": [_heads(row) for row in widths],
        "texts": texts,
    }
    known = sorted(zip(np.nan_to_num(weights[at]), graph.edges, strict=True), reverse=True)
    said = "; ".join(f"{source} teaches {target} with {number(weight)}" for weight, (source, target) in known[:12])
    label = f"Graph of the {unit} GD-Unit{_in_epoch(epochs, at)}, the heaviest edges first: {said}."
    data, height = [*edges, heads, hover, nodes, names], 240 if flat else 400
    return Figure(f"{unit} GD-Unit", label, data, layout, height, note, frames)


def heat_map(unit: str, table: UnitTable, top: float, at: int) -> Figure:
    """The same as a matrix: a row a teacher, a column a student; one frame an epoch."""
    graph, epochs, weights = table
    matrices = np.full((len(epochs), graph.num_nodes, graph.num_nodes), np.nan)
    source, target = graph.edge_index.numpy()
    matrices[:, source, target] = weights
    names = [plain(name) for name in graph.names]
    drawn = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": cells(matrices[at]),
        "zmin": 0,
        "zmax": top,
        "colorscale": "@heat",
        "xgap": 2,
        "ygap": 2,
        "texttemplate": "%{z:.3f}" if graph.num_nodes <= 6 else "",
        "hovertemplate": "%{y} teaches %{x}<br>weight %{z:.3f}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9},
    }
    plane = {"showgrid": False, "zeroline": False, "automargin": True}
    layout = {
        "xaxis": {"title": {"text": "student"}, **plane},
        "yaxis": {"title": {"text": "teacher"}, "autorange": "reversed", **plane},
    }
    frames = {"epochs": epochs.tolist(), "z": [cells(matrix) for matrix in matrices]}
    label = f"Edge weights of the {unit} GD-Unit as a matrix of teachers and students; the picture beside it says them."
    height = min(150 + 50 * max(3, graph.num_nodes), 900)
    return Figure(f"{unit}, as a matrix", label, [drawn], layout, height, frames=frames)


def over_epochs(unit: str, table: UnitTable, best_epoch: int | None) -> Figure:
    """Every edge's weight over the epochs: the colour is the teacher's, the dashes are the student's."""
    (graph, epochs, weights), note = drawn_edges(table, shown_epoch(table[1], best_epoch))
    found = {f"{source} → {target}": weights[:, i].tolist() for i, (source, target) in enumerate(graph.edges)}
    first, last = (dict(zip(graph.edges, row, strict=True)) for row in weights[[0, -1]])
    edge = max(graph.edges, key=lambda edge: np.nan_to_num(abs(last[edge] - first[edge])))
    label = f"Edge weights of the {unit} GD-Unit over {len(epochs)} epochs. {edge[0]} to {edge[1]} changes most, "
    label += f"from {number(first[edge])} to {number(last[edge])}."
    figure = lines(f"{unit} GD-Unit, over the epochs", label, epochs.tolist(), found, marked=best_epoch)
    for trace, (source, target) in zip(figure.data, graph.edges, strict=True):
        trace["line"]["color"] = trace["marker"]["color"] = color(graph.names.index(source))
        trace["line"]["dash"] = DASHES[graph.names.index(target) % len(DASHES)]
    figure.layout["yaxis"] = {"title": {"text": "weight"}, "rangemode": "tozero"}
    figure.layout["hovermode"] = "closest" if graph.num_edges > 12 else "x unified"
    figure.note = note
    figure.height = 320 + 12 * max(0, graph.num_edges - 6)
    return figure


def _circle(count: int) -> np.ndarray:
    """Places (count, 2): two side by side, more on a circle that begins at the top."""
    if count == 2:
        return np.array([[-1.0, 0.0], [1.0, 0.0]])
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _gap(count: int) -> float:
    """Of so many nodes on the circle: neighbours among many are near, and an edge between them must be left."""
    return min(GAP, 0.5 * float(np.sin(np.pi / count)))  # a quarter of the way between them


def _arc(source: np.ndarray, target: np.ndarray, gap: float) -> np.ndarray:
    """Points (point, 2) of a bent line from node to node, which leaves a gap at both."""
    along = target - source
    length = np.hypot(*along)
    control = (source + target) / 2 + 2 * BEND * np.array([along[1], -along[0]])
    t = np.linspace(0, 1, 201)[:, None]
    curve = (1 - t) ** 2 * source + 2 * t * (1 - t) * control + t**2 * target
    far = (np.hypot(*(curve - source).T) > gap) & (np.hypot(*(curve - target).T) > gap + 0.05 * min(1, length))
    kept = curve[far]
    return kept[np.linspace(0, len(kept) - 1, 25).round().astype(int)]


def _heading(arc: np.ndarray) -> float:
    """Degrees, clockwise from the top, that an arrow head at the end must be turned."""
    dx, dy = arc[-1] - arc[-3]
    return round(float(np.degrees(np.arctan2(dx, dy))), 1)


def _heads(widths: Sequence[float] | np.ndarray) -> list[float]:
    """Pixels of each arrow head."""
    return [round(9 + 1.1 * float(width), 2) if width > 0 else 0 for width in widths]
