"""L1 distances of all pairs of nodes in tiles: no difference of two vectors is ever in memory.

Every sum has one order, so that the same call gives the same bits. What a loop reads is padded to whole tiles.
"""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

TILE = {"ROWS": 32, "COLUMNS": 64}  # 16 sums a thread: 64 rows save a tenth of the instructions and half the programs
WARPS = 4


@triton.jit
def distances(
    result, teacher, student, num_nodes, padded, width, tiles, column_tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """A tile of pairs, of teachers and students (batch, dim, padded node): a tile's numbers lie side by side."""
    sample, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    row = tile // column_tiles * ROWS + tl.arange(0, ROWS)
    column = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    teacher += sample * width * padded
    student += sample * width * padded
    sums = tl.zeros([ROWS, COLUMNS], result.dtype.element_ty)
    for _ in range(width):
        sums += tl.abs(tl.load(teacher + row)[:, None] - tl.load(student + column)[None, :])
        teacher += padded
        student += padded
    place = (sample * num_nodes + row[:, None]) * num_nodes + column[None, :]
    tl.store(result + place, sums, (row < num_nodes)[:, None] & (column < num_nodes)[None, :])


@triton.jit
def gradient(
    result, grad, other, own, num_nodes, padded, padded_width, width, tiles, column_tiles,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum over the other nodes i of grad[i, j] * sign(own_j - other_i), of a tile of nodes j and numbers of each.

    Grad is (batch, other, padded own); other and own are (batch, node, padded dim).
    """
    sample, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    row = tile // column_tiles * ROWS + tl.arange(0, ROWS)
    column = tile % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    grad += sample * num_nodes * padded
    other += sample * num_nodes * padded_width
    own += sample * num_nodes * padded_width
    owns = tl.load(own + row[:, None] * padded_width + column[None, :], mask=(row < num_nodes)[:, None], other=0.0)
    sums = tl.zeros([ROWS, COLUMNS], result.dtype.element_ty)
    for _ in range(num_nodes):
        others = tl.load(other + column)[None, :]
        sign = (owns > others).to(sums.dtype) - (owns < others).to(sums.dtype)  # 0 where they are equal
        sums += tl.load(grad + row)[:, None] * sign
        grad += padded
        other += padded_width
    place = (sample * num_nodes + row[:, None]) * width + column[None, :]
    tl.store(result + place, sums, (row < num_nodes)[:, None] & (column < width)[None, :])


def forward(teacher: Tensor, student: Tensor) -> Tensor:
    """(batch, node, dim) twice to (batch, node, node), [i, j] from teacher i to student j."""
    batch, num_nodes, width = student.shape
    teachers, students = _padded(teacher.mT), _padded(student.mT)
    result = student.new_empty(batch, num_nodes, num_nodes)
    _launch(distances, result, teachers, students, num_nodes, students.shape[2], width)
    return result


def backward(grad: Tensor, other: Tensor, own: Tensor) -> Tensor:
    """Gradient at ``own``, from that of the distances, (batch, other, own)."""
    grads, others, owns = _padded(grad), _padded(other), _padded(own)
    result = own.new_empty(own.shape)
    _launch(gradient, result, grads, others, owns, own.shape[1], grads.shape[2], owns.shape[2], own.shape[2])
    return result


def _padded(x: Tensor) -> Tensor:
    """Rows as long as whole tiles, their numbers side by side in memory; no copy of what is so."""
    return F.pad(x, (0, -x.shape[2] % TILE["COLUMNS"])).contiguous()


def _launch(kernel, result: Tensor, *arguments) -> None:
    """One program for each tile of the result, (batch, row, column)."""
    column_tiles = triton.cdiv(result.shape[2], TILE["COLUMNS"])
    tiles = triton.cdiv(result.shape[1], TILE["ROWS"]) * column_tiles
    with torch.cuda.device(result.device) if result.is_cuda else contextlib.nullcontext():
        kernel[(result.shape[0] * tiles,)](result, *arguments, tiles, column_tiles, **TILE, num_warps=WARPS)
