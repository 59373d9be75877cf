"""What the checks of :mod:`gdkit.testing` are made of: seeded inputs, nested results, and messages that show both."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from gdkit.gd_unit import GDOutput, GDUnit

Nodes = Tensor | Mapping[str, Tensor]
Flat = dict[tuple[str, ...], Tensor]


class Require:
    """Raise an AssertionError that names the check, the rule that failed, what came, and the inputs it came from."""

    def __init__(self, check: str, **given: object) -> None:
        self.check, self.given = check, given

    def __call__(self, holds: bool | Tensor, rule: str, got: object) -> None:
        """Raise unless ``holds``."""
        if not holds:
            given = "".join(f"\n{name} = {value}" for name, value in self.given.items())
            raise AssertionError(f"{self.check}: {rule}; got {got}\nwith{given}")


def seeded_noise(seed: int, like: object = None) -> Callable[..., Tensor]:
    """A function from sizes to normal numbers, in the dtype and on the device of a module's first floating tensor."""
    generator = torch.Generator().manual_seed(seed)
    held = chain(like.parameters(), like.buffers()) if isinstance(like, nn.Module) else iter(())
    model = next((tensor for tensor in held if tensor.is_floating_point()), torch.empty(0))
    return lambda *sizes: torch.randn(sizes, generator=generator).to(model)


def close(a: Tensor, b: Tensor) -> bool:
    """Same shape, and same values up to the rounding of the dtype."""
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(a.dtype, 5e-2 if a.is_floating_point() else 0.0)
    return a.shape == b.shape and torch.allclose(a, b.to(a), rtol=tolerance, atol=tolerance, equal_nan=True)


@contextmanager
def evaluating(module: object) -> Generator[None]:
    """Evaluation mode inside, and each submodule's own mode again after it; nothing where ``module`` is a function."""
    modes = [(part, part.training) for part in module.modules()] if isinstance(module, nn.Module) else []
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


def gradients(value: Tensor, leaves: Iterable[Tensor]) -> list[Tensor | None]:
    """The gradient of the sum of ``value`` at each leaf; None where it does not reach."""
    leaves = list(leaves)
    if not value.requires_grad or not leaves:
        return [None] * len(leaves)
    return list(torch.autograd.grad(value.sum(), leaves, retain_graph=True, allow_unused=True))


def on_each(change: Callable[..., Tensor], *nodes: Any) -> Any:
    """Apply a function to tensors, or name by name to mappings of them; None stays None."""
    first = nodes[0]
    if isinstance(first, Mapping):
        return {name: change(*(node[name] for node in nodes)) for name in cast(Mapping[str, Tensor], first)}
    return None if first is None else change(*nodes)


def flat(result: object, path: tuple[str, ...] = ()) -> Flat:
    """The tensors of a nested result, each with the keys, field names and positions that lead to it.

    Raises:
        TypeError: if there is something else than tensors, mappings, tuples, lists and None.
    """
    if isinstance(result, Tensor):
        return {path: result}
    if result is None:
        return {}
    if hasattr(result, "_asdict"):
        result = cast(Any, result)._asdict()
    if isinstance(result, (tuple, list)):
        result = dict(enumerate(cast("list[object]", result)))
    if not isinstance(result, Mapping):
        where = "result" + "".join(f"[{key!r}]" for key in path)
        kind = type(result).__name__
        raise TypeError(f"testing: {where} must be a tensor, or a mapping, tuple or list of tensors, got {kind}")
    nested = cast("Mapping[object, object]", result)
    return {at: leaf for key, value in nested.items() for at, leaf in flat(value, (*path, str(key))).items()}


def require_same(require: Require, rule: str, result: Flat, wanted: Flat) -> None:
    """Require two flat results to agree, tensor by tensor."""
    require(result.keys() == wanted.keys(), rule, list(result))
    for path, tensor in result.items():
        require(close(tensor, wanted[path]), f"{rule}: result {'.'.join(path)}", f"{tensor}, not {wanted[path]}")


def require_gradients(require: Require, module: nn.Module, value: Tensor) -> None:
    """Require that a finite gradient of ``value`` reaches every parameter that wants one."""
    wanting = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, gradient in zip(wanting, gradients(value, wanting.values()), strict=True):
        require(gradient is not None, f"a gradient must reach parameter {name!r}", gradient)
        require(gradient is None or gradient.isfinite().all(), f"the gradient of {name!r} must be finite", gradient)


def check_gd_output(require: Require, unit: GDUnit, out: GDOutput, node_mask: Tensor) -> None:
    """Weights, distances and sums of one call."""
    graph, batch = unit.graph, node_mask.shape[0]
    present = node_mask[:, graph.edge_index].all(dim=1)  # (batch, edge)
    for name in ("weights", "distances"):
        values: Tensor = getattr(out, name)
        require(values.shape == present.shape, f"{name} must be (batch, edge)", tuple(values.shape))
        require(values.isfinite().all(), f"{name} must be finite", values)
        require(not values[~present].any(), f"{name} of edges at absent nodes must be 0", values)
    require((out.weights >= 0).all(), "weights must be at least 0", out.weights)
    if unit.normalize == "graph":
        sums, wanted = out.weights.sum(dim=1), present.any(dim=1)
    else:
        sums, wanted = graph.matrix(out.weights).sum(dim=-2), graph.matrix(present).any(dim=-2)
    require(close(sums, wanted.to(sums)), f"weights must sum to 1 over the {unit.normalize}'s present edges", sums)
    require(out.per_sample.shape == (batch,), "per_sample must be (batch,)", tuple(out.per_sample.shape))
    total = torch.stack(list(out.terms.values())).sum()
    require(close(out.loss, total), "loss must be the sum of its terms", f"{out.loss}, not {total}")
    total = out.per_sample.mean() + out.terms["prior"]
    require(
        close(out.loss, total), "loss must be the mean of per_sample and the prior's term", f"{out.loss}, not {total}"
    )


def check_gd_gradients(require: Require, unit: GDUnit, out: GDOutput, logits: Tensor) -> None:
    """Distances move students, teachers only where asked for; edges learn unless ``detach_weights``."""
    for e, edge in enumerate(unit.graph.edges):
        teacher, student = (unit.graph.names.index(name) for name in edge)
        (gradient,) = gradients(out.distances[:, e], [logits])
        gradient = torch.zeros_like(logits) if gradient is None else gradient
        require(gradient[:, student].any(), f"edge {edge}: a distance must move the student", gradient)
        moved = bool(gradient[:, teacher].any())
        require(moved != unit.detach_teacher, f"edge {edge}: detach_teacher is {unit.detach_teacher}", gradient)
    if not unit.detach_weights:
        require_gradients(require, unit, out.loss)
    elif any(gradient is not None for gradient in gradients(out.per_sample, unit.parameters())):
        require(False, "detach_weights must keep the distances from teaching the edges", "a gradient at a parameter")
