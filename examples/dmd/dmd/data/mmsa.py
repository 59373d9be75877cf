"""Feature files of the sentiment field (MMSA `.pkl`): MOSI, MOSEI, SIMS, aligned or not, with any of the modalities."""

from collections import Counter
from pathlib import Path
from typing import Any

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
    checksum = file_sha256(path)
    content = load_pickle(path)
    for split in SPLITS:
        if not isinstance(content, dict) or not isinstance(content.get(split), dict):
            raise ValueError(f"{path}: must hold a dict of the splits 'train', 'valid', 'test'; '{split}' is missing")
    # Dicts of its own for each split, as the file may give two of them one dict: arrays leave them when they are read.
    content = {split: dict(content[split]) for split in SPLITS}
    # A modality of one split must be in all: reading the split without it then says which.
    names = [name for name, key in MODALITIES.items() if any(key in content[split] for split in SPLITS)]
    if not names:
        raise ValueError(f"{path}: split 'train' has none of the keys 'text', 'vision', 'audio'")
    has_values = any("regression_labels" in content[split] for split in SPLITS)
    task = resolve_task(task, metrics, has_values=has_values)
    if metrics is None:
        metrics = "accuracy" if task == "classification" else _regression_suite(content)

    replaced: Counter[str] = Counter()
    splits = {
        split: _read_split(f"{path}: split '{split}'", content[split], names, metrics, replaced) for split in SPLITS
    }
    for name in names:
        widths = {split: splits[split].inputs[name][0].shape[1] for split in SPLITS}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{path}: key '{MODALITIES[name]}' must be equally wide in every split, got {widths}")
    warn_replaced(path, replaced)
    classes = CLASSES if task == "classification" else ()
    return Recordings(splits, task, metrics, classes, LABEL_RANGES[metrics], str(path), checksum.result())


def _regression_suite(content: dict[str, dict[str, Any]]) -> str:
    has_single_labels = any(f"regression_labels_{letter}" in content["train"] for letter in "TAV")
    labels = [
        _array(f"split '{split}'", "regression_labels", content[split].get("regression_labels", [])) for split in SPLITS
    ]
    is_narrow = all(part.dtype.kind in "iuf" and not (np.abs(part) > 1).any() for part in labels)
    return "sims" if has_single_labels and is_narrow else "mosi"


def _read_split(where: str, entries: dict[str, Any], names: list[str], metrics: str, replaced: Counter[str]) -> Split:
    ids = _ids(where, _entry(where, entries, "id"))
    inputs: dict[str, list[np.ndarray]] = {}
    for name in names:
        key = MODALITIES[name]
        features, count = finite_float32(_numbers(where, entries, key, (len(ids), "time", "dim")))
        replaced[key] += count
        lengths = _lengths(where, entries, key, features)
        inputs[name] = [steps[:length].copy() for steps, length in zip(features, lengths, strict=True)]
        del entries[key], features  # a file may be as large as the memory: what is read makes room
    labels = _labels(where, entries, len(ids), metrics)
    tokens = _tokens(where, entries, len(ids), inputs.get("language"))
    return Split(ids, inputs, labels, tokens, readable(entries.get("raw_text"), len(ids)))


def _ids(where: str, entry: Any) -> list[str]:
    if not isinstance(entry, list | tuple | np.ndarray) or (isinstance(entry, np.ndarray) and entry.ndim != 1):
        kind = f"shape {entry.shape}" if isinstance(entry, np.ndarray) else type(entry).__name__
        raise ValueError(f"{where}, key 'id': must be a list of strings, got {kind}")
    if len(entry) == 0:
        raise ValueError(f"{where} has no samples")
    return texts(f"{where}, key 'id'", entry)


def _lengths(where: str, entries: dict[str, Any], key: str, features: np.ndarray) -> np.ndarray:
    """Number of real steps of each sample; 0 where all its frames are zero, whatever the file says."""
    num_samples, num_steps, _ = features.shape
    is_used = np.any(features, axis=2)  # (batch, time)
    if f"{key}_lengths" in entries:
        lengths = _numbers(where, entries, f"{key}_lengths", (num_samples,))
        is_wrong = ~((lengths >= 1) & (lengths <= num_steps) & (lengths == np.floor(lengths)))
        if is_wrong.any():
            wanted = f"whole numbers from 1 to {num_steps}, the steps of '{key}'"
            raise ValueError(f"{where}, key '{key}_lengths': must hold {wanted}, got {lengths[is_wrong][0]}")
    elif key == "text" and "text_bert" in entries:
        attention = _numbers(where, entries, "text_bert", (num_samples, 3, num_steps))[:, 1]  # (batch, time)
        lengths = _steps_before_trailing(attention > 0)
    else:
        lengths = _steps_before_trailing(is_used)
    return np.where(is_used.any(axis=1), lengths, 0).astype(np.int64)


def _steps_before_trailing(is_used: np.ndarray) -> np.ndarray:
    """Number of steps up to the last used one: (batch, time) -> (batch,)."""
    num_steps = is_used.shape[1]
    return np.where(is_used.any(axis=1), num_steps - np.argmax(is_used[:, ::-1], axis=1), 0)


def _tokens(
    where: str, entries: dict[str, Any], num_samples: int, language: list[np.ndarray] | None
) -> list[np.ndarray] | None:
    """Token ids of each sample without its padding; none where the sample has no text, None without `text_bert`."""
    if "text_bert" not in entries:
        return None
    content = _numbers(where, entries, "text_bert", (num_samples, 3, "time"))
    ids, attention = content[:, 0], content[:, 1]  # (batch, time)
    is_wrong = ~((ids >= 0) & (ids < 2**31) & (ids == np.floor(ids)))  # NaN is wrong too
    if is_wrong.any():
        raise ValueError(f"{where}, key 'text_bert': token ids must be whole numbers from 0, got {ids[is_wrong][0]:g}")
    lengths = _steps_before_trailing(attention > 0)
    if language is not None:
        lengths = np.where([len(steps) > 0 for steps in language], lengths, 0)
    return [row[:length] for row, length in zip(ids.astype(np.int64), lengths, strict=True)]


def _labels(where: str, entries: dict[str, Any], num_samples: int, metrics: str) -> np.ndarray:
    key = "classification_labels" if metrics == "accuracy" else "regression_labels"
    labels = _numbers(where, entries, key, (num_samples,)).astype(np.float64)
    if metrics != "accuracy":
        return regression_labels(f"{where}, key '{key}'", labels, metrics)
    labels = np.where(np.isnan(labels), UNLABELLED, labels)
    is_wrong = ~np.isin(labels, [*range(len(CLASSES)), UNLABELLED])
    if is_wrong.any():
        raise ValueError(f"{where}, key '{key}': labels must be 0, 1 or 2, got {labels[is_wrong][0]:g}")
    return labels.astype(np.int64)


def _array(where: str, key: str, entry: Any) -> np.ndarray:
    """An entry as an array; of strings, a list would become as wide as the longest, times their number."""
    if isinstance(entry, list | tuple) and (kind := _not_numbers(entry)):
        raise ValueError(f"{where}, key '{key}': must hold numbers, got {kind}")
    try:
        return np.asarray(entry)
    except ValueError as error:
        raise ValueError(f"{where}, key '{key}': must be one array, got rows of different shapes") from error


def _not_numbers(entry: Any) -> str:
    """What a list holds, however deep, that is neither a number nor an array of them; empty if it holds none."""
    if isinstance(entry, list | tuple):
        return next((kind for part in entry if (kind := _not_numbers(part))), "")
    if isinstance(entry, np.ndarray):
        return "" if entry.dtype.kind in "biuf" else f"dtype {entry.dtype}"
    return "" if isinstance(entry, bool | int | float | np.number | np.bool_) else f"a {type(entry).__name__}"


def _entry(where: str, entries: dict[str, Any], key: str) -> Any:
    if key not in entries:
        raise ValueError(f"{where} lacks the key '{key}'")
    return entries[key]


def _numbers(where: str, entries: dict[str, Any], key: str, shape: tuple[int | str, ...]) -> np.ndarray:
    """An entry as an array of this shape; a word stands for any size from 1 on."""
    entry = _entry(where, entries, key)
    array = _array(where, key, entry)
    fits = array.ndim == len(shape) and all(
        size > 0 if isinstance(wanted, str) else size == wanted for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{where}, key '{key}': must have shape ({wanted}), got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where}, key '{key}': must hold numbers, got dtype {array.dtype}")
    return array
