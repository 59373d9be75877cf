"""What every reader returns: splits of index-aligned samples, and what is to be predicted from them."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..durable import sha256_of
from .sequences import step_counts, width

SPLITS = ("train", "valid", "test")
LONGEST_TEXT = 1000  # letters of an id or of a class's name
UNLABELLED = -100  # the class label that losses and metrics skip, as in torch.nn.functional.cross_entropy
LABEL_RANGES: dict[str, tuple[float, float] | None] = {"mosi": (-3.0, 3.0), "sims": (-1.0, 1.0), "accuracy": None}


@dataclass(frozen=True)
class Split:
    """N samples; entry i of every field belongs to sample i.

    Attributes:
        ids: N strings.
        inputs: modality name -> N float32 arrays (time, dim); zero steps mean that the sample lacks the modality. A
            list, or a sequence that reads an array when it is asked for (:class:`dmd.data.sequences.Lazy`).
        labels: (N,) float32 with NaN = unlabelled (regression), or int64 with -100 = unlabelled (classification).
        tokens: N int64 arrays (time,), the token ids of `language`; None where the file has none.
        transcripts: N strings, what was said, for people to read; None where the file has none.
    """

    ids: list[str]
    inputs: dict[str, Sequence[np.ndarray]]
    labels: np.ndarray
    tokens: Sequence[np.ndarray] | None = None
    transcripts: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Recordings:
    """The splits "train", "valid" and "test", and how they are to be judged.

    Attributes:
        splits: split name -> samples; samples without labels, to be predicted, have one split alone.
        task: "regression" or "classification".
        metrics: the metric suite, "mosi", "sims" or "accuracy".
        classes: class names in the order of the labels; empty for regression.
        label_range: lowest and highest possible label; None for classification.
        path: where the recordings come from.
        sha256: checksum of that file (of the arrays, where there is no file).
        encoder: what identifies the text encoder that `language` comes from; None where it comes from the file.
    """

    splits: dict[str, Split]
    task: str
    metrics: str
    classes: tuple[str, ...]
    label_range: tuple[float, float] | None
    path: str
    sha256: str
    encoder: dict[str, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in the order of the file."""
        return tuple(next(iter(self.splits.values())).inputs)

    @property
    def dims(self) -> dict[str, int]:
        """Modality name -> width of a step."""
        first = next(iter(self.splits.values()))
        return {name: width(arrays) for name, arrays in first.inputs.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Split name -> number of samples."""
        return {name: len(split) for name, split in self.splits.items()}

    def overview(self) -> str:
        """What was read, for people: a line of samples and labels, and a line a modality."""
        counts = ", ".join(f"{size} {name}" for name, size in self.sizes.items())
        labels = np.concatenate([split.labels[is_labelled(split)] for split in self.splits.values()])
        hidden = sum(self.sizes.values()) - len(labels)
        shown = [*self.classes[:8], f"... ({len(self.classes)} in all)"] if len(self.classes) > 9 else self.classes
        what = ", ".join(shown) or (f"labels from {labels.min():g} to {labels.max():g}" if len(labels) else "no labels")
        lines = [f"samples: {counts}; {self.task}: {what}" + (f"; {hidden} unlabelled" if hidden else "")]
        for name, dim in self.dims.items():
            steps = np.concatenate([step_counts(split.inputs[name]) for split in self.splits.values()])
            fewest, most, absent = steps[steps > 0].min(), steps.max(), np.count_nonzero(steps == 0)
            length = f"{most} {'step' if most == 1 else 'steps'}" if fewest == most else f"{fewest} to {most} steps"
            lines.append(f"{name}: {length} of {dim} numbers" + (f"; absent in {absent}" if absent else ""))
        return "\n".join(lines)


def is_labelled(samples: Split) -> np.ndarray:
    """(N,), True where the label is known."""
    return ~np.isnan(samples.labels) if samples.labels.dtype.kind == "f" else samples.labels != UNLABELLED


def resolve_task(task: str | None, metrics: str | None, *, has_values: bool) -> str:
    """The task: as forced, as the forced metrics ask, or regression where there are real labels.

    Raises:
        ValueError: a task and metrics that do not go together.
    """
    if task is None:
        task = "regression" if has_values and metrics != "accuracy" else "classification"
    if metrics is not None and (task == "classification") != (metrics == "accuracy"):
        raise ValueError(f"metrics 'accuracy' goes with task 'classification' only, got {metrics!r} with {task!r}")
    return task


def regression_labels(where: str, labels: np.ndarray, metrics: str) -> np.ndarray:
    """Labels as float32, NaN = unlabelled.

    Raises:
        ValueError: a label outside the range of the metric suite.
    """
    low, high = LABEL_RANGES[metrics] or (-np.inf, np.inf)
    is_outside = (labels < low) | (labels > high)  # NaN is neither
    if is_outside.any():
        raise ValueError(
            f"{where}: labels must lie in [{low:g}, {high:g}] (metrics '{metrics}'), got {labels[is_outside][0]:g}"
        )
    return labels.astype(np.float32)


def texts(where: str, entries: Iterable[Any]) -> list[str]:
    """Ids or names of classes as text that files and messages can hold.

    Raises:
        ValueError: an entry is no text or number, is longer than `LONGEST_TEXT`, or is text that cannot be written.
    """
    found: list[str] = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, str | bytes | int | float | np.generic):
            raise ValueError(f"{where}: must be a list of strings, got a {type(entry).__name__} at position {position}")
        text = str(entry)[: LONGEST_TEXT + 1]
        if len(text) > LONGEST_TEXT or any("\ud800" <= letter <= "\udfff" for letter in text):
            wanted = f"text of at most {LONGEST_TEXT} letters that can be written"
            raise ValueError(f"{where}: must be {wanted}, got something else at position {position}")
        found.append(text)
    return found


def readable(entries: Any, count: int) -> list[str] | None:
    """Transcripts, shortened to `LONGEST_TEXT`; None where there is not one text a sample.

    No network reads them, so that a file whose transcripts are unusable is still of use.
    """
    if not isinstance(entries, list | tuple | np.ndarray) or len(entries) != count:
        return None
    if not all(isinstance(entry, str) for entry in entries):
        return None
    return [str(entry)[:LONGEST_TEXT].encode("utf-8", "replace").decode() for entry in entries]


def finite_float32(features: np.ndarray) -> tuple[np.ndarray, int]:
    """As float32 with 0 for NaN and infinite values, and how many they were; a copy only where something changes."""
    with np.errstate(over="ignore", invalid="ignore"):
        features = features.astype(np.float32, copy=False)
        if np.isfinite(features.sum()):  # half the time of looking at every value, and no value could hide in it
            return features, 0
    is_finite = np.isfinite(features)
    return np.where(is_finite, features, np.float32(0)), int(is_finite.size - is_finite.sum())


def warn_replaced(path: Path, counts: Mapping[str, int]) -> None:
    """One warning a file, with the number of replaced values of each key."""
    if any(counts.values()):
        text = ", ".join(f"{count} in '{key}'" for key, count in counts.items() if count)
        warnings.warn(f"{path}: NaN and infinite values replaced by 0: {text}", stacklevel=3)


def require_classification(what: str, task: str | None, metrics: str | None) -> None:
    """Refuse a forced regression of recordings that have only classes."""
    if task not in (None, "classification") or metrics not in (None, "accuracy"):
        raise ValueError(
            f"{what} holds classes: task must be 'classification' and metrics 'accuracy', "
            f"got task {task!r} and metrics {metrics!r}"
        )


def reason_of(error: Exception) -> str:
    """What a damaged file's error says, on one line; its kind where it says nothing."""
    return " ".join(str(error)[:400].split()) or type(error).__name__


def file_sha256(path: Path) -> Future[str]:
    """Checksum of a file, in hexadecimal, taken while the caller reads it: hashing leaves the interpreter free."""
    pool = ThreadPoolExecutor(1)
    checksum = pool.submit(sha256_of, path)
    pool.shutdown(wait=False)
    return checksum


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Checksum of arrays, in hexadecimal; for recordings that no file holds."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
