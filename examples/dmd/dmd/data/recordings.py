"""What every reader returns: splits of index-aligned samples, and what is to be predicted from them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPLITS = ("train", "valid", "test")
UNLABELLED = -100  # the class label that losses and metrics skip, as in torch.nn.functional.cross_entropy
LABEL_RANGES = {"mosi": (-3.0, 3.0), "sims": (-1.0, 1.0), "accuracy": None}


@dataclass(frozen=True)
class Split:
    """N samples; entry i of every field belongs to sample i.

    Attributes:
        ids: N strings.
        inputs: modality name -> N float32 arrays (time, dim); zero steps mean that the sample lacks the modality.
        labels: (N,) float32 with NaN = unlabelled (regression), or int64 with -100 = unlabelled (classification).
    """

    ids: list[str]
    inputs: dict[str, list[np.ndarray]]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Recordings:
    """The splits "train", "valid" and "test", and how they are to be judged.

    Attributes:
        splits: split name -> samples.
        task: "regression" or "classification".
        metrics: the metric suite, "mosi", "sims" or "accuracy".
        classes: class names in the order of the labels; empty for regression.
        label_range: lowest and highest possible label; None for classification.
        path: where the recordings come from.
        sha256: checksum of that file (of the arrays, where there is no file).
    """

    splits: dict[str, Split]
    task: str
    metrics: str
    classes: tuple[str, ...]
    label_range: tuple[float, float] | None
    path: str
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in the order of the file."""
        return tuple(self.splits["train"].inputs)

    @property
    def dims(self) -> dict[str, int]:
        """Modality name -> width of a step."""
        return {name: arrays[0].shape[1] for name, arrays in self.splits["train"].inputs.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Split name -> number of samples."""
        return {name: len(split) for name, split in self.splits.items()}


def require_classification(what: str, task: str | None, metrics: str | None) -> None:
    """Refuse a forced regression of recordings that have only classes."""
    if task not in (None, "classification") or metrics not in (None, "accuracy"):
        raise ValueError(
            f"{what} holds classes: task must be 'classification' and metrics 'accuracy', "
            f"got task {task!r} and metrics {metrics!r}"
        )


def file_sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Checksum of arrays, in hexadecimal; for recordings that no file holds."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
