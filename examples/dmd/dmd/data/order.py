"""The batches of an epoch: which samples, in which order, and which process gets which of them.

All of it follows from seed and epoch, so that a run can stop after any batch and go on, also with another number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

STAND_IN = -1  # stands for no sample, where a process has none of a batch: every process must have a row
WINDOW = 100  # batches among which samples of like length are looked for
BLOCKS = 4  # blocks, such as files, whose samples are mixed


class BatchOrder(Sampler[list[int]]):
    """A batch sampler: every sample once an epoch.

    A global batch has ``batch_size * num_processes`` samples, the last of an epoch may have fewer. The processes cut it
    into parts that differ by one sample at most; a process for which none is left gets ``[STAND_IN]``.

    Args:
        size: number of samples.
        batch_size: samples a batch and process.
        seed: of the order.
        lengths: (size,) length of each sample; batches are then made of samples of like length. None: of any length.
        blocks: (size,) number of the block that each sample lies in; only a few blocks are then read at a time.
        process_index, num_processes: whose part to give.

    Example:
        >>> order = BatchOrder(10, 4, seed=1)
        >>> order.start(epoch=3)
        >>> batches = list(order)
        >>> [len(batch) for batch in batches]
        [4, 4, 2]
        >>> order.start(epoch=3, seen=4)
        >>> list(order) == batches[1:]
        True
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        lengths: np.ndarray | None = None,
        blocks: np.ndarray | None = None,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if size < 1:
            raise ValueError("an order needs samples, got none")
        self.size, self.global_batch, self.seed = size, batch_size * num_processes, seed
        self.lengths, self.blocks = lengths, blocks
        self.process_index, self.num_processes = process_index, num_processes
        self.start(1)

    def start(self, epoch: int, *, seen: int = 0, bucket: int | None = None) -> None:
        """Set the epoch, and how many of its samples are done.

        Args:
            epoch: any whole number from 0.
            seen: samples of this epoch to leave out.
            bucket: samples of like length that stand together; by default a global batch. An epoch that was begun with
                another number of processes is gone on with in the order that it was begun with.
        """
        self.epoch, self.seen, self.bucket = epoch, seen, bucket or self.global_batch

    def sizes(self) -> list[int]:
        """Samples of each global batch that is left."""
        left = self.size - self.seen
        return [min(self.global_batch, left - done) for done in range(0, left, self.global_batch)]

    def share(self, num_samples: int) -> float:
        """How much this process's mean counts in that over a global batch of so many samples; 1 is an even share."""
        return len(self._part(np.arange(num_samples))) * self.num_processes / num_samples

    def __len__(self) -> int:
        return len(self.sizes())

    def __iter__(self) -> Iterator[list[int]]:
        left = self._positions()[self.seen :]
        for begin in range(0, len(left), self.global_batch):
            yield self._part(left[begin : begin + self.global_batch]).tolist() or [STAND_IN]

    def _part(self, positions: np.ndarray) -> np.ndarray:
        return np.array_split(positions, self.num_processes)[self.process_index]

    def _positions(self) -> np.ndarray:
        """All samples of the epoch, in order."""
        generator = np.random.default_rng((self.seed, self.epoch))
        windows = self._windows(generator)
        if self.lengths is None:
            return np.concatenate(windows)
        done, rest = [], np.empty(0, np.int64)
        for window in windows:
            window = np.concatenate([rest, window])
            whole = len(window) // self.bucket * self.bucket
            window, rest = window[:whole], window[whole:]  # so that batches and buckets begin together
            buckets = window[np.argsort(self.lengths[window], kind="stable")].reshape(-1, self.bucket)
            done.append(generator.permuted(buckets, axis=1)[generator.permutation(len(buckets))].ravel())
        return np.concatenate([*done, rest])

    def _windows(self, generator: np.random.Generator) -> list[np.ndarray]:
        """Random samples, in parts from which batches are made."""
        if self.blocks is not None:
            numbers = generator.permutation(np.unique(self.blocks))
            groups = [numbers[begin : begin + BLOCKS] for begin in range(0, len(numbers), BLOCKS)]
            return [generator.permutation(np.flatnonzero(np.isin(self.blocks, group))) for group in groups]
        order = generator.permutation(self.size)
        step = self.size if self.lengths is None else WINDOW * self.bucket
        return [order[begin : begin + step] for begin in range(0, self.size, step)]
