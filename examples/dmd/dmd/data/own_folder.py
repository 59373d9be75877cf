"""Your own recordings, a folder of CSV or NumPy files, as the arrays of a file of ragged sequences."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def read_folder(source: Path) -> dict[str, np.ndarray]:
    """The arrays that :func:`dmd.data.ragged.read_ragged` describes, from the folder that docs/data.md describes.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    with (source / "samples.csv").open(newline="", encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    if not samples or not {"id", "split"} <= set(samples[0]) or not {"label", "value"} & set(samples[0]):
        raise ValueError(f"{source / 'samples.csv'} needs the columns id, split, and label or value, and some lines")
    for number, sample in enumerate(samples, start=2):
        if sample["split"] not in ("train", "valid", "test"):
            raise ValueError(f"samples.csv line {number}: split must be train, valid or test, got {sample['split']!r}")
    ids = [sample["id"] for sample in samples]
    if len(set(ids)) < len(ids):
        raise ValueError(f"samples.csv: id {next(name for name in ids if ids.count(name) > 1)!r} appears twice")
    arrays = {
        "ids": np.array([sample["id"] for sample in samples]),
        "split": np.array([sample["split"] for sample in samples]),
    }
    if "value" in samples[0]:
        arrays["regression_labels"] = np.array([float(sample["value"] or "nan") for sample in samples])
    else:
        labels = [sample["label"] for sample in samples]
        classes = sorted({label for label in labels if label})
        arrays["classes"] = np.array(classes, dtype=str)
        arrays["action"] = np.array([classes.index(label) if label else -100 for label in labels])
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != "."):
        if folder.name in arrays:
            raise ValueError(
                f"{folder}: a modality cannot be called '{folder.name}', the file has an entry of that name"
            )
        sequences = [_read_steps(folder, sample["id"]) for sample in samples]
        widths = {steps.shape[1] for steps in sequences if steps is not None}
        if len(widths) != 1:
            raise ValueError(f"{folder} must hold files of one width, got {sorted(widths)}")
        empty = np.empty((0, widths.pop()), np.float32)
        arrays[folder.name] = np.concatenate([empty, *(steps for steps in sequences if steps is not None)])
        arrays[f"{folder.name}_offsets"] = np.cumsum([0, *(0 if steps is None else len(steps) for steps in sequences)])
    return arrays


def _read_steps(folder: Path, sample_id: str) -> np.ndarray | None:
    if (path := folder / f"{sample_id}.npy").exists():
        steps = np.load(path, allow_pickle=False)
    elif (path := folder / f"{sample_id}.csv").exists():
        steps = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    else:
        return None
    if steps.ndim != 2 or steps.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold numbers (time, dim), got {steps.dtype} {steps.shape}")
    return steps.astype(np.float32)
