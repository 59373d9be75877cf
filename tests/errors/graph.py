"""Errors of DistillationGraph."""

import networkx
import numpy as np
import torch
from torch_geometric.data import Data

from gdkit import DistillationGraph

GRAPH = DistillationGraph.complete(["a", "b", "c"])
make = DistillationGraph.from_edges


def data(**changes):
    given = {"edge_index": GRAPH.edge_index, "num_nodes": 3, **changes}
    return Data(**{name: value for name, value in given.items() if value is not None})


CASES = [
    (lambda: make([1, 2], [(1, 2)]), "DistillationGraph: names must be strings, got 1"),
    (lambda: make(["a"], [("a", "a")]), "DistillationGraph: names must hold at least 2 nodes, got 1"),
    (lambda: make(["a", "b", "a"], [("a", "b")]), "DistillationGraph: names must all differ, got 'a', 'b', 'a'"),
    (
        lambda: make("ab", [("a", "b", "a")]),
        "DistillationGraph: edges must be pairs (source, target), got ('a', 'b', 'a')",
    ),
    (lambda: make("ab", [0]), "DistillationGraph: edges must be pairs (source, target), got 0"),
    (lambda: make("ab", [("a", "touch")]), "DistillationGraph has nodes (a, b); edges name 'touch' as well"),
    (lambda: make("ab", [("a", "a")]), "DistillationGraph: a node cannot teach itself, got edge ('a', 'a')"),
    (lambda: make("ab", []), "DistillationGraph: edges must hold at least 1 edge, got none"),
    (
        lambda: make("ab", [("a", "b"), ("b", "a"), ("a", "b")]),
        "DistillationGraph: edges must all differ, got ('a', 'b') more than once",
    ),
    (lambda: GRAPH.matrix([0.5] * 6), "DistillationGraph.matrix: weights must be a torch.Tensor, got list"),
    (
        lambda: GRAPH.matrix(torch.ones(2, 5)),
        "DistillationGraph.matrix: weights must have shape (..., 6), got (2, 5)",
    ),
    (
        lambda: GRAPH.subgraph(["a", "touch", "smell"]),
        "DistillationGraph has nodes (a, b, c); names has 'smell', 'touch' as well",
    ),
    (
        lambda: GRAPH.subgraph("a"),
        "DistillationGraph.subgraph: names must be several names, got the text 'a'",
    ),
    (lambda: GRAPH.to_data(torch.ones(5)), "DistillationGraph.to_data: weights must have shape (6,), got (5,)"),
    (
        lambda: GRAPH.to_data(torch.ones(4, 6)),
        "DistillationGraph.to_data: weights must have shape (6,), got (4, 6); average over the batch, or take one "
        "sample, first",
    ),
    (
        lambda: GRAPH.to_data(features=torch.ones(2, 4)),
        "DistillationGraph.to_data: features must have shape (3, dim), got (2, 4)",
    ),
    (
        lambda: GRAPH.to_networkx(torch.ones(4, 6)),
        "DistillationGraph.to_networkx: weights must have shape (6,), got (4, 6); average over the batch, or take one "
        "sample, first",
    ),
    (
        lambda: DistillationGraph.from_data({}),
        "DistillationGraph.from_data: data must be a torch_geometric Data, got dict",
    ),
    (
        lambda: DistillationGraph.from_data(data(edge_index=None)),
        "DistillationGraph.from_data: data must have edge_index, got None",
    ),
    (
        lambda: DistillationGraph.from_data(data(edge_index=torch.tensor([0, 1]))),
        "DistillationGraph.from_data: data.edge_index must have shape (2, edge), got (2,)",
    ),
    (
        lambda: DistillationGraph.from_data(data(node_names=np.array(["a", "b"]))),
        "DistillationGraph.from_data: data.node_names must hold 3 names, got 2",
    ),
    (
        lambda: DistillationGraph.from_data(data(edge_index=torch.tensor([[0, -1], [3, 1]]))),
        "DistillationGraph.from_data: data.edge_index must lie in 0..2, got -1..3",
    ),
    (
        lambda: DistillationGraph.from_networkx(networkx.path_graph(3)),
        "DistillationGraph.from_networkx: graph must be a networkx DiGraph, got Graph; graph.to_directed() has both "
        "directions of every edge",
    ),
    (
        lambda: DistillationGraph.from_networkx([("a", "b")]),
        "DistillationGraph.from_networkx: graph must be a networkx DiGraph, got list",
    ),
    (
        lambda: DistillationGraph.from_networkx(networkx.DiGraph([(0, 1), (1, 1)])),
        "DistillationGraph: a node cannot teach itself, got edge ('1', '1')",
    ),
]
