"""Your own recordings, a folder of CSV or NumPy files, as the arrays of a file of ragged sequences."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from .recordings import reason_of

LISTING = "samples.csv"


def read_folder(source: Path) -> dict[str, np.ndarray]:
    """The arrays that :func:`dmd.data.ragged.read_ragged` describes, from the folder that docs/data.md describes.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    listing = source / LISTING
    samples = _read_listing(source, listing)
    arrays = {
        "ids": np.array([sample["id"] for sample in samples]),
        "split": np.array([sample["split"] for sample in samples]),
    }
    if "value" in samples[0]:
        values = [_number(listing, line, sample["value"]) for line, sample in enumerate(samples, start=2)]
        arrays["regression_labels"] = np.array(values)
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
        sequences = [_read_steps(source, folder, sample["id"]) for sample in samples]
        widths = {steps.shape[1] for steps in sequences if steps is not None}
        if len(widths) != 1:
            raise ValueError(f"{folder} must hold files of one width, got {sorted(widths)}")
        empty = np.empty((0, widths.pop()), np.float32)
        arrays[folder.name] = np.concatenate([empty, *(steps for steps in sequences if steps is not None)])
        arrays[f"{folder.name}_offsets"] = np.cumsum([0, *(0 if steps is None else len(steps) for steps in sequences)])
    return arrays


def _read_listing(source: Path, listing: Path) -> list[dict[str, str]]:
    """The lines of samples.csv, with splits that exist and ids that are names of files, each once."""
    require_inside(source, listing)
    try:
        with listing.open(newline="", encoding="utf-8") as file:
            samples = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{listing}: cannot be read as CSV in UTF-8: {error}") from error
    if not samples or not {"id", "split"} <= set(samples[0]) or not {"label", "value"} & set(samples[0]):
        raise ValueError(f"{listing} needs the columns id, split, and label or value, and some lines")
    for line, sample in enumerate(samples, start=2):
        if sample["split"] not in ("train", "valid", "test"):
            raise ValueError(f"{listing} line {line}: split must be train, valid or test, got {sample['split']!r}")
        sample_id = sample["id"]
        if sample_id in (None, "", ".", "..") or set(sample_id) & set("/\\\0"):  # it becomes part of a path
            raise ValueError(f"{listing} line {line}, column 'id': must be a plain file name, got {sample_id!r:.60}")
    ids = [sample["id"] for sample in samples]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{listing}: id {next(name for name in ids if ids.count(name) > 1)!r} appears twice")
    return samples


def _number(listing: Path, line: int, text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        wanted = "must be a number, or empty where unknown"
        raise ValueError(f"{listing} line {line}, column 'value': {wanted}, got {text!r:.60}") from None


def require_inside(folder: Path, path: Path) -> None:
    """Refuse links that lead elsewhere, and what is no file: a pipe in a stranger's folder would be waited for.

    A folder from a stranger must not bring in other files of this machine.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: must stay inside {folder}, got a link to {path.resolve()}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: must be a file")


def _read_steps(source: Path, folder: Path, sample_id: str) -> np.ndarray | None:
    paths = [folder / f"{sample_id}.npy", folder / f"{sample_id}.csv"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    require_inside(source, path)
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                steps = np.lib.format.read_array(file, allow_pickle=False)
        else:
            steps = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except OSError:
        raise
    except Exception as error:  # numpy has many errors for a damaged file, and few name it
        raise ValueError(f"{path}: cannot be read as {path.suffix}: {reason_of(error)}") from error
    if steps.ndim != 2 or steps.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold numbers (time, dim), got {steps.dtype} {steps.shape}")
    return steps.astype(np.float32)
