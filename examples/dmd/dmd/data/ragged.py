"""Sequences of any length in one `.npz` (UTD-MHAD's layout): all steps in a row, and where each recording begins."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from .recordings import (
    LABEL_RANGES,
    SPLITS,
    UNLABELLED,
    Recordings,
    Split,
    file_sha256,
    finite_float32,
    readable,
    regression_labels,
    resolve_task,
    texts,
    warn_replaced,
)
from .safe_npz import read_arrays


def read_ragged(path: Path, *, task: str | None = None, metrics: str | None = None) -> Recordings:
    """Read ragged recordings.

    The file holds for each modality `<name>` (all steps, dim) and `<name>_offsets` (N + 1,): recording i has the steps
    from offset i to offset i + 1, none if it lacks the modality. Labels are classes, `action` (N,) whole numbers with
    -100 = unlabelled, or real, `regression_labels` (N,) with NaN = unlabelled. `subject` (N,) says who was recorded:
    even subjects are test, subject 7 is valid, the other odd ones are train, so nobody is in two splits. Optional:
    `ids` (N,), `raw_text` (N,) transcripts, `classes` (the names of the classes 0, 1, ...), and `split` (N,) with
    "train", "valid" or "test", which replaces `subject`.

    Args:
        path: the file.
        task: force "regression" or "classification", where the file has both kinds of label.
        metrics: force "sims" (labels in [-1, 1]); real labels otherwise go with "mosi" ([-3, 3]).

    Raises:
        ValueError: naming the file and the key that are wrong.
    """
    checksum = file_sha256(path)
    return from_arrays(path, read_arrays(path), checksum.result, task=task, metrics=metrics)


def from_arrays(
    path: Path,
    arrays: dict[str, np.ndarray],
    checksum: Callable[[], str],
    *,
    task: str | None = None,
    metrics: str | None = None,
) -> Recordings:
    """Recordings of the arrays that :func:`read_ragged` describes.

    Args:
        path: where they come from, for messages.
        arrays: key -> array.
        checksum: gives that of the recordings, asked for when the arrays have been read.
        task, metrics: as there.

    Raises:
        ValueError: naming the path and the key that are wrong.
    """
    names = [key.removesuffix("_offsets") for key in arrays if key.endswith("_offsets")]
    if not names:
        raise ValueError(f"{path}: has no key '<modality>_offsets'; got {sorted(arrays)}")
    task = resolve_task(task, metrics, has_values="regression_labels" in arrays)
    metrics = metrics or ("accuracy" if task == "classification" else "mosi")
    if task == "regression":
        values = _column(path, arrays, "regression_labels", "iuf")
        labels, classes = regression_labels(f"{path}, key 'regression_labels'", values, metrics), ()
    else:
        labels, classes = _class_labels(path, arrays)
    num_samples = len(labels)
    ids = _texts(path, arrays, "ids", num_samples) if "ids" in arrays else [str(i) for i in range(num_samples)]
    split_of = _split_of(path, arrays, num_samples)
    replaced: dict[str, int] = {}
    inputs = {name: _sequences(path, arrays, name, num_samples, replaced) for name in names}
    transcripts = readable(arrays.get("raw_text"), num_samples)
    splits: dict[str, Split] = {}
    for split in SPLITS:
        chosen = np.flatnonzero(split_of == split)
        if len(chosen) == 0:
            raise ValueError(f"{path}: split '{split}' has no samples")
        splits[split] = Split(
            [ids[i] for i in chosen],
            {name: [sequences[i] for i in chosen] for name, sequences in inputs.items()},
            labels[chosen],
            transcripts=[transcripts[i] for i in chosen] if transcripts else None,
        )
    warn_replaced(path, replaced)
    return Recordings(splits, task, metrics, classes, LABEL_RANGES[metrics], str(path), checksum())


def _column(path: Path, arrays: dict[str, np.ndarray], key: str, kinds: str, size: int | None = None) -> np.ndarray:
    """A one-dimensional array; of the dtype kinds "U" (strings), "iu" (whole numbers) or "iuf" (numbers)."""
    if key not in arrays:
        raise ValueError(f"{path}: lacks the key '{key}'")
    column = arrays[key]
    if column.ndim != 1 or len(column) == 0 or (size is not None and len(column) != size):
        raise ValueError(f"{path}, key '{key}': must have shape ({'N' if size is None else size},), got {column.shape}")
    if column.dtype.kind not in kinds:
        wanted = {"U": "strings", "iu": "whole numbers", "iuf": "numbers"}[kinds]
        raise ValueError(f"{path}, key '{key}': must hold {wanted}, got dtype {column.dtype}")
    return column


def _texts(path: Path, arrays: dict[str, np.ndarray], key: str, size: int | None = None) -> list[str]:
    return texts(f"{path}, key '{key}'", _column(path, arrays, key, "U", size).tolist())


def _class_labels(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    action = _column(path, arrays, "action", "iu").astype(np.int64)
    is_labelled = action != UNLABELLED
    if "classes" not in arrays:  # the numbers that occur are the classes, wherever they begin
        values, numbers = np.unique(action[is_labelled], return_inverse=True)
        labels = np.full(len(action), UNLABELLED, np.int64)
        labels[is_labelled] = numbers
        return labels, tuple(str(value) for value in values)
    classes = tuple(_texts(path, arrays, "classes"))
    is_wrong = is_labelled & ((action < 0) | (action >= len(classes)))
    if is_wrong.any():
        raise ValueError(f"{path}, key 'action': must lie in 0 to {len(classes) - 1}, got {action[is_wrong][0]}")
    return action, classes


def _split_of(path: Path, arrays: dict[str, np.ndarray], num_samples: int) -> np.ndarray:
    if "split" in arrays:
        split_of = _column(path, arrays, "split", "U", num_samples)
        unknown = ~np.isin(split_of, SPLITS)
        if unknown.any():
            raise ValueError(
                f"{path}, key 'split': must be 'train', 'valid' or 'test', got {split_of[unknown].tolist()[0]!r:.60}"
            )
        return split_of
    subject = _column(path, arrays, "subject", "iu", num_samples)
    return np.where(subject % 2 == 0, "test", np.where(subject == 7, "valid", "train"))


def _sequences(
    path: Path, arrays: dict[str, np.ndarray], name: str, num_samples: int, replaced: dict[str, int]
) -> list[np.ndarray]:
    offsets = _column(path, arrays, f"{name}_offsets", "iu", num_samples + 1).astype(np.int64)
    if name not in arrays:
        raise ValueError(f"{path}: lacks the key '{name}' that '{name}_offsets' belongs to")
    steps = arrays[name]
    if steps.ndim != 2 or steps.shape[1] == 0 or steps.dtype.kind not in "iuf":
        raise ValueError(f"{path}, key '{name}': must be numbers (steps, dim), got {steps.dtype} {steps.shape}")
    if offsets[0] != 0 or offsets[-1] != len(steps) or (np.diff(offsets) < 0).any():
        raise ValueError(f"{path}, key '{name}_offsets': must rise from 0 to {len(steps)}, the number of steps")
    steps, replaced[name] = finite_float32(steps)
    return [steps[start:end] for start, end in pairwise(offsets)]
