"""Feature files of the sentiment field (MMSA `.pkl`): MOSI, MOSEI, SIMS, aligned or not, with any of the modalities."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .recordings import LABEL_RANGES, SPLITS, UNLABELLED, Recordings, Split, file_sha256
from .safe_pickle import load_pickle

MODALITIES = {"language": "text", "vision": "vision", "acoustic": "audio"}  # our name -> the file's key
CLASSES = ("negative", "neutral", "positive")


def read_mmsa(path: Path, *, task: str | None = None, metrics: str | None = None) -> Recordings:
    """Read an MMSA feature file.

    Every size comes from the arrays. The task is regression where the file has `regression_labels` and classification
    otherwise; the metric suite of regression is "sims" where all labels lie in [-1, 1] and the file has labels of
    single modalities (`regression_labels_T`, `_A`, `_V`), as only SIMS does, and "mosi" otherwise.

    Args:
        path: the file.
        task: force "regression" or "classification" (which reads `classification_labels`).
        metrics: force "mosi", "sims" or "accuracy" (which implies classification).

    Raises:
        ValueError: naming the file, the split and the key that are wrong.
    """
    content = load_pickle(path)
    for name in SPLITS:
        if not isinstance(content, dict) or not isinstance(content.get(name), dict):
            raise ValueError(f"{path}: must hold a dict of the splits 'train', 'valid', 'test'; '{name}' is missing")
    names = [name for name, key in MODALITIES.items() if any(key in content[split] for split in SPLITS)]
    if not names:
        raise ValueError(f"{path}: split 'train' has none of the keys 'text', 'vision', 'audio'")
    if task is None:
        classified = metrics == "accuracy" or not any("regression_labels" in content[split] for split in SPLITS)
        task = "classification" if classified else "regression"
    if metrics is None:
        metrics = "accuracy" if task == "classification" else _regression_suite(content)
    if (task == "classification") != (metrics == "accuracy"):
        raise ValueError(f"metrics 'accuracy' goes with task 'classification' only, got {metrics!r} with {task!r}")

    replaced: Counter[str] = Counter()
    splits = {name: _read_split(f"{path}: split '{name}'", content[name], names, metrics, replaced) for name in SPLITS}
    for name in names:
        widths = {split: splits[split].inputs[name][0].shape[1] for split in SPLITS}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{path}: key '{MODALITIES[name]}' must be equally wide in every split, got {widths}")
    if replaced:
        counts = ", ".join(f"{count} in '{key}'" for key, count in replaced.items())
        warnings.warn(f"{path}: NaN and infinite values replaced by 0: {counts}", stacklevel=2)
    classes = CLASSES if task == "classification" else ()
    return Recordings(splits, task, metrics, classes, LABEL_RANGES[metrics], str(path), file_sha256(path))


def _regression_suite(content: dict[str, dict[str, Any]]) -> str:
    has_single_labels = any(f"regression_labels_{letter}" in content["train"] for letter in "TAV")
    labels = [np.asarray(content[split].get("regression_labels", [])) for split in SPLITS]
    is_narrow = all(part.dtype.kind in "iuf" and not (np.abs(part) > 1).any() for part in labels)
    return "sims" if has_single_labels and is_narrow else "mosi"


def _read_split(where: str, entries: dict[str, Any], names: list[str], metrics: str, replaced: Counter[str]) -> Split:
    ids = [str(sample_id) for sample_id in _entry(where, entries, "id")]
    if not ids:
        raise ValueError(f"{where} has no samples")
    inputs: dict[str, list[np.ndarray]] = {}
    for name in names:
        key = MODALITIES[name]
        features = _numbers(where, entries, key, (len(ids), None, None))
        with np.errstate(over="ignore"):
            features = features.astype(np.float32)
        is_finite = np.isfinite(features)
        if not is_finite.all():
            replaced[key] += int((~is_finite).sum())
            features[~is_finite] = 0
        lengths = _lengths(where, entries, key, features)
        inputs[name] = [steps[:length].copy() for steps, length in zip(features, lengths, strict=True)]
    return Split(ids, inputs, _labels(where, entries, len(ids), metrics))


def _lengths(where: str, entries: dict[str, Any], key: str, features: np.ndarray) -> np.ndarray:
    """Number of real steps of each sample; 0 where all its frames are zero, whatever the file says."""
    num_samples, num_steps, _ = features.shape
    is_used = features.any(axis=2)  # (batch, time)
    if f"{key}_lengths" in entries:
        lengths = _numbers(where, entries, f"{key}_lengths", (num_samples,))
        if not ((lengths >= 1) & (lengths <= num_steps) & (lengths == np.floor(lengths))).all():
            wrong = lengths[~((lengths >= 1) & (lengths <= num_steps) & (lengths == np.floor(lengths)))][0]
            raise ValueError(f"{where}, key '{key}_lengths': must hold whole numbers from 1 to {num_steps}, got {wrong}")
    elif key == "text" and "text_bert" in entries:
        attention = _numbers(where, entries, "text_bert", (num_samples, 3, num_steps))[:, 1]
        lengths = _steps_before_trailing(attention > 0)
    else:
        lengths = _steps_before_trailing(is_used)
    return np.where(is_used.any(axis=1), lengths, 0).astype(np.int64)


def _steps_before_trailing(is_used: np.ndarray) -> np.ndarray:
    """Number of steps up to the last used one: (batch, time) -> (batch,)."""
    num_steps = is_used.shape[1]
    return np.where(is_used.any(axis=1), num_steps - np.argmax(is_used[:, ::-1], axis=1), 0)


def _labels(where: str, entries: dict[str, Any], num_samples: int, metrics: str) -> np.ndarray:
    if metrics == "accuracy":
        key, low, high = "classification_labels", 0.0, len(CLASSES) - 1.0
    else:
        key, (low, high) = "regression_labels", LABEL_RANGES[metrics] or (0.0, 0.0)
    labels = _numbers(where, entries, key, (num_samples,)).astype(np.float64)
    is_labelled = ~np.isnan(labels)
    if metrics == "accuracy":
        is_labelled &= labels != UNLABELLED
    known = labels[is_labelled]
    if ((known < low) | (known > high)).any():
        wrong = known[(known < low) | (known > high)][0]
        raise ValueError(f"{where}, key '{key}': labels must lie in [{low:g}, {high:g}] (metrics '{metrics}'), got {wrong}")
    if metrics != "accuracy":
        return labels.astype(np.float32)
    if (known != np.floor(known)).any():
        raise ValueError(f"{where}, key '{key}': classes must be whole numbers, got {known[known != np.floor(known)][0]}")
    return np.where(is_labelled, labels, UNLABELLED).astype(np.int64)


def _entry(where: str, entries: dict[str, Any], key: str) -> Any:
    if key not in entries:
        raise ValueError(f"{where} lacks the key '{key}'")
    return entries[key]


def _numbers(where: str, entries: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """An entry as an array of this shape (None = any size from 1 on)."""
    try:
        array = np.asarray(_entry(where, entries, key))
    except ValueError as error:
        if key not in entries:
            raise
        raise ValueError(f"{where}, key '{key}': must be one array, got rows of different shapes") from error
    wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    fits = array.ndim == len(shape) and all(
        got == size if size is not None else got > 0 for got, size in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{where}, key '{key}': must have shape {wanted}, got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where}, key '{key}': must hold numbers, got dtype {array.dtype}")
    return array
