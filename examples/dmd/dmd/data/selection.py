"""The same recordings with fewer modalities, or with labels that say nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .recordings import UNLABELLED, Recordings, Split


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
        known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != UNLABELLED
        labels[known] = generator.permutation(labels[known])
        return replace(part, labels=labels)

    splits = {split: part if split == "test" else shuffled(part) for split, part in recordings.splits.items()}
    return replace(recordings, splits=splits)
