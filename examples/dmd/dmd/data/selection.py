"""The same recordings with fewer modalities, fewer labels, labels that say nothing, or other splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .recordings import UNLABELLED, Recordings, Split, is_labelled
from .sequences import Joined

if TYPE_CHECKING:
    from ..config import RunConfig


def for_training(recordings: Recordings, config: RunConfig) -> Recordings:
    """What a run with this configuration trains on.

    Raises:
        ValueError: as :func:`only` does.
    """
    recordings = only(recordings, config.modalities)
    if config.shuffle_labels:
        recordings = with_shuffled_labels(recordings, config.seed)
    recordings = with_labelled_fraction(recordings, config.labelled_fraction, config.seed)
    if config.train_on == "train":
        return recordings
    both = joined(recordings.splits["train"], recordings.splits["valid"])
    return replace(recordings, splits=recordings.splits | {"train": both})


def only(recordings: Recordings, names: Sequence[str] | None) -> Recordings:
    """The recordings with these modalities alone, in their own order; None: all.

    Raises:
        ValueError: no name, a name twice, or one that the recordings do not have.
    """
    if names is None:
        return recordings
    known = recordings.names
    if not names or len(set(names)) < len(names):
        raise ValueError(f"modalities must name at least one modality, and each once, got {list(names)}")
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"modalities names {', '.join(unknown)}; {recordings.path} has {', '.join(known)}")
    kept = [name for name in known if name in names]
    splits = {
        split: replace(part, inputs={name: part.inputs[name] for name in kept})
        for split, part in recordings.splits.items()
    }
    return replace(recordings, splits=splits)


def with_shuffled_labels(recordings: Recordings, seed: int) -> Recordings:
    """A control: the known labels of train, and those of valid, in a random order; test keeps its own.

    What a model still finds with such labels, it has not learned from the task.
    """
    generator = np.random.default_rng(seed)

    def shuffled(part: Split) -> Split:
        labels = part.labels.copy()
        known = is_labelled(part)
        labels[known] = generator.permutation(labels[known])
        return replace(part, labels=labels)

    splits = {split: part if split == "test" else shuffled(part) for split, part in recordings.splits.items()}
    return replace(recordings, splits=splits)


def with_labelled_fraction(recordings: Recordings, fraction: float, seed: int) -> Recordings:
    """Keep the labels of a share of the training samples, and hide the others; of every class alike.

    Of each class, and of all samples where labels are numbers, `fraction` keep their label, rounded, and at least one.
    """
    if fraction == 1:
        return recordings
    generator = np.random.default_rng(seed)
    part = recordings.splits["train"]
    known = is_labelled(part)
    is_real = part.labels.dtype.kind == "f"
    classes = [known] if is_real else [part.labels == label for label in np.unique(part.labels[known])]
    labels = np.full_like(part.labels, np.nan if is_real else UNLABELLED)
    for group in map(np.flatnonzero, classes):
        kept = generator.permutation(group)[: max(1, round(fraction * len(group)))]
        labels[kept] = part.labels[kept]
    return replace(recordings, splits=recordings.splits | {"train": replace(part, labels=labels)})


def joined(first: Split, second: Split) -> Split:
    """The samples of two splits as one."""
    inputs = {name: Joined(arrays, second.inputs[name]) for name, arrays in first.inputs.items()}
    ids, labels = first.ids + second.ids, np.concatenate([first.labels, second.labels])
    has_tokens = first.tokens is not None and second.tokens is not None
    return Split(ids, inputs, labels, Joined(first.tokens, second.tokens) if has_tokens else None)
