"""Errors of :mod:`gdkit.functional`."""

import torch

import gdkit.functional as GF
from gdkit import DistillationGraph

COMPLETE = DistillationGraph.complete("abc").edge_index
LABELS = torch.tensor([0, 1, 1, 2])
X, EDGES = torch.zeros(2, 3, 4), torch.zeros(2, 6)

CASES = [
    (
        lambda: GF.edge_scores(EDGES[:, :3], EDGES, COMPLETE),
        "edge_scores: target_terms must have shape (2, 3), got (2, 6)",
    ),
    (lambda: GF.edge_scores(X, X, COMPLETE), "edge_scores: source_terms must have shape (batch, node), got (2, 3, 4)"),
    (
        lambda: GF.edge_weights(EDGES[:, :5], COMPLETE, 3),
        "edge_weights: edge_index must have shape (2, 5), got (2, 6)",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, "node"),
        "edge_weights: normalize must be one of 'graph', 'target', got 'node'",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, temperature=0.0),
        "edge_weights: temperature must be above 0, got 0.0",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, edge_mask=EDGES),
        "edge_weights: edge_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, edge_mask=[True]),
        "edge_weights: edge_mask must be a torch.Tensor, got list",
    ),
    (
        lambda: GF.edge_distances(X, torch.ones(2, 6, dtype=torch.bool)),
        "edge_distances: edge_index must be int64 or int32, got torch.bool",
    ),
    (lambda: GF.edge_distances(EDGES, COMPLETE), "edge_distances: x must have shape (batch, node, dim), got (2, 6)"),
    (
        lambda: GF.edge_distances(X, COMPLETE, "l3"),
        "edge_distances: distance must be one of 'l1', 'l2', 'cosine', 'kl' or a function (teacher, student), got 'l3'",
    ),
    (
        lambda: GF.edge_distances(X[..., :1], COMPLETE, "kl"),
        "edge_distances: distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: GF.edge_distances(X[..., :1], COMPLETE, "cosine"),
        "edge_distances: distance 'cosine' is only a sign on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: GF.edge_distances(X, COMPLETE, lambda teacher, student: teacher - student),
        "edge_distances: distance(teacher, student) must have shape (2, 6), got (2, 6, 4)",
    ),
    (
        lambda: GF.graph_distillation_loss(EDGES, EDGES[:, :5]),
        "graph_distillation_loss: distances must have shape (2, 6), got (2, 5)",
    ),
    (
        lambda: GF.graph_distillation_loss(EDGES, EDGES, "sum"),
        "graph_distillation_loss: reduction must be one of 'mean', 'none', got 'sum'",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS),
        "triplet_margin_loss: labels must have shape (2,), got (4,)",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS[:2], margin=-0.1),
        "triplet_margin_loss: margin must be at least 0, got -0.1",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS[:2], node_mask=torch.ones(2, 3)),
        "triplet_margin_loss: node_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: GF.soft_orthogonality(X, X[:, :2]),
        "soft_orthogonality: private must have shape (2, 3, 4), got (2, 2, 4)",
    ),
    (
        lambda: GF.soft_orthogonality(X, X, "cosine"),
        "soft_orthogonality: kind must be one of 'hinge', 'absolute', 'squared', 'signed', got 'cosine'",
    ),
    (
        lambda: GF.reconstruction_loss(X, X, mask=torch.ones(2, 3, 1, dtype=torch.bool)),
        "reconstruction_loss: mask must have shape (2, 3), got (2, 3, 1)",
    ),
    (lambda: GF.reconstruction_loss([0.0], X), "reconstruction_loss: x must be a torch.Tensor, got list"),
    (
        lambda: GF.edge_weights(EDGES.long(), COMPLETE, 3),
        "edge_weights: scores must be floating point, got torch.int64",
    ),
    (lambda: GF.edge_distances(X.long(), COMPLETE), "edge_distances: x must be floating point, got torch.int64"),
    (
        lambda: GF.graph_distillation_loss(EDGES, EDGES.bool()),
        "graph_distillation_loss: distances must be floating point, got torch.bool",
    ),
    (
        lambda: GF.triplet_margin_loss(X.int(), LABELS[:2]),
        "triplet_margin_loss: features must be floating point, got torch.int32",
    ),
    (lambda: GF.agreement(X.cfloat()), "agreement: logits must be floating point, got torch.complex64"),
]
