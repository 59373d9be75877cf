"""How many of one list lie above each of another: by comparing all with all, or by sorting."""

from __future__ import annotations

import torch
from torch import Tensor

# Comparisons up to which a table of them is faster than a sort. A GPU's launches cost more than its comparisons.
DENSE_ON_CPU, DENSE_ON_GPU = 2**20, 2**24
CHUNK = 2**22  # entries of `below` handled by one sort, for at most so many int64 places at a time


def hinge_counts(below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row: how many of ``above`` exceed each of ``below``, and how many of ``below`` each of ``above`` exceeds.

    Strictly, as a hinge has no gradient at its kink. Entries of ``below`` that are infinity, and of ``above`` that are
    minus infinity, count nowhere.

    Shape:
        - below: (row, positive); above: (row, negative); returns counts of both shapes.
    """
    if torch.compiler.is_exporting():  # a program that serves all sizes cannot choose by them
        return sorted_counts(below, above)
    if below.numel() * above.shape[1] <= (DENSE_ON_GPU if below.is_cuda else DENSE_ON_CPU):
        return dense_counts(below, above)
    rows = max(1, CHUNK // max(1, below.shape[1]))
    parts = [sorted_counts(below[i : i + rows], above[i : i + rows]) for i in range(0, len(below), rows)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def dense_counts(below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """In O(row * positive * negative) time and memory."""
    exceeds = (above[:, None, :] - below[:, :, None]).gt_(0)  # (row, positive, negative); sums of booleans are slow
    return exceeds.sum(2), exceeds.sum(1)


def sorted_counts(below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """In O(row * (positive + negative) log negative) time and O(row * (positive + negative)) memory."""
    ordered, places = above.sort(dim=1)
    reached = torch.searchsorted(ordered, below, right=True)  # (row, positive): how many do not exceed it
    # At each place, how many of `below` reached just there; so many are exceeded from there on.
    num_rows, num_above = above.shape
    one = below.new_ones(()).expand(below.shape)
    histogram = below.new_zeros(num_rows, num_above + 1).scatter_add(1, reached, one)
    of_ordered = histogram.cumsum(1)[:, :-1]  # (row, negative)
    return num_above - reached.to(below.dtype), torch.empty_like(above).scatter(1, places, of_ordered)
