"""Errors of GDUnit."""

import torch
from torch import nn

from gdkit import DistillationGraph, GDUnit

NAMES = ("language", "vision", "acoustic")
GRAPH = DistillationGraph.complete(NAMES)
FEATURES, LOGITS = torch.zeros(4, 3, 4), torch.zeros(4, 3, 2)
MIXED = tuple(zip(NAMES, (torch.float32, torch.bfloat16, torch.float32)))


def make(**options):
    return GDUnit(GRAPH, **{"feature_dim": 4, "logit_dim": 2, "hidden_dim": 3, **options})


def unequal():
    return make(feature_dim=dict(zip(NAMES, (3, 4, 5))))


def by_name(stacked):
    return dict(zip(NAMES, stacked.unbind(dim=1)))


CASES = [
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
    (
        lambda: make(distance="l3"),
        "GDUnit: distance must be one of 'l1', 'l2', 'cosine', 'kl' or a function (teacher, student), got 'l3'",
    ),
    (
        lambda: make(scorer="gat"),
        "GDUnit: scorer must be one of 'linear', 'mlp', 'free', 'agreement', None or a torch.nn.Module, got 'gat'",
    ),
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
    (
        lambda: make(scorer=lambda teacher, student: teacher),
        "GDUnit: scorer must be one of 'linear', 'mlp', 'free', 'agreement', None or a torch.nn.Module, got <function>",
    ),
    (lambda: make(feature_dim="4"), "GDUnit: feature_dim must be an integer, got '4'"),
    (lambda: make(prior="flat"), "GDUnit: prior must be a tensor or list of numbers, one an edge, got 'flat'"),
    (lambda: make()(LOGITS), "GDUnit: features must be given, as the scorer or feature_distance reads them"),
    (
        lambda: make()(LOGITS.double(), FEATURES.double()),
        "GDUnit: logits must be torch.float32, as the parameters are, got torch.float64",
    ),
    (
        lambda: make()(LOGITS, by_name(FEATURES.double())),
        "GDUnit: features must be torch.float32, as the parameters are, got torch.float64",
    ),
    (
        lambda: make(feature_dim=dict.fromkeys(NAMES, 4))(LOGITS, FEATURES.double()),
        "GDUnit: features must be torch.float32, as the parameters are, got torch.float64",
    ),
    (
        lambda: unequal()(LOGITS, {name: torch.zeros(4, 3 + i).to(dtype) for i, (name, dtype) in enumerate(MIXED)}),
        "GDUnit: features['vision'] must be torch.float32, as the parameters are, got torch.bfloat16",
    ),
    (
        lambda: unequal()(LOGITS, FEATURES),
        "GDUnit: features must be a mapping, as nodes differ in width, got one tensor",
    ),
    (
        lambda: GDUnit(DistillationGraph.complete(["a.b", "c"]), {"a.b": 2, "c": 3}, 2),
        "GDUnit: node name 'a.b' cannot name a submodule: it is empty, has a dot, or is taken",
    ),
]
