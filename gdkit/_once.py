"""Gradients that are not differentiable again, and say so: a second derivative through them would lack a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def differentiable_once(owner: str, gradients: Sequence[Tensor | None], *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients; where autograd records how they come about, what would differentiate them raises.

    ``torch.autograd.function.once_differentiable`` stays silent where the gradient of the result is a constant.

    Args:
        owner: in the error's text.
        gradients: what a backward returns, computed without autograd.
        inputs: what they depend on.
    """
    if not torch.is_grad_enabled():
        return tuple(gradients)
    return tuple(None if x is None else _Refusal.apply(x.detach(), owner, *inputs) for x in gradients)  # pyright: ignore


class _Refusal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, owner: str, *inputs: Tensor) -> Tensor:
        """A gradient as it is."""
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep whose it is."""
        ctx.owner = inputs[1]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """There is none."""
        raise RuntimeError(f"{ctx.owner} is differentiable once, and this asks for a second derivative")
