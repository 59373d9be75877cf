"""Errors of :mod:`gdkit.plot`, which needs matplotlib and scikit-learn."""

import torch

from gdkit import DistillationGraph
from gdkit.plot import edge_curves, edge_heatmap, embedding_map

GRAPH = DistillationGraph.complete(["a", "b"])
FEATURES = {"a": torch.randn(4, 3), "b": torch.randn(4, 3)}
LABELS = torch.tensor([0, 1, 1, 0])

CASES = [
    (lambda: edge_heatmap("a", [1, 2]), "edge_heatmap: graph must be a DistillationGraph, got str"),
    (lambda: edge_heatmap(GRAPH, [0.1] * 3), "edge_heatmap: weights must have shape (2,), got (3,)"),
    (
        lambda: edge_heatmap(GRAPH, torch.rand(8, 2)),
        "edge_heatmap: weights must have shape (2,), got (8, 2); average over the batch first",
    ),
    (
        lambda: edge_heatmap(GRAPH, ["0.1", "0.2"]),
        "edge_heatmap: weights must be a tensor or array of real numbers, got list",
    ),
    (lambda: edge_heatmap(GRAPH, []), "edge_heatmap: weights must hold at least one number, got shape (0,)"),
    (lambda: edge_heatmap(GRAPH, [0.1, 0.2], ax=0), "edge_heatmap: ax must be a matplotlib Axes, got int"),
    (lambda: edge_curves(GRAPH, [[0.1, 0.2], [0.3]]), "edge_curves: history must hold rows of one length"),
    (
        lambda: edge_curves(GRAPH, torch.rand(5, 2), epochs=[1, 2]),
        "edge_curves: epochs must have shape (5,), got (2,)",
    ),
    (
        lambda: embedding_map(FEATURES["a"], LABELS),
        "embedding_map: features must be a mapping from node name to array, got Tensor",
    ),
    (lambda: embedding_map({}, LABELS), "embedding_map: features must hold at least 1 node, got none"),
    (
        lambda: embedding_map({**FEATURES, "b": torch.randn(4, 2)}, LABELS),
        "embedding_map: features must have one shape for all nodes, got (4, 3) for 'a' and (4, 2) for 'b'",
    ),
    (
        lambda: embedding_map(FEATURES, LABELS[:3]),
        "embedding_map: labels must have shape (4,) as features have, got (3,)",
    ),
    (
        lambda: embedding_map(FEATURES, LABELS.cfloat()),
        "embedding_map: labels must be numbers or names, got complex64",
    ),
    (
        lambda: embedding_map(FEATURES, LABELS, classes=["sad"]),
        "embedding_map: labels must lie in 0..0, one for each of classes, or be -100",
    ),
    (lambda: embedding_map(FEATURES, LABELS, max_samples=0), "embedding_map: max_samples must be above 0, got 0"),
    (
        lambda: embedding_map({"a": torch.full((4, 3), float("nan"))}, LABELS),
        "embedding_map: features must hold at least 2 finite rows, got 0",
    ),
]
