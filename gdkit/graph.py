"""The directed graph along which nodes teach each other: names, edges, and the way to and from other libraries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gdkit import _interchange
from gdkit._check import check_shape, check_tensor
from gdkit._describe import graph_text

if TYPE_CHECKING:
    from networkx import DiGraph
    from torch_geometric.data import Data


@dataclass(frozen=True)
class DistillationGraph:
    """Named nodes and directed edges (source, target): the source teaches the target.

    Edges are kept sorted by (source index, target index), so that position ``e`` means the same edge in every weight,
    distance, table and plot. A graph is a plain value: it compares and hashes by its names and edges.

    Args:
        names: node names, at least two, all different.
        edges: pairs of names; at least one, no self-edges, no pair twice.

    Raises:
        TypeError: if a name is not a string.
        ValueError: on fewer than two nodes, repeated names or edges, unknown names, self-edges, or no edge.

    Example:
        >>> graph = DistillationGraph.complete(["language", "vision", "acoustic"])
        >>> graph.num_nodes, graph.num_edges
        (3, 6)
        >>> graph.edges[0]
        ('language', 'vision')
        >>> DistillationGraph.star("language", ["vision", "acoustic"]).edges
        (('language', 'vision'), ('language', 'acoustic'))
    """

    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        names = tuple(self.names)
        for name in names:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"DistillationGraph: names must be strings, got {name!r}")
        if len(names) < 2:
            raise ValueError(f"DistillationGraph: names must hold at least 2 nodes, got {len(names)}")
        if len(set(names)) != len(names):
            raise ValueError(f"DistillationGraph: names must all differ, got {', '.join(map(repr, names))}")
        position = {name: index for index, name in enumerate(names)}
        edges: list[tuple[str, str]] = []
        places: list[int] = []  # by (source index, target index), as one number: a million sort in a second
        for edge in self.edges:
            try:
                source, target = edge
                places.append(position.get(source, 0) * len(names) + position.get(target, 0))
            except (TypeError, ValueError):
                raise ValueError(f"DistillationGraph: edges must be pairs (source, target), got {edge!r}") from None
            for name in (source, target):
                if name not in position:
                    raise ValueError(f"DistillationGraph has nodes ({', '.join(names)}); edges name {name!r} as well")
            if source == target:
                raise ValueError(f"DistillationGraph: a node cannot teach itself, got edge ({source!r}, {target!r})")
            edges.append((source, target))
        if not edges:
            raise ValueError("DistillationGraph: edges must hold at least 1 edge, got none")
        if len(set(places)) != len(places):
            counts = Counter(edges)
            twice = next(edge for edge in edges if counts[edge] > 1)
            raise ValueError(f"DistillationGraph: edges must all differ, got {twice!r} more than once")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "edges", tuple(edge for _, edge in sorted(zip(places, edges))))

    def __repr__(self) -> str:
        return graph_text(self)

    @classmethod
    def complete(cls, names: Iterable[str]) -> DistillationGraph:
        """Every node teaches every other: ``n * (n - 1)`` edges."""
        names = tuple(names)
        return cls(names, tuple((source, target) for source in names for target in names if source != target))

    @classmethod
    def star(cls, center: str, names: Iterable[str]) -> DistillationGraph:
        """``center`` teaches every other name; it is put first where ``names`` lacks it."""
        names = tuple(names)
        names = names if center in names else (center, *names)
        return cls(names, tuple((center, target) for target in names if target != center))

    @classmethod
    def from_edges(cls, names: Iterable[str], edges: Iterable[tuple[str, str]]) -> DistillationGraph:
        """The edges named, and no others."""
        return cls(tuple(names), tuple(edges))

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.names)

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return len(self.edges)

    @property
    def edge_index(self) -> Tensor:
        """Source and target position of every edge, as torch_geometric has it: ``(2, edge)``, int64, on the CPU."""
        position = {name: index for index, name in enumerate(self.names)}
        # Through numpy, as torch.tensor takes ten times as long over a million pairs.
        ends = (position[name] for edge in self.edges for name in edge)
        pairs = np.fromiter(ends, dtype=np.int64, count=2 * self.num_edges).reshape(-1, 2)
        return torch.from_numpy(pairs).T.contiguous()  # (2, edge)  # pyright: ignore[reportUnknownMemberType]

    def matrix(self, weights: Tensor) -> Tensor:
        """Lay edge values out as a matrix.

        Args:
            weights: ``(..., edge)``, one value an edge.

        Returns:
            ``(..., node, node)``; ``[i, j]`` is the value of "i teaches j", 0 where there is no edge.

        Raises:
            TypeError: if ``weights`` is not a tensor.
            ValueError: if the last axis is not ``edge`` long.

        Example:
            >>> DistillationGraph.complete("ab").matrix(torch.tensor([0.25, 0.75]))
            tensor([[0.0000, 0.2500],
                    [0.7500, 0.0000]])
        """
        leading = ["..."] * (check_tensor("DistillationGraph.matrix", "weights", weights).dim() - 1)
        check_shape("DistillationGraph.matrix", "weights", weights, [*leading, self.num_edges])
        source, target = self.edge_index.to(weights.device)
        matrix = weights.new_zeros(*weights.shape[:-1], self.num_nodes, self.num_nodes)
        matrix[..., source, target] = weights
        return matrix  # (..., node, node)

    def subgraph(self, names: Iterable[str]) -> DistillationGraph:
        """The induced graph over some of the nodes, in this graph's own order.

        Raises:
            TypeError: if ``names`` is a single name.
            ValueError: if a name is unknown, or fewer than two nodes or no edge are left.

        Example:
            >>> DistillationGraph.complete("abc").subgraph(["c", "a"]).edges
            (('a', 'c'), ('c', 'a'))
        """
        if isinstance(names, str) and names in self.names:
            raise TypeError(f"DistillationGraph.subgraph: names must be several names, got the text {names!r}")
        kept = set(names)
        if unknown := sorted(kept - set(self.names)):
            foreign = ", ".join(map(repr, unknown))
            raise ValueError(f"DistillationGraph has nodes ({', '.join(self.names)}); names has {foreign} as well")
        return DistillationGraph(
            tuple(name for name in self.names if name in kept),
            tuple(edge for edge in self.edges if kept.issuperset(edge)),
        )

    def to_data(self, weights: Tensor | None = None, features: Tensor | None = None) -> Data:
        """This graph as a :class:`torch_geometric.data.Data`.

        Args:
            weights: ``(edge,)``, kept as ``edge_weight``.
            features: ``(node, dim)``, kept as ``x``.

        Returns:
            ``Data`` with ``edge_index``, ``num_nodes``, ``node_names`` (an array of strings), and ``edge_weight`` and
            ``x`` where given.

        Raises:
            TypeError: if one of them is not a tensor.
            ValueError: if a shape does not fit the graph.

        Example:
            >>> data = DistillationGraph.complete("ab").to_data(torch.tensor([0.25, 0.75]))
            >>> data.edge_weight, DistillationGraph.from_data(data).names
            (tensor([0.2500, 0.7500]), ('a', 'b'))
        """
        return _interchange.to_data(self, weights, features)

    @classmethod
    def from_data(cls, data: Data) -> DistillationGraph:
        """The graph of a :class:`torch_geometric.data.Data`.

        Edge values of ``data`` are in this graph's edge order if ``data`` came from :meth:`to_data`, or after
        ``data = data.sort()``.

        Args:
            data: needs ``edge_index``; ``node_names`` are used where present, else nodes are called "0", "1", ...

        Raises:
            TypeError: if ``data`` is another type.
            ValueError: if ``data`` has no ``edge_index``, the names do not fit ``num_nodes``, or an edge leaves it.
        """
        return cls(*_interchange.from_data(data))

    def to_networkx(self, weights: Tensor | None = None) -> DiGraph[str]:
        """This graph as a :class:`networkx.DiGraph` whose nodes are the names, in this graph's order.

        Args:
            weights: ``(edge,)``, such as ``out.weights.mean(0)`` of a GD-Unit, kept as the edges' ``weight``, which
                networkx's own functions read.

        Raises:
            TypeError: if ``weights`` is not a tensor.
            ValueError: if ``weights`` is not one value an edge.

        Example:
            >>> graph = DistillationGraph.complete("ab").to_networkx(torch.tensor([0.25, 0.75]))
            >>> list(graph.edges(data="weight"))
            [('a', 'b', 0.25), ('b', 'a', 0.75)]
        """
        return _interchange.to_networkx(self, weights)

    @classmethod
    def from_networkx(cls, graph: DiGraph[Any]) -> DistillationGraph:
        """The graph of a :class:`networkx.DiGraph`; its nodes become names by ``str``.

        Raises:
            TypeError: if ``graph`` is another type, such as one without directions.
            ValueError: as for any graph: too few nodes, no edge, an edge twice or from a node to itself.

        Example:
            >>> from networkx import DiGraph
            >>> DistillationGraph.from_networkx(DiGraph([(1, 2), (2, 3)])).edges
            (('1', '2'), ('2', '3'))
        """
        return cls(*_interchange.from_networkx(graph))
