"""How far results in 16 bits are from those in 32: `python benchmarks/precision.py` prints docs/numerics.md's table.

A difference is the largest of a tensor, over the largest number in that tensor; of several tensors and draws, the
largest counts. Weights, inputs and the sum of losses that is differentiated are in float32, as in training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in (".", "examples/dmd")]

from dmd.data import collate, synthetic  # noqa: E402
from dmd.model import DMD, ModelConfig  # noqa: E402
from dmd.task import DMDTask, TaskConfig  # noqa: E402

import gdkit  # noqa: E402

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES = ("language", "vision", "acoustic")
BATCH, DIM, DRAWS = 16, 24, 3
RECORDINGS = synthetic((BATCH, 1, 1), steps={"language": 8, "vision": 12, "acoustic": 16}, absent=0.1)


class Case(NamedTuple):
    """A module, its inputs, and what they give: a nest of tensors whose floating-point ones are compared."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    results: Callable[[Any], Any] = lambda out: out


def _nodes(dim: int) -> dict[str, Tensor]:
    return {name: torch.randn(BATCH, dim) for name in NAMES}


def _sequences() -> dict[str, Tensor]:
    return {name: torch.randn(BATCH, 8 + 4 * i, DIM) for i, name in enumerate(NAMES)}


def _unit(**options: Any) -> Callable[[], nn.Module]:
    return lambda: gdkit.GDUnit(gdkit.DistillationGraph.complete(NAMES), DIM, 3, 16, normalize="target", **options)


def _task() -> nn.Module:
    config = ModelConfig(dim=DIM, num_heads=4, num_layers=2, dropout=0.0)
    return DMDTask(DMD(config, RECORDINGS.dims, 1), TaskConfig())


CASES = {
    f"GDUnit, {distance}": Case(
        _unit(distance=distance), lambda: (_nodes(3), _nodes(DIM)), lambda out: (out.loss, out.weights)
    )
    for distance in ("l1", "l2", "cosine", "kl")
} | {
    "TripletMarginLoss": Case(
        lambda: gdkit.TripletMarginLoss(0.1), lambda: (_nodes(DIM), torch.arange(BATCH) % 3)
    ),
    "SoftOrthogonalityLoss": Case(gdkit.SoftOrthogonalityLoss, lambda: (_sequences(), _sequences())),
    "ReconstructionLoss": Case(gdkit.ReconstructionLoss, lambda: (_sequences(), _sequences())),
    "DecoupledEncoder": Case(
        lambda: gdkit.DecoupledEncoder(dict.fromkeys(NAMES, DIM), DIM), lambda: (_sequences(),), lambda out: out[:5]
    ),
    "CrossmodalTransformer": Case(
        lambda: gdkit.CrossmodalTransformer(DIM, 4, 4), lambda: (_sequences()["vision"], _sequences()["acoustic"])
    ),
    "MultimodalTransformer": Case(
        lambda: gdkit.MultimodalTransformer(NAMES, DIM, 4, 4), lambda: (_sequences(),)
    ),
    "DMDTask, its loss": Case(
        _task, lambda: (collate(RECORDINGS.splits["train"], list(range(BATCH))),), lambda out: (out["loss"],)
    ),
}  # fmt: skip


def differences(name: str, dtype: torch.dtype) -> tuple[float, float]:
    """Of the results of a case, and of the gradients of its parameters and inputs together."""
    largest = [0.0, 0.0]
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        module, given = CASES[name].make(), CASES[name].inputs()
        leaves, structure = tree_flatten(given)
        leaves = [
            x.requires_grad_(x.is_floating_point() and name != "DMDTask, its loss") for x in leaves if x is not None
        ]
        given = given if name == "DMDTask, its loss" else tree_unflatten(leaves, structure)
        exact, rounded = (_run(module, given, leaves, CASES[name].results, each) for each in (None, dtype))
        for i, (wanted, got) in enumerate(zip(exact, rounded, strict=True)):
            largest[i] = max(largest[i], *map(_difference, got, wanted))
    return largest[0], largest[1]


def _run(
    module: nn.Module, given: tuple[Any, ...], leaves: list[Tensor], results: Callable[[Any], Any], dtype: Any
) -> tuple[list[Tensor], list[Tensor]]:
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        values = [x for x in tree_leaves(results(module(*given))) if x.is_floating_point()]
        total = sum((x.float() * torch.linspace(1, 2, x.numel()).view(x.shape)).sum() for x in values)
    wanted = [x for x in (*module.parameters(), *leaves) if x.requires_grad]
    found = torch.autograd.grad(total, wanted, materialize_grads=True)  # pyright: ignore
    return values, [torch.cat([x.flatten() for x in found])]


def _difference(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted).detach().abs().max() / wanted.detach().abs().max())


def rows() -> Iterator[tuple[str, list[float]]]:
    """Each case, with the differences of results and of gradients by each dtype."""
    for name in CASES:
        yield name, [value for dtype in DTYPES.values() for value in differences(name, dtype)]


def main() -> None:
    """Print the table."""
    heads = [f"{dtype}: {what}" for dtype in DTYPES for what in ("results", "gradients")]
    print(f"| | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for name, values in rows():
        print(f"| {name} | {' | '.join(f'{value:.1e}' for value in values)} |")


if __name__ == "__main__":
    main()
