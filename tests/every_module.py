"""Every public module with inputs that suit it, for the tests that hold for all of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from gdkit import (
    CrossmodalTransformer,
    DecoupledEncoder,
    DistillationGraph,
    GDUnit,
    MultimodalTransformer,
    ReconstructionLoss,
    SoftOrthogonalityLoss,
    TripletMarginLoss,
)
from gdkit._testing import flat, on_each

NAMES = ("language", "vision", "acoustic")
GRAPH = DistillationGraph.complete(NAMES)


class Product(nn.Module):
    """A user's scorer."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def reset_parameters(self):
        self.inner.reset_parameters()

    def forward(self, teacher, student):
        return (self.inner(teacher) * student).sum(dim=-1)


class Case(NamedTuple):
    """A module, its inputs at a batch size, and which input (by position) is the mask of which."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Any, ...]]
    masks: dict[int, int]


def nodes(batch, dim):
    return {name: torch.randn(batch, dim) for name in NAMES}


def sequences(batch, *dims):
    return {name: torch.randn(batch, 4 + i, dim) for i, (name, dim) in enumerate(zip(NAMES, dims))}


def some(*shape):
    """A mask with its first sample or step real, so that few things are empty by chance."""
    mask = torch.rand(shape) > 0.3
    mask[:, 0] = mask[0] = True
    return mask


def present(batch):
    return dict(zip(NAMES, some(batch, 3).T))


def step_masks(batch, nodes=3):
    return {name: some(batch, 4 + i) for i, name in enumerate(NAMES[:nodes])}


def unit(scorer, **options):
    return lambda: GDUnit(GRAPH, 5, 3, 4, scorer=Product(8) if scorer == "module" else scorer, **options)


def unit_inputs(batch):
    return nodes(batch, 3), nodes(batch, 5), present(batch)


def pairs(batch):
    return sequences(batch, 4, 4, 4), sequences(batch, 4, 4, 4), step_masks(batch)


def triplets(labels):
    return lambda batch: (nodes(batch, 5), labels(batch), present(batch))


def real_labels(batch):
    return torch.linspace(-2.2, 2.3, batch)


CASES = {
    f"GDUnit {scorer} {normalize}": Case(unit(scorer, normalize=normalize), unit_inputs, {0: 2, 1: 2})
    for scorer in ("linear", "mlp", "free", "agreement", None, "module")
    for normalize in ("graph", "target")
}
FULL = {"distance": "kl", "feature_distance": "cosine", "prior": [0.1] * 6, "prior_weight": 1.0}
CASES |= {
    "GDUnit every option": Case(
        unit("mlp", normalize="target", **FULL),
        lambda batch: (*unit_inputs(batch), {name: torch.randn(batch) for name in NAMES}),
        {0: 2, 1: 2},
    ),
    "GDUnit stacked": Case(
        unit("linear"), lambda batch: (torch.randn(batch, 3, 3), torch.randn(batch, 3, 5), some(batch, 3)), {0: 2, 1: 2}
    ),
}
# More nodes than are few: distances from a table of products, and along few edges.
MANY = DistillationGraph.complete(map(str, range(18)))
RING = DistillationGraph.from_edges(map(str, range(60)), [(str(i), str((i + 1) % 60)) for i in range(60)])
CASES |= {
    f"GDUnit {name}": Case(
        lambda graph=graph: GDUnit(graph, 5, 3, 4, normalize="target", distance="kl", feature_distance="l2"),
        lambda batch, n=graph.num_nodes: (torch.randn(batch, n, 3), torch.randn(batch, n, 5), some(batch, n)),
        {0: 2, 1: 2},
    )
    for name, graph in (("many nodes", MANY), ("few edges", RING))
}
CASES |= {
    f"DecoupledEncoder {padding}": Case(
        lambda padding=padding: DecoupledEncoder(dict(zip(NAMES, (7, 3, 2))), 4, kernel_size=3, padding=padding),
        lambda batch: (sequences(batch, 7, 3, 2), step_masks(batch)),
        {0: 1},
    )
    for padding in ("same", "valid")
}
CASES |= {
    "CrossmodalTransformer self": Case(
        lambda: CrossmodalTransformer(10, 2, 1), lambda batch: (torch.randn(batch, 5, 10), None, some(batch, 5)), {0: 2}
    ),
    "CrossmodalTransformer cross": Case(
        lambda: CrossmodalTransformer(10, 2, 2, band=2),
        lambda batch: (torch.randn(batch, 5, 10), torch.randn(batch, 6, 10), some(batch, 5), some(batch, 6)),
        {0: 2, 1: 3},
    ),
}
CASES |= {
    f"MultimodalTransformer memory {layers}": Case(
        lambda layers=layers: MultimodalTransformer(NAMES[:2], 10, 2, 1, num_memory_layers=layers),
        lambda batch: (sequences(batch, 10, 10), step_masks(batch, 2)),
        {0: 1},
    )
    for layers in (0, 1)
}
LABELS = {None: lambda batch: torch.arange(batch) % 3, "round": real_labels, (-1.0, 0.5): real_labels}
CASES |= {
    f"TripletMarginLoss {binning}": Case(
        lambda binning=binning: TripletMarginLoss(0.3, binning=binning, proportional=binning == "round"),
        triplets(labels),
        {0: 2},
    )
    for binning, labels in LABELS.items()
}
CASES |= {
    f"SoftOrthogonalityLoss {kind}": Case(lambda kind=kind: SoftOrthogonalityLoss(kind), pairs, {0: 2, 1: 2})
    for kind in ("hinge", "squared")
}
CASES["ReconstructionLoss"] = Case(ReconstructionLoss, pairs, {0: 2, 1: 2})


def build(name, batch=4, dtype=torch.float32):
    """The module and its inputs, the same in every call."""
    torch.manual_seed(0)
    module = CASES[name].make().to(dtype)
    return module, cast(dtype, CASES[name].inputs(batch))


def cast(dtype, inputs):
    return tuple(on_each(lambda x: x.to(dtype) if x.is_floating_point() else x, given) for given in inputs)


def assert_same(got, wanted, tolerance=1e-5):
    got, wanted = flat(got), flat(wanted)
    assert got.keys() == wanted.keys()
    for path, value in wanted.items():
        torch.testing.assert_close(
            got[path].to(value), value, rtol=tolerance, atol=tolerance, msg=lambda text, path=path: f"{path}: {text}"
        )


def total(out):
    """A scalar that every number of every result moves."""
    values = [value for value in flat(out).values() if value.is_floating_point()]
    return sum((value * torch.linspace(1, 2, value.numel()).to(value).reshape(value.shape)).sum() for value in values)


def gradients(module, out):
    parameters = dict(module.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(total(out), list(parameters.values())))) if parameters else {}
