"""Mean and spread of every column, in one pass, and of two sets together from those of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of every column over all steps of some arrays; each (dim,) float64.

    Attributes:
        count: number of steps.
        mean: 0 where there are none.
        squares: sum of the squared differences to that mean.
        within: sum of the squared differences of each array's steps to the array's own mean.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    within: np.ndarray


def moments_of(arrays: Sequence[np.ndarray]) -> Moments:
    """Moments of N arrays (time, dim): those that the sequence knows, or else from one pass over it.

    Example:
        >>> found = moments_of([np.float32([[1], [3]]), np.empty((0, 1)), np.float32([[5]])])
        >>> found.count, found.mean.tolist(), found.squares.tolist(), found.within.tolist()
        (3, [3.0], [8.0], [2.0])
    """
    known = getattr(arrays, "moments", None)
    if known is not None:
        return known
    counts: list[int] = []
    means: list[np.ndarray] = []
    within: np.ndarray | float = 0.0
    dim = 0
    for steps in arrays:
        dim = steps.shape[1]
        if len(steps) == 0:
            continue
        exact = steps.astype(np.float64)  # (time, dim)
        counts.append(len(exact))
        means.append(exact.mean(axis=0))
        within = within + np.square(exact - means[-1]).sum(axis=0)
    if not counts:
        return Moments(0, np.zeros(dim), np.zeros(dim), np.zeros(dim))
    weights, each = np.array(counts, np.float64), np.stack(means)  # (sample,), (sample, dim)
    mean = weights @ each / weights.sum()
    return Moments(sum(counts), mean, within + weights @ np.square(each - mean), np.asarray(within))


def merged(first: Moments, second: Moments) -> Moments:
    """Moments of two sets of arrays together.

    Example:
        >>> one, other = np.float32([[1], [3]]), np.float32([[5]])
        >>> merged(moments_of([one]), moments_of([other])).squares
        array([8.])
    """
    count = first.count + second.count
    if first.count == 0 or second.count == 0:
        return second if first.count == 0 else first
    apart = second.mean - first.mean
    mean = first.mean + apart * (second.count / count)
    squares = first.squares + second.squares + np.square(apart) * (first.count * second.count / count)
    return Moments(count, mean, squares, first.within + second.within)
