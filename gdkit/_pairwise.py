"""Distances along edges without the edges' vectors: out of a table of all pairs of nodes, or a few edges at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gdkit._autocast import without_autocast
from gdkit._check import check_shape
from gdkit._distances import Distance, unit_vectors
from gdkit._pair_operator import pair_sums
from gdkit._triton import why_no_kernels

FEW = 16  # nodes up to which all pairs' differences are small, whatever else there is

# Edges over pairs of nodes from which the table is faster, on one CPU thread (docs/performance.md): of products, which
# are one matrix product, it computes thirty pairs in the time of one edge (eight in float64, for "l2"), of differences
# hardly more than two.
TABLE_FROM = {"l1": 0.45, "l2": 0.12, "dot": 0.03}

# (kind, teachers, students, edge_index) -> (batch, edge): sums over dim of |t - s|, (t - s)^2 or t * s
Sums = Callable[[str, Tensor, Tensor, Tensor], Tensor]


def distances_along(
    x: Tensor,
    edge_index: Tensor,
    distance: Distance,
    temperature: float,
    detach_teacher: bool,
    sums: Sums | None = None,
) -> Tensor:
    """Distance of each student to its teacher, (batch, node, dim) to (batch, edge).

    ``sums`` is chosen by sizes where it is None, never by values. 16-bit vectors are summed in float32.
    """
    if callable(distance):
        far = distance((x.detach() if detach_teacher else x)[:, edge_index[0]], x[:, edge_index[1]])
        axes = [x.shape[0], edge_index.shape[1]]
        return check_shape("edge_distances", "distance(teacher, student)", far, axes)
    wide = x if x.dtype.itemsize > 2 else x.float()

    def as_teacher(values: Tensor) -> Tensor:
        return values.detach() if detach_teacher else values

    def along_edges(kind: str, teacher: Tensor, student: Tensor) -> Tensor:
        chosen = choose_sums(kind, student, edge_index.shape[1]) if sums is None else sums
        return chosen(kind, teacher, student, edge_index)

    if distance in ("l1", "l2"):
        distances = along_edges(distance, as_teacher(wide), wide)
    elif distance == "cosine":
        units = unit_vectors(wide)
        distances = 1 - along_edges("dot", as_teacher(units), units)
    else:  # KL(i, j) = sum p_i log p_i - p_i . log p_j
        log_p = F.log_softmax(wide if temperature == 1 else wide / temperature, dim=-1)
        log_teacher = as_teacher(log_p)
        teacher = log_teacher.exp()
        of_teachers = (teacher * log_teacher).sum(-1)[:, edge_index[0]]  # (batch, edge)
        # The factor T^2 keeps the gradient's size independent of T (Hinton et al. 2015).
        distances = temperature**2 * (of_teachers - along_edges("dot", teacher, log_p))
    return distances.to(x.dtype)


def choose_sums(kind: str, student: Tensor, num_edges: int) -> Sums:
    """The faster form, by the number of nodes, the share of pairs that are edges, and the device."""
    num_nodes = student.shape[1]
    if num_nodes <= FEW:
        return from_table
    if kind == "l1" and student.is_cuda and why_no_kernels(student.device):
        return edge_by_edge  # cdist's backward would hold all differences
    return from_table if num_edges >= TABLE_FROM[kind] * num_nodes * (num_nodes - 1) else edge_by_edge


def from_table(kind: str, teacher: Tensor, student: Tensor, edge_index: Tensor) -> Tensor:
    """All pairs of nodes, (batch, node, node), then those that are edges."""
    table = {"l1": _l1_table, "l2": _l2_table, "dot": _products}[kind](teacher, student)
    return table[:, edge_index[0], edge_index[1]]  # (batch, edge)


def edge_by_edge(kind: str, teacher: Tensor, student: Tensor, edge_index: Tensor) -> Tensor:
    """Some edges at a time, which are computed again in backward."""
    return pair_sums(teacher, student, edge_index, kind)


def _l1_table(teacher: Tensor, student: Tensor) -> Tensor:
    if student.is_cuda and student.shape[1] > FEW:
        return pair_sums(teacher, student, None, "l1")
    return torch.cdist(teacher, student, p=1)


def _l2_table(teacher: Tensor, student: Tensor) -> Tensor:
    if student.shape[1] <= FEW:
        return (teacher[:, :, None] - student[:, None]).square().sum(-1)
    # |t|^2 + |s|^2 - 2 t . s cancels where nodes lie far from the origin and near each other: hence float64.
    dtype = student.dtype
    teacher, student = teacher.double(), student.double()
    squares = teacher.square().sum(-1)[:, :, None] + student.square().sum(-1)[:, None]
    return (squares - 2 * _products(teacher, student)).clamp(min=0).to(dtype)


def _products(teacher: Tensor, student: Tensor) -> Tensor:
    with without_autocast(student):  # which would round to half precision
        return teacher @ student.mT
