"""Errors of encoder, transformers, losses, and of checks on users' own modules."""

import torch

from gdkit import (
    CrossmodalTransformer,
    DecoupledEncoder,
    MultimodalTransformer,
    ReconstructionLoss,
    SoftOrthogonalityLoss,
    TripletMarginLoss,
)
from gdkit.stacking import run_together
from gdkit.testing import check_permutation_equivariance

X = torch.zeros(2, 5, 8)
ONES = torch.ones(2, 5)
LABELS = torch.tensor([0, 1])


def encoder(**options):
    return DecoupledEncoder(**{"input_dims": {"a": 3, "b": 4}, "dim": 2, **options})


def crossmodal(**options):
    return CrossmodalTransformer(**{"dim": 8, "num_heads": 2, "num_layers": 1, **options})


def under_autocast(module, *given):
    with torch.autocast("cpu", dtype=torch.bfloat16):  # leaves float64 as it is
        return module(*given)


def inputs(**changes):
    return {"a": torch.zeros(2, 5, 3), "b": torch.zeros(2, 6, 4), **changes}


ENCODER = [
    (
        lambda: encoder(input_dims=["a"]),
        "DecoupledEncoder: input_dims must map at least one node name to its width, got ['a']",
    ),
    (lambda: encoder(input_dims={0: 3}), "DecoupledEncoder: node names must be strings, got 0"),
    (
        lambda: encoder(input_dims={"a.b": 3}),
        "DecoupledEncoder: node name 'a.b' cannot name a submodule: it is empty, has a dot, or is taken",
    ),
    (lambda: encoder(padding="none"), "DecoupledEncoder: padding must be one of 'same', 'valid', got 'none'"),
    (
        lambda: encoder(kernel_size={"a": 3}),
        "DecoupledEncoder has nodes (a, b); kernel_size lacks 'b'",
    ),
    (
        lambda: encoder()([X, X]),
        "DecoupledEncoder: inputs must be a mapping from node name to tensor, got list",
    ),
    (
        lambda: encoder()(inputs(b=torch.zeros(3, 6, 4))),
        "DecoupledEncoder: inputs['b'] must have shape (2, time, 4), got (3, 6, 4)",
    ),
    (
        lambda: encoder()(inputs(b=torch.zeros(2, 6, 4).double())),
        "DecoupledEncoder: inputs['b'] must be torch.float32, as the parameters are, got torch.float64",
    ),
    (
        lambda: encoder(padding="valid")(inputs(a=torch.zeros(2, 4, 3))),
        "DecoupledEncoder: inputs['a'] has 4 steps, fewer than its kernel_size 5; padding='same' takes any number",
    ),
    (
        lambda: encoder()(inputs(), {"a": ONES, "b": ONES}),
        "DecoupledEncoder: masks['a'] must be boolean (True = real or present), got torch.float32",
    ),
]

TRANSFORMERS = [
    (
        lambda: crossmodal(num_heads=3),
        "CrossmodalTransformer: num_heads must divide dim, got dim 8 and num_heads 3",
    ),
    (lambda: crossmodal(dropout=1.0), "CrossmodalTransformer: dropout must be in [0, 1), got 1.0"),
    (lambda: crossmodal(band=0.5), "CrossmodalTransformer: band must be an integer, got 0.5"),
    (lambda: crossmodal(num_layers=0), "CrossmodalTransformer: num_layers must be above 0, got 0"),
    (
        lambda: crossmodal()(X, source_mask=ONES.bool()),
        "CrossmodalTransformer: source_mask is given, but source is None",
    ),
    (
        lambda: crossmodal()(X[:, :0], last_step=True),
        "CrossmodalTransformer: last_step needs a target of at least 1 step, got none",
    ),
    (
        lambda: crossmodal()(X, X[:1]),
        "CrossmodalTransformer: source must have shape (2, source time, 8), got (1, 5, 8)",
    ),
    (
        lambda: crossmodal()(X, X.bfloat16()),
        "CrossmodalTransformer: source must be torch.float32, as the parameters are, got torch.bfloat16",
    ),
    (
        lambda: under_autocast(crossmodal(), X.double()),
        "CrossmodalTransformer: target must be torch.float32, as the parameters are, got torch.float64",
    ),
    (
        lambda: MultimodalTransformer(["a"], 8, 2, 1),
        "MultimodalTransformer: names must hold at least 2 different nodes, got ('a',)",
    ),
    (
        lambda: MultimodalTransformer(["a", "b"], 8, 2, 1)({"a": X, "b": X[..., :7]}),
        "MultimodalTransformer: features['b'] must have shape (2, time, 8), got (2, 5, 7)",
    ),
    (lambda: run_together(5, [X]), "run_together: transformers must be a list, got int"),
    (
        lambda: run_together([crossmodal()], [X, X]),
        "run_together: targets must hold one for each of 1 transformers, got 2",
    ),
    (
        lambda: run_together([torch.nn.Linear(8, 8)], [X]),
        "run_together: transformers[0] must be a CrossmodalTransformer, got Linear",
    ),
]

LOSSES = [
    (lambda: TripletMarginLoss(-1), "TripletMarginLoss: margin must be at least 0, got -1"),
    (lambda: TripletMarginLoss(binning=3), "TripletMarginLoss: binning must be None, 'round' or boundaries, got 3"),
    (lambda: TripletMarginLoss(binning=["low"]), "TripletMarginLoss: binning must be boundaries, got ['low']"),
    (lambda: TripletMarginLoss(binning=[1, 0]), "TripletMarginLoss: binning must be rising boundaries, got [1.0, 0.0]"),
    (lambda: TripletMarginLoss(binning="floor"), "TripletMarginLoss: binning must be one of 'round', got 'floor'"),
    (
        lambda: TripletMarginLoss()(X, LABELS, {"a": LABELS.bool()}),
        "TripletMarginLoss: node_mask may be a mapping only where features is one",
    ),
    (
        lambda: TripletMarginLoss()(X, LABELS.float()),
        "TripletMarginLoss: labels must be integer classes, got torch.float32; binning='round' or a sequence of "
        "boundaries makes classes of real labels",
    ),
    (lambda: TripletMarginLoss()({}, LABELS), "TripletMarginLoss: features must hold at least 1 node, got none"),
    (
        lambda: SoftOrthogonalityLoss()({"a": X}, X),
        "SoftOrthogonalityLoss: shared and private must both be mappings, or both be tensors",
    ),
    (
        lambda: ReconstructionLoss()({"a": X}, {"b": X}),
        "ReconstructionLoss has nodes (a); x_hat lacks 'a'",
    ),
    (
        lambda: ReconstructionLoss()({"a": X}, {"a": X}, {"a": ONES[:, :4].bool()}),
        "ReconstructionLoss: masks['a'] must have shape (2, 5), got (2, 4)",
    ),
]

OF_USERS = [
    (
        lambda: check_permutation_equivariance(lambda x: {"loss": x, "name": "text"}, ONES),
        "testing: result['name'] must be a tensor, or a mapping, tuple or list of tensors, got str",
    ),
]

CASES = ENCODER + TRANSFORMERS + LOSSES + OF_USERS
