"""Error texts of functional and GDUnit: the argument, what was wanted, what was given. Other files test their own."""

import pytest
import torch
from torch import nn

import gdkit.functional as GF
from gdkit import DistillationGraph, GDUnit

NAMES = ("language", "vision", "acoustic")
GRAPH = DistillationGraph.complete(NAMES)
COMPLETE = GRAPH.edge_index
LABELS = torch.tensor([0, 1, 1, 2])
X, EDGES = torch.zeros(2, 3, 4), torch.zeros(2, 6)
FEATURES, LOGITS = torch.zeros(4, 3, 4), torch.zeros(4, 3, 2)


def make(**options):
    return GDUnit(GRAPH, **{"feature_dim": 4, "logit_dim": 2, "hidden_dim": 3, **options})


def by_name(stacked):
    return dict(zip(NAMES, stacked.unbind(dim=1)))


FUNCTIONAL = [
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
        "edge_distances: distance must be one of 'l1', 'l2', 'cosine', 'kl', got 'l3'",
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
]

GD_UNIT = [
    (
        lambda: make(feature_dim=50)(LOGITS, {name: torch.zeros(4, 48 if name == "vision" else 50) for name in NAMES}),
        "GDUnit: features['vision'] must have shape (batch, 50), got (4, 48); dim is 50 for every node",
    ),
    (
        lambda: make()({"language": LOGITS[:, 0], "acoustic": LOGITS[:, 2]}, FEATURES),
        "GDUnit has nodes (language, vision, acoustic); logits lacks 'vision'",
    ),
    (
        lambda: make()(LOGITS, {**by_name(FEATURES), "touch": FEATURES[:, 0]}),
        "GDUnit has nodes (language, vision, acoustic); features has 'touch' as well",
    ),
    (lambda: make()(LOGITS[:, :2], FEATURES), "GDUnit: logits must have shape (batch, 3, 2), got (4, 2, 2)"),
    (lambda: make()(LOGITS[:0], FEATURES[:0]), "GDUnit: logits must hold at least 1 sample, got shape (0, 3, 2)"),
    (lambda: make()(LOGITS.long(), FEATURES), "GDUnit: logits must be floating point, got torch.int64"),
    (lambda: make()(LOGITS, FEATURES[:3]), "GDUnit: features must have shape (4, 3, 4), got (3, 3, 4)"),
    (
        lambda: make()(LOGITS.tolist(), FEATURES),
        "GDUnit: logits must be a mapping from node name to tensor, or a tensor of all nodes, got list",
    ),
    (lambda: make()(LOGITS, FEATURES.long()), "GDUnit: features must be floating point, got torch.int64"),
    (
        lambda: make()(LOGITS, FEATURES, torch.ones(4, 3)),
        "GDUnit: node_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: make()(LOGITS, FEATURES, torch.ones(3, 4, dtype=torch.bool)),
        "GDUnit: node_mask must have shape (4, 3), got (3, 4)",
    ),
    (
        lambda: make()(LOGITS, FEATURES, None, torch.ones(4)),
        "GDUnit: teacher_quality must have shape (3,), got (4,); (node,) or (batch, node)",
    ),
    (
        lambda: make()(LOGITS, FEATURES, teacher_quality={**dict.fromkeys(NAMES, 1.0), "vision": torch.ones(3)}),
        "GDUnit: teacher_quality['vision'] must have shape (4,), got (3,); () or (batch,)",
    ),
    (
        lambda: make()(LOGITS, FEATURES, None, torch.ones(3, dtype=torch.bool)),
        "GDUnit: teacher_quality must be a tensor of real numbers or a number, got torch.bool",
    ),
    *(
        (
            lambda value=value: make()(
                LOGITS, FEATURES, teacher_quality={**dict.fromkeys(NAMES, 1.0), "vision": value}
            ),
            f"GDUnit: teacher_quality['vision'] must be a tensor of real numbers or a number, got {came}",
        )
        for value, came in (
            (None, "None"),
            (True, "True"),
            ([1.0], "[1.0]"),
            (torch.ones(4, dtype=torch.bool), "torch.bool"),
            (torch.ones(4, dtype=torch.complex64), "torch.complex64"),
        )
    ),
    (
        lambda: make(logit_dim=1, distance="kl"),
        "GDUnit: distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: make(logit_dim=1, distance="cosine"),
        "GDUnit: distance 'cosine' is only a sign on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: make(feature_dim=1, feature_distance="kl"),
        "GDUnit: feature_distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (lambda: make(distance="l3"), "GDUnit: distance must be one of 'l1', 'l2', 'cosine', 'kl', got 'l3'"),
    (lambda: make(scorer="gat"), "GDUnit: scorer must be one of 'linear', 'mlp', 'free', 'agreement', got 'gat'"),
    (lambda: make(normalize="source"), "GDUnit: normalize must be one of 'graph', 'target', got 'source'"),
    (lambda: make(temperature=0.0), "GDUnit: temperature must be above 0, got 0.0"),
    (lambda: make(distance_temperature=-1.0), "GDUnit: distance_temperature must be above 0, got -1.0"),
    (lambda: make(feature_weight=-1.0), "GDUnit: feature_weight must be at least 0, got -1.0"),
    (lambda: make(hidden_dim=2.5), "GDUnit: hidden_dim must be an integer, got 2.5"),
    (lambda: make(logit_dim=0), "GDUnit: logit_dim must be above 0, got 0"),
    (
        lambda: make(feature_dim={"language": 3}),
        "GDUnit has nodes (language, vision, acoustic); feature_dim lacks 'vision', 'acoustic'",
    ),
    (
        lambda: make(feature_dim=dict(zip(NAMES, (3, 4, 5))), feature_distance="l1"),
        "GDUnit: feature_distance needs equal widths, got feature_dim {'language': 3, 'vision': 4, 'acoustic': 5}",
    ),
    (
        lambda: make(prior=[0.5, 0.5]),
        "GDUnit: prior must have shape (6,), got (2,); one number an edge",
    ),
    (
        lambda: make(scorer=nn.Bilinear(6, 6, 1))(LOGITS, FEATURES),
        "GDUnit: scorer(teacher, student) must have shape (4, 6), got (4, 6, 1)",
    ),
    (lambda: GDUnit(["a", "b"], 4, 2), "GDUnit: graph must be a DistillationGraph, got list"),
]


@pytest.mark.parametrize(
    ("call", "message"), FUNCTIONAL + GD_UNIT, ids=[message[:70] for _, message in FUNCTIONAL + GD_UNIT]
)
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
