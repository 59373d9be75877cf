"""A folder with one `.npy` a modality and labels, as the arrays of a file of ragged sequences."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from .array_columns import check_splits, is_column, read_array, read_columns, read_labels
from .drawn_split import SHARES, by_groups, stratified
from .own_folder import require_inside
from .recordings import SPLITS

LENGTHS = "_lengths"
RESERVED = ("action", "classes", "regression_labels", "subject")  # what else a file of ragged sequences holds


def is_array_folder(path: Path) -> bool:
    """Whether a folder holds `.npy` files side by side, and no listing of samples."""
    return not (path / "samples.csv").exists() and any(path.glob("*.npy"))


def read_array_folder(source: Path, *, task: str | None = None, metrics: str | None = None) -> dict[str, np.ndarray]:
    """The arrays that :func:`dmd.data.ragged.read_ragged` describes, from the folder that docs/data.md describes.

    Where the folder names no split, one is drawn, and a warning says so.

    Args:
        source: the folder.
        task, metrics: force them, where the labels could be read in two ways.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    columns = read_columns(source)
    column = columns.get("label") or columns.get("value")
    if column is None:
        names = ", ".join(sorted(path.name for path in source.iterdir())[:12])
        wanted = "must have labels.npy or labels.csv, in which empty cells are samples without a label"
        raise FileNotFoundError(f"{source}: {wanted}; it has {names}")
    labels, classes = read_labels(column, task, metrics)
    for other in columns.values():
        if len(other.values) != len(labels):
            wanted = f"{other.path}: must hold {len(labels)} entries, as {column.path.name} does"
            raise ValueError(f"{wanted}, got {len(other.values)}")
    ids = columns["id"].values if "id" in columns else np.arange(len(labels)).astype(str)
    arrays = {"ids": ids, **modalities(source, len(labels), column.path.name)}
    if classes:
        arrays |= {"action": labels, "classes": np.array(classes)}
    else:
        arrays["regression_labels"] = labels
    if "split" in columns:
        arrays["split"] = check_splits(columns["split"])
    elif "group" in columns:
        groups = columns["group"]
        if len(np.unique(groups.values)) < len(SPLITS):
            raise ValueError(f"{groups.path}: a split by groups needs three of them at least; or give splits.csv")
        arrays["split"] = by_groups(groups.values.astype(str).tolist())
        _tell(
            source,
            arrays["split"],
            f"drawn with seed 0, each group of {groups.path.name} whole in one; a splits.csv would choose",
        )
    else:
        arrays["split"] = stratified(labels, ids.tolist())
        if set(arrays["split"]) != set(SPLITS):
            raise ValueError(f"{column.path}: too few labels to draw a split from; give splits.csv")
        _tell(source, arrays["split"], "drawn with seed 0, labels mixed alike in each; a splits.csv would choose")
    return arrays


def modalities(source: Path, num_samples: int | None = None, counted: str = "") -> dict[str, np.ndarray]:
    """For each `<name>.npy`: `<name>` (all steps, dim) float32 without the padding, and `<name>_offsets`.

    Args:
        source: the folder.
        num_samples: in each file; None: as many as in the first.
        counted: the file that has so many.

    Raises:
        ValueError, OSError: naming the file that is wrong.
    """
    paths = {path.stem: path for path in sorted(source.glob("*.npy")) if not is_column(path)}
    lengths = {name: path for name, path in paths.items() if name.endswith(LENGTHS)}
    arrays: dict[str, np.ndarray] = {}
    for name, path in paths.items():
        require_inside(source, path)
        if name in lengths:
            if name.removesuffix(LENGTHS) not in paths:
                raise ValueError(f"{path}: there is no {name.removesuffix(LENGTHS)}.npy that it could belong to")
            continue
        if name in RESERVED or name.endswith("_offsets"):
            raise ValueError(f"{path}: a modality cannot be called '{name}'; labels go into labels.npy or labels.csv")
        features = read_array(path)
        if features.ndim not in (2, 3) or features.dtype.kind not in "iufb":
            wanted = "must be numbers (samples, time, dim), or (samples, dim) for one step a sample"
            raise ValueError(f"{path}: {wanted}, got {features.dtype} {features.shape}")
        if num_samples is None:
            num_samples, counted = len(features), path.name
        if len(features) != num_samples:
            found = f"holds {len(features)} samples, but {counted} holds {num_samples}"
            raise ValueError(f"{path}: {found}: each file must hold the same ones")
        features = features.reshape(num_samples, -1, features.shape[-1])  # (sample, time, dim)
        given = lengths.get(name + LENGTHS)
        steps = _lengths(given, features) if given else _without_padding(features)
        is_real = np.arange(features.shape[1]) < steps[:, None]  # (sample, time)
        arrays[name] = _finite(path, features, is_real)
        arrays[f"{name}_offsets"] = np.cumsum([0, *steps.tolist()])
        if not is_real.any():
            raise ValueError(f"{path}: holds nothing but padding (zeros, NaN, or lengths of 0)")
    if not arrays:
        raise FileNotFoundError(f"{source}: holds no modality, a file such as vision.npy (samples, time, dim)")
    return arrays


def _without_padding(features: np.ndarray) -> np.ndarray:
    """Steps before the trailing ones that are all zero or all NaN, (sample,)."""
    is_padding = (features == 0).all(axis=2) | _all_nan(features)  # (sample, time)
    num_steps = features.shape[1]
    return np.where(is_padding.all(axis=1), 0, num_steps - np.argmin(is_padding[:, ::-1], axis=1))


def _all_nan(features: np.ndarray) -> np.ndarray:
    return np.isnan(features).all(axis=2) if features.dtype.kind == "f" else np.zeros(features.shape[:2], bool)


def _lengths(path: Path, features: np.ndarray) -> np.ndarray:
    lengths, (num_samples, num_steps, _) = read_array(path), features.shape
    if lengths.shape != (num_samples,) or lengths.dtype.kind not in "iu":
        raise ValueError(f"{path}: must be whole numbers ({num_samples},), got {lengths.dtype} {lengths.shape}")
    if lengths.min() < 0 or lengths.max() > num_steps:
        wrong = lengths[(lengths < 0) | (lengths > num_steps)][0]
        raise ValueError(f"{path}: lengths must lie in 0 to {num_steps}, the steps of the array, got {wrong}")
    return lengths.astype(np.int64)


def _finite(path: Path, features: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """The real steps of all samples, one after the other, (step, dim) float32."""
    with np.errstate(over="ignore"):
        steps = features[is_real].astype(np.float32)
    is_wrong = ~np.isfinite(steps)
    if is_wrong.any():
        (step, column), count = np.argwhere(is_wrong)[0], int(is_wrong.sum())
        sample, time = np.argwhere(is_real)[step]
        found = f"{features[sample, time, column]} in sample {sample}, step {time}, column {column}"
        wanted = "values must be finite as float32; whole steps of NaN at the end of a sample are padding"
        raise ValueError(f"{path}: {wanted}, got {found} ({count} such values)")
    return steps


def _tell(source: Path, split_of: np.ndarray, how: str) -> None:
    counts = ", ".join(f"{np.count_nonzero(split_of == split)} {split}" for split in SHARES)
    warnings.warn(f"{source} names no split: took {counts} samples, {how}", stacklevel=3)
