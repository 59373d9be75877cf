"""Folders of a user's own files: which of the two kinds one is, and its recordings."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from .array_columns import read_columns
from .array_folder import is_array_folder, modalities, read_array_folder
from .own_folder import LISTING, read_folder
from .ragged import from_arrays
from .recordings import LABEL_RANGES, UNLABELLED, Recordings, Split, arrays_sha256

NEW = "new"  # the split of samples that have no label


def read_own(
    source: Path, *, task: str | None = None, metrics: str | None = None
) -> tuple[dict[str, np.ndarray], Recordings]:
    """What a folder of arrays or of recordings holds, as the arrays of a file of ragged sequences and as recordings.

    Raises:
        FileNotFoundError: it is neither.
        ValueError, OSError: naming the file that is wrong.
    """
    if (source / LISTING).exists():
        arrays = read_folder(source)
    elif is_array_folder(source):
        arrays = read_array_folder(source, task=task, metrics=metrics)
    else:
        wanted = f"index.json: the file is missing, and so are {LISTING} and any .npy file"
        raise FileNotFoundError(f"{source}/{wanted}; docs/data.md describes the folders that can be read")
    checksum = arrays_sha256(arrays.values())
    return arrays, from_arrays(source, arrays, lambda: checksum, task=task, metrics=metrics)


def is_unlabelled_folder(data: str) -> bool:
    """Whether this is a folder of arrays without labels, which only :func:`read_new_samples` can read."""
    source = Path(data)
    return is_array_folder(source) and not any((source / f"labels{suffix}").exists() for suffix in (".npy", ".csv"))


def read_new_samples(source: Path, task: str, metrics: str, classes: tuple[str, ...]) -> Recordings:
    """The samples of a folder of arrays without labels, to be predicted, all in the split :data:`NEW`.

    Args:
        source: the folder.
        task, metrics, classes: of the model that is to predict them.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    columns = read_columns(source)
    ids = columns["id"].values.tolist() if "id" in columns else None
    counted = columns["id"].path.name if "id" in columns else ""
    arrays = modalities(source, None if ids is None else len(ids), counted)
    names = [name for name in arrays if not name.endswith("_offsets")]
    bounds = {name: list(pairwise(arrays[f"{name}_offsets"].tolist())) for name in names}
    inputs = {name: [arrays[name][start:stop] for start, stop in bounds[name]] for name in names}
    num_samples = len(bounds[names[0]])
    is_real = task == "regression"
    labels = np.full(num_samples, np.nan, np.float32) if is_real else np.full(num_samples, UNLABELLED, np.int64)
    split = Split(ids or [str(position) for position in range(num_samples)], inputs, labels)
    checksum = arrays_sha256(arrays.values())
    return Recordings({NEW: split}, task, metrics, classes, LABEL_RANGES[metrics], str(source), checksum)
