"""Sums over pairs of nodes as PyTorch operators, so that compile, export, vmap and fake tensors know them.

Each of |t - s|, (t - s)^2 and t * s stays the same when teacher and student change places. So one operator gives the
gradient of either side: that of its own nodes, with the others across the edges.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from gdkit import _edge_chunks
from gdkit._once import differentiable_once

_LIBRARY = torch.library.Library("gdkit", "FRAGMENT")
_LIBRARY.define("pair_sums(Tensor teacher, Tensor student, Tensor? edge_index, str kind) -> Tensor")
_LIBRARY.define("pair_sums_backward(Tensor grad, Tensor other, Tensor own, Tensor? edge_index, str kind) -> Tensor")


def pair_sums(teacher: Tensor, student: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:
    """Sums over dim of |t - s| ("l1"), (t - s)^2 ("l2") or t * s ("dot"), of edges or of all pairs.

    No vector is held for every edge or pair, neither forward nor backward; there is no second derivative.

    Args:
        teacher, student: float32 or float64 nodes.
        edge_index: sources and targets; None: all pairs, of which only "l1" is there, by a Triton kernel.
        kind: of the sum.

    Shape:
        - teacher, student: (batch, node, dim); edge_index: (2, edge); returns (batch, edge), or (batch, node, node).
    """
    if torch.compiler.is_compiling():  # which refuses one tensor as two inputs
        teacher = teacher.view_as(teacher)
    return cast(Tensor, _PairSums.apply(teacher, student, edge_index, kind))


def _forward(teacher: Tensor, student: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:
    if edge_index is not None:
        return _edge_chunks.forward(teacher, student, edge_index, kind)
    from gdkit.kernels import _manhattan

    return _manhattan.forward(teacher, student)


def _backward(grad: Tensor, other: Tensor, own: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:
    if edge_index is not None:
        return _edge_chunks.backward(grad, other, own, edge_index, kind)
    from gdkit.kernels import _manhattan

    return _manhattan.backward(grad, other, own)


def _forward_shape(teacher: Tensor, student: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:
    per_sample = student.shape[1:2] * 2 if edge_index is None else edge_index.shape[1:]
    return student.new_empty(student.shape[0], *per_sample)


def _backward_shape(grad: Tensor, other: Tensor, own: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:
    return own.new_empty(own.shape)


class _PairSums(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(teacher: Tensor, student: Tensor, edge_index: Tensor | None, kind: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.ops.gdkit.pair_sums(teacher, student, edge_index, kind)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.kind = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        teacher, student, edges = ctx.saved_tensors
        with torch.no_grad():
            gradients = _PairSums.gradients(ctx, grad, teacher, student, edges)
        owner = f"the distance of a GD-Unit along edges ({ctx.kind})"
        return *differentiable_once(owner, gradients, grad, teacher, student), None, None

    @staticmethod
    def gradients(
        ctx: Any, grad: Tensor, teacher: Tensor, student: Tensor, edges: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Those of teacher and student, where they are wanted."""
        of_teacher = of_student = None
        if ctx.needs_input_grad[0]:
            turned = (grad.mT, None) if edges is None else (grad, edges.flip(0))
            of_teacher = torch.ops.gdkit.pair_sums_backward(turned[0], student, teacher, turned[1], ctx.kind)
        if ctx.needs_input_grad[1]:
            of_student = torch.ops.gdkit.pair_sums_backward(grad, teacher, student, edges, ctx.kind)
        return of_teacher, of_student


def _batched(operator: Any) -> Any:
    """The rule for vmap: its axis becomes a part of the batch, or where the edges differ along it, a loop."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *nodes, edge_index, kind = inputs
        pairs = zip(nodes, in_dims, strict=False)
        nodes = [x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0) for x, axis in pairs]
        if in_dims[-2] is not None:
            each = zip(*nodes, edge_index.unbind(in_dims[-2]), strict=True)
            return torch.stack([operator(*one, kind) for one in each]), 0
        folded = [x.flatten(0, 1) for x in nodes]
        batch = nodes[0].shape[1]
        return operator(*folded, edge_index, kind).unflatten(0, (info.batch_size, batch)), 0

    return rule


for _name, _function, _shape in (
    ("pair_sums", _forward, _forward_shape),
    ("pair_sums_backward", _backward, _backward_shape),
):
    for _device in ("CPU", "CUDA"):
        _LIBRARY.impl(_name, _function, _device)
    torch.library.register_fake(f"gdkit::{_name}", _shape, lib=_LIBRARY)
    _operator = getattr(torch.ops.gdkit, _name)
    torch.library.register_vmap(f"gdkit::{_name}", _batched(_operator), lib=_LIBRARY)
