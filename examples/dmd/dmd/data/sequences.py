"""Sequences of arrays that are made when they are asked for, and what is known of any sequence without reading it."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import overload

import numpy as np

from .moments import Moments, merged, moments_of


def step_counts(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Number of steps of each array, (N,) int64; nothing is read where the sequence knows it."""
    known = getattr(arrays, "lengths", None)
    return np.array([len(steps) for steps in arrays], np.int64) if known is None else known


def width(arrays: Sequence[np.ndarray]) -> int:
    """Columns of every array (time, dim); nothing is read where the sequence knows it."""
    known = getattr(arrays, "dim", None)
    return arrays[0].shape[1] if known is None else known


class Lazy(Sequence[np.ndarray]):
    """N arrays (time, dim), or (time,) where ``dim`` is None, each made by :meth:`read` when it is asked for.

    Attributes:
        lengths: (N,) int64, the steps of each array.
        dim: columns of every array.
        blocks: (N,) int64, the file that each array lies in, where reading many files at a time is slow; else None.
    """

    lengths: np.ndarray
    dim: int | None
    blocks: np.ndarray | None = None

    @abstractmethod
    def read(self, position: int) -> np.ndarray:
        """The array at a position in [0, N)."""

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self.read(position) for position in range(*index.indices(len(self)))]
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} arrays")
        return self.read(position % len(self))


class Joined(Lazy):
    """Several sequences, one after the other."""

    def __init__(self, *parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])
        self.lengths = np.concatenate([step_counts(part) for part in parts])
        first = parts[0]
        self.dim = first.dim if isinstance(first, Lazy) else (*first[0].shape, None)[1]
        numbers = [getattr(part, "blocks", None) for part in parts]
        if all(part is not None for part in numbers):  # each already counts the files of all splits
            self.blocks = np.concatenate(numbers)

    @property
    def moments(self) -> Moments:
        """Of all parts; each is read only if its own are not known, and joining costs no further pass."""
        return reduce(merged, map(moments_of, self.parts))

    def read(self, position: int) -> np.ndarray:
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.parts[part][position - int(self.starts[part])]


class Kept(Lazy):
    """The same arrays with some of their steps.

    Args:
        arrays: the sequence.
        kept: for each array, which of its steps are kept, (time,) boolean.
    """

    def __init__(self, arrays: Sequence[np.ndarray], kept: Sequence[np.ndarray]) -> None:
        self.arrays, self.kept = arrays, kept
        self.lengths = np.array([np.count_nonzero(steps) for steps in kept], np.int64)
        self.dim = width(arrays)
        self.blocks = getattr(arrays, "blocks", None)

    def read(self, position: int) -> np.ndarray:
        if self.lengths[position] == 0:
            return np.empty((0, self.dim or 0), np.float32)
        return self.arrays[position][self.kept[position]]
