"""Sums along a list of edges, a chunk of edges at a time: the vectors of a chunk stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CPU_CHUNK, GPU_CHUNK = 2**17, 2**24  # numbers: half a megabyte stays in a core's cache, 64 MB fill a GPU


def forward(teacher: Tensor, student: Tensor, edge_index: Tensor, kind: str) -> Tensor:
    """Sums over dim of |t - s|, (t - s)^2 or t * s, (batch, node, dim) twice to (batch, edge)."""
    batch, _, dim = student.shape
    teachers, students = _rows(teacher), _rows(student)
    sums = student.new_empty(edge_index.shape[1], batch)
    for part, source, target in _chunks(edge_index, students):
        terms, others = teachers.index_select(0, source), students.index_select(0, target)  # (chunk, batch * dim)
        terms = terms.mul_(others) if kind == "dot" else terms.sub_(others)
        terms = terms.abs_() if kind == "l1" else terms.square_() if kind == "l2" else terms
        torch.sum(terms.view(len(source), batch, dim), dim=2, out=sums[part])
    return sums.T.contiguous()


def backward(grad: Tensor, other: Tensor, own: Tensor, edge_index: Tensor, kind: str) -> Tensor:
    """Gradient of one end's nodes, those that ``edge_index[1]`` points to, (batch, node, dim)."""
    batch, num_nodes, dim = own.shape
    others, owns = _rows(other), _rows(own)
    gradient, grads = torch.zeros_like(owns), grad.T.contiguous()  # (edge, batch)
    for part, source, target in _chunks(edge_index, owns):
        slope = others.index_select(0, source)  # (chunk, batch * dim)
        if kind != "dot":
            slope = owns.index_select(0, target).sub_(slope)
            slope = slope.sign_() if kind == "l1" else slope.mul_(2)
        slope.view(len(source), batch, dim).mul_(grads[part][..., None])
        gradient.index_add_(0, target, slope)
    return gradient.view(num_nodes, batch, dim).transpose(0, 1).contiguous()


def _rows(x: Tensor) -> Tensor:
    """A row for each node, (node, batch * dim), so that an edge moves whole rows."""
    return x.transpose(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2])


def _chunks(edge_index: Tensor, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Where a chunk lies, its sources and its targets."""
    size = max(1, (GPU_CHUNK if rows.is_cuda else CPU_CHUNK) // max(1, rows.shape[1]))
    for start in range(0, edge_index.shape[1], size):
        part = slice(start, start + size)
        yield part, edge_index[0, part], edge_index[1, part]
