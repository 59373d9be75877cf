"""Labels, splits, ids and groups beside a folder's arrays: one thing a sample, from `.npy` or `.csv` files."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .own_folder import require_inside
from .pickle_limits import with_real_letters
from .recordings import SPLITS, UNLABELLED, reason_of, regression_labels, resolve_task, texts

# File stem -> the column that a .npy of this name is. A .csv has named columns, of which it must have one of these.
COLUMNS = {
    "labels": ("label", "value"),
    "ids": ("id",),
    "split": ("split",),
    "splits": ("split",),
    "groups": ("group",),
}
KNOWN = tuple(dict.fromkeys(name for names in COLUMNS.values() for name in names))


@dataclass(frozen=True)
class Column:
    """One thing of each sample, and the file it comes from."""

    path: Path
    values: np.ndarray  # (N,)


def is_column(path: Path) -> bool:
    """Whether a file is one of those that :func:`read_columns` reads."""
    return path.stem in COLUMNS and path.suffix in (".npy", ".csv")


def read_columns(source: Path) -> dict[str, Column]:
    """The columns "label" or "value", "id", "split" and "group" that a folder has, in one order of samples.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    # labels.* before splits.*, so that where several files have ids, the order is that of ids.*, else that of labels.*
    paths = [source / f"{stem}{suffix}" for stem in ("ids", *COLUMNS) for suffix in (".npy", ".csv")]
    found: dict[str, Column] = {}
    for path in filter(Path.exists, dict.fromkeys(paths)):
        require_inside(source, path)
        columns = _read_csv(path) if path.suffix == ".csv" else {COLUMNS[path.stem][0]: read_array(path)}
        for name, values in columns.items():
            if values.ndim > 1 and values.size == len(values):
                columns[name] = values.reshape(-1)  # (N, 1), as frameworks like to save labels
            elif values.ndim != 1:
                hint = "; of one-hot rows take the argmax" if name == "label" else ""
                raise ValueError(f"{path}: must have shape (samples,), got {values.shape}{hint}")
        if "id" in columns:
            columns["id"] = _ids(path, columns["id"])
            if "id" in found and path.suffix == ".csv":
                order = _order(path, columns.pop("id"), found["id"])
                columns = {name: values[order] for name, values in columns.items()}
        for name, values in columns.items():
            other = {"label": "value", "value": "label"}.get(name, name)
            if (before := found.get(name) or found.get(other)) is not None:
                raise ValueError(f"{path}: gives the column '{name}', but {before.path} gives '{other}' already")
            found[name] = Column(path, values)
    return found


def read_labels(column: Column, task: str | None, metrics: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Real labels with NaN = unlabelled and no classes, or classes (-100 = unlabelled) and their names.

    Numbers with a fraction, or of a floating dtype, are real labels; whole numbers and words are classes. A forced
    task decides where both are possible.

    Raises:
        ValueError: naming the file.
    """
    path, values = column.path, column.values
    if values.dtype.kind not in "iufbU":
        raise ValueError(f"{path}: must hold numbers or class names, got dtype {values.dtype}")
    numbers = _numbers(values)
    if resolve_task(task, metrics, has_values=_is_real(values, numbers)) == "regression":
        if numbers is None:
            raise ValueError(f"{path}: holds words, which are classes, but the task is regression")
        try:
            labels = regression_labels(str(path), numbers, metrics or "mosi")
        except ValueError as error:
            raise ValueError(f"{error}; map yours first, such as 6 * (y - low) / (high - low) - 3") from None
        known = labels[~np.isnan(labels)]
        if len(known) == 0:
            raise ValueError(f"{path}: no sample has a label")
        if task is None and metrics is None and values.dtype.kind == "f" and (known % 1 == 0).all():
            how = "--task classification takes them as classes, --task regression says that values are meant"
            warnings.warn(f"{path}: its whole numbers are floating, and taken as values; {how}", stacklevel=2)
        return labels, ()
    if numbers is None:
        names, known = values, values != ""
    else:
        known = ~np.isnan(numbers) & (numbers != UNLABELLED)
        if (numbers[known] % 1 != 0).any():
            raise ValueError(f"{path}: classes must be words or whole numbers, got {numbers[known][0]:g}")
        # Whole numbers beyond 2^53, such as hashes, would fall together as float64.
        names = values if values.dtype.kind in "iu" else np.where(known, numbers, 0).astype(np.int64)
    if not known.any():
        raise ValueError(f"{path}: no sample has a label")
    classes, positions = np.unique(names[known], return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{path}: must have two classes at least, got only {str(classes[0])!r:.60}")
    labels = np.full(len(values), UNLABELLED, np.int64)
    labels[known] = positions
    return labels, tuple(texts(str(path), classes.tolist()))


def check_splits(column: Column) -> np.ndarray:
    """The split of each sample.

    Raises:
        ValueError: naming the file.
    """
    wanted = f"{column.path}: split must be train, valid or test"
    if column.values.dtype.kind != "U":
        raise ValueError(f"{wanted}, got dtype {column.values.dtype}")
    wrong = np.flatnonzero(~np.isin(column.values, SPLITS))
    if len(wrong):
        raise ValueError(f"{wanted}, got {column.values[wrong[0]].item()!r:.60} for sample {wrong[0]}")
    if missing := [split for split in SPLITS if split not in column.values]:
        raise ValueError(f"{column.path}: split '{missing[0]}' has no samples")
    return column.values


def read_array(path: Path) -> np.ndarray:
    """An `.npy`, mapped into memory; nothing in it is ever run.

    Raises:
        ValueError, OSError: it cannot be read, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(file)
        if dtype.hasobject:
            more = "sequences of different lengths go into one array with NaN after each end"
            if path.stem in COLUMNS:
                more = "save words with .astype(str), numbers with .astype(float)"
            raise ValueError(f"it holds Python objects, which are never opened; {more}")
        if 0 in shape:
            raise ValueError(f"it is empty: its shape is {shape}")
        return with_real_letters(np.asarray(np.lib.format.open_memmap(path, mode="r")))
    except OSError:
        raise
    except Exception as error:  # numpy has many errors for a damaged file, and few name it
        raise ValueError(f"{path}: cannot be read as .npy: {reason_of(error)}") from error


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    wanted = " or ".join(f"'{name}'" for name in COLUMNS[path.stem])
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file)
            rows, header = list(reader), list(reader.fieldnames or ())
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
    if len(set(header) & set(COLUMNS[path.stem])) != 1:
        raise ValueError(f"{path}: the first line must name the columns, one of them {wanted}, got {header!s:.200}")
    if not rows:
        raise ValueError(f"{path}: has no line below the names of the columns")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{path} line {line}: must have {len(header)} columns, as the first line has")
    return {name: np.array([row[name].strip() for row in rows]) for name in KNOWN if name in header}


def _ids(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iuU":
        raise ValueError(f"{path}: ids must be words or whole numbers, got dtype {values.dtype}")
    ids, counts = np.unique(np.array(texts(str(path), values.tolist())), return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"{path}: id {str(ids[counts > 1][0])!r:.60} appears {counts.max()} times")
    return values.astype(str)


def _order(path: Path, ids: np.ndarray, first: Column) -> np.ndarray:
    """Where each of the ids that came first stands in this file."""
    place: Mapping[str, int] = {name: position for position, name in enumerate(ids.tolist())}
    if only_one := sorted(set(first.values.tolist()) ^ set(place)):
        holder, other = (path, first.path) if only_one[0] in place else (first.path, path)
        raise ValueError(f"{other}: lacks id {only_one[0]!r:.60}, which {holder} has")
    return np.array([place[name] for name in first.values.tolist()])


def _numbers(values: np.ndarray) -> np.ndarray | None:
    """As float64 with NaN for an empty cell; None where there are words."""
    if values.dtype.kind != "U":
        return values.astype(np.float64)
    try:
        return np.array([float(text or "nan") for text in values.tolist()])
    except ValueError:
        return None


def _is_real(values: np.ndarray, numbers: np.ndarray | None) -> bool:
    if numbers is None or values.dtype.kind in "iub":
        return False
    return values.dtype.kind == "f" or bool((numbers[~np.isnan(numbers)] % 1 != 0).any())
