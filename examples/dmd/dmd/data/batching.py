"""From a split to batches: padding, masks, a seeded order, and the statistics for standardisation."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .moments import moments_of
from .order import STAND_IN, BatchOrder
from .recordings import Split
from .sequences import step_counts


class Batch(NamedTuple):
    """Samples of one batch, padded with zeros to the longest.

    Attributes:
        inputs: modality name -> (batch, time, dim) float32; at least one step.
        masks: modality name -> (batch, time), True = a real step; a row without one = an absent modality.
        labels: (batch,) float32 (NaN = unlabelled) or int64 (-100 = unlabelled).
        index: (batch,) position of each sample in its split; -1 where the row stands for none, see
            :class:`dmd.data.order.BatchOrder`.
        tokens: (batch, time) int64 token ids beside the steps of `language`; None where the split has none.
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    labels: Tensor
    index: Tensor
    tokens: Tensor | None = None


def collate(split: Split, positions: list[int], num_steps: Mapping[str, int] | None = None) -> Batch:
    """Put the samples at these positions of a split into one batch, padded to its longest, or to ``num_steps``.

    Raises:
        ValueError: no positions.
    """
    if not positions:
        raise ValueError("a batch needs at least one sample, got none")
    index = torch.tensor(positions)
    positions = [0 if position == STAND_IN else position for position in positions]
    inputs: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    # Read once, and sample by sample: what a file holds of a sample lies together.
    read = [{name: arrays[position] for name, arrays in split.inputs.items()} for position in positions]
    for name in split.inputs:
        samples = [sample[name] for sample in read]
        lengths = np.array([len(sample) for sample in samples])
        steps, dim = max(1, lengths.max()) if num_steps is None else num_steps[name], samples[0].shape[1]
        padded = np.zeros((len(positions), steps, dim), np.float32)  # (batch, time, dim)
        for row, sample in enumerate(samples):
            padded[row, : len(sample)] = sample
        inputs[name] = torch.from_numpy(padded)
        masks[name] = torch.from_numpy(np.arange(steps) < lengths[:, None])  # (batch, time)
    tokens = None
    if split.tokens is not None and "language" in masks:
        padded = np.zeros(masks["language"].shape, np.int64)  # (batch, time)
        spoken = masks["language"].sum(dim=1)  # (batch,)
        for row, position in enumerate(positions):
            steps = split.tokens[position][: int(spoken[row])]
            padded[row, : len(steps)] = steps
        tokens = torch.from_numpy(padded)
    return Batch(inputs, masks, torch.from_numpy(split.labels[positions]), index, tokens)


def longest(split: Split) -> dict[str, int]:
    """Steps of each modality's longest sample, at least 1."""
    return {name: max(1, int(step_counts(arrays).max())) for name, arrays in split.inputs.items()}


def lengths(split: Split) -> np.ndarray:
    """Steps of each sample in all its modalities, (N,); no sample is read."""
    return np.sum([step_counts(arrays) for arrays in split.inputs.values()], axis=0)


def blocks(split: Split) -> np.ndarray | None:
    """The file that each sample is read from, (N,), where samples are read when they are needed; else None."""
    sequences = (*split.inputs.values(), split.tokens)  # the inputs may be in memory where the tokens are not
    return next((found for x in sequences if (found := getattr(x, "blocks", None)) is not None), None)


def training_loader(
    split: Split,
    batch_size: int,
    *,
    seed: int = 0,
    bucket: bool = False,
    process_index: int = 0,
    num_processes: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
    full_length: bool = False,
) -> DataLoader[Batch]:
    """Batches in the order of a :class:`BatchOrder`, its ``batch_sampler``; with `bucket`, of samples of like length.

    With `full_length`, each batch is padded to the longest sample of the split instead of its own. With `pin_memory`, a
    copy to a GPU need not be waited for. The other arguments are as there, and in a DataLoader.
    """
    order = BatchOrder(
        len(split),
        batch_size,
        seed=seed,
        lengths=lengths(split) if bucket else None,
        blocks=blocks(split),
        process_index=process_index,
        num_processes=num_processes,
    )
    return DataLoader(
        [*range(len(split)), STAND_IN],  # so that position -1 of it is the stand-in, as of a mere range it is not
        batch_sampler=order,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=partial(collate, split, num_steps=longest(split) if full_length else None),
    )


def make_loader(split: Split, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> DataLoader[Batch]:
    """Batches of a split; nothing is left out, the last batch may be smaller.

    With `shuffle`, the order of the first pass depends on the seed alone, and each later pass has another order. A run
    trains with a :func:`training_loader`, whose order of any epoch follows from the seed.

    Raises:
        ValueError: `batch_size` below 1, or an empty split.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(split) == 0:
        raise ValueError("make_loader needs a split with samples, got an empty one")
    return DataLoader(
        range(len(split)),  # pyright: ignore[reportArgumentType]  (any sequence is a map-style data set)
        batch_size=batch_size,
        shuffle=shuffle,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=partial(collate, split),
    )


def standardization_statistics(split: Split, *, centred: bool = False) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of every column over all real steps of a split.

    With `centred`, the deviation is that of each sample around its own mean. Constant columns, and modalities without
    one real step, get standard deviation 1, so that dividing by it is safe.

    Returns:
        Modality name -> (mean, standard deviation), each (dim,) float32.
    """
    statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, arrays in split.inputs.items():
        moments = moments_of(arrays)
        squares = moments.within if centred else moments.squares
        std = np.sqrt(squares / max(1, moments.count))
        # Rounding gives a constant column a tiny spread; beside its size or its neighbours' spread it is none.
        is_constant = std <= 1e-7 * np.maximum(np.abs(moments.mean), np.median(std))
        std = np.where(is_constant, 1.0, std)
        statistics[name] = (moments.mean.astype(np.float32), std.astype(np.float32))
    return statistics
