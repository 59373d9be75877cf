"""Graphs as those of torch_geometric and networkx, and back; public as methods of :class:`gdkit.DistillationGraph`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from gdkit._check import check_shape

if TYPE_CHECKING:
    from networkx import DiGraph
    from torch_geometric.data import Data

    from gdkit.graph import DistillationGraph

NamesAndEdges = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


def check_edge_values(owner: str, weights: Tensor, num_edges: int) -> Tensor:
    """Return ``weights`` if they are one value an edge; those of a batch are one step away from it.

    Raises:
        TypeError, ValueError: as :func:`gdkit._check.check_shape`.
    """
    is_batch = isinstance(weights, Tensor) and weights.dim() == 2 and weights.shape[1] == num_edges  # pyright: ignore[reportUnnecessaryIsInstance]
    note = "average over the batch, or take one sample, first" if is_batch else ""
    return check_shape(owner, "weights", weights, [num_edges], note)


def to_data(graph: DistillationGraph, weights: Tensor | None, features: Tensor | None) -> Data:
    """See :meth:`gdkit.DistillationGraph.to_data`."""
    from torch_geometric.data import Data

    owner = "DistillationGraph.to_data"
    parts: dict[str, Any] = {"edge_index": graph.edge_index, "num_nodes": graph.num_nodes}
    if weights is not None:
        parts["edge_weight"] = check_edge_values(owner, weights, graph.num_edges)
    if features is not None:
        parts["x"] = check_shape(owner, "features", features, [graph.num_nodes, "dim"])
    # An array, as torch_geometric takes a list for values of edges where there are as many edges as nodes.
    return Data(node_names=np.array(graph.names), **parts)


def from_data(data: Data) -> NamesAndEdges:
    """See :meth:`gdkit.DistillationGraph.from_data`."""
    from torch_geometric.data import Data

    owner = "DistillationGraph.from_data"
    if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{owner}: data must be a torch_geometric Data, got {type(data).__name__}")
    edge_index: Tensor | None = data.edge_index
    if edge_index is None:
        raise ValueError(f"{owner}: data must have edge_index, got None")
    check_shape(owner, "data.edge_index", edge_index, [2, "edge"])
    names = [str(name) for name in (data.node_names if "node_names" in data else range(data.num_nodes or 0))]
    if len(names) != data.num_nodes:
        raise ValueError(f"{owner}: data.node_names must hold {data.num_nodes} names, got {len(names)}")
    if ((edge_index < 0) | (edge_index >= len(names))).any():
        raise ValueError(
            f"{owner}: data.edge_index must lie in 0..{len(names) - 1}, "
            f"got {int(edge_index.min())}..{int(edge_index.max())}"
        )
    pairs = cast(list[tuple[int, int]], edge_index.T.tolist())  # pyright: ignore[reportUnknownMemberType]
    return tuple(names), tuple((names[source], names[target]) for source, target in pairs)


def to_networkx(graph: DistillationGraph, weights: Tensor | None) -> DiGraph[str]:
    """See :meth:`gdkit.DistillationGraph.to_networkx`."""
    from networkx import DiGraph

    result: DiGraph[str] = DiGraph()
    result.add_nodes_from(graph.names)
    if weights is None:
        result.add_edges_from(graph.edges)
        return result
    weights = check_edge_values("DistillationGraph.to_networkx", weights, graph.num_edges)
    values = cast(list[float], weights.tolist())  # pyright: ignore[reportUnknownMemberType]
    result.add_weighted_edges_from((*edge, value) for edge, value in zip(graph.edges, values, strict=True))
    return result


def from_networkx(graph: DiGraph[Any]) -> NamesAndEdges:
    """See :meth:`gdkit.DistillationGraph.from_networkx`."""
    from networkx import DiGraph

    if not isinstance(graph, DiGraph):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(graph).__name__
        hint = "; graph.to_directed() has both directions of every edge" if hasattr(graph, "to_directed") else ""
        raise TypeError(f"DistillationGraph.from_networkx: graph must be a networkx DiGraph, got {kind}{hint}")
    return tuple(map(str, graph)), tuple((str(source), str(target)) for source, target in graph.edges())
