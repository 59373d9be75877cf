"""index.json of a folder of shards: what the shards hold and where, checked before any of it is believed.

Format version 1. The file is a JSON object:

- ``format`` "dmd-shards", ``version`` 1, ``source`` {``name``, ``sha256``} of the file that it was made from;
- ``task``, ``metrics``, ``classes``, and ``dims``: modality -> columns, in order;
- ``splits``: "train", "valid" and "test", each with ``ids`` and ``labels`` (null = unlabelled), ``lengths``: modality
  -> steps of each sample, ``token_lengths`` (or null), ``moments``: modality -> {``count``, ``mean``, ``squares``,
  ``within``} as in :class:`dmd.data.moments.Moments`, and ``shards``: [{``file``, ``samples``, ``bytes``, ``sha256``}].

A shard is a safetensors file in the same folder with the next ``samples`` samples of its split: for each modality
``inputs.<modality>`` (all steps, dim) float32, one sample after the other, and ``tokens`` (all tokens,) int64.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .moments import Moments
from .recordings import LABEL_RANGES, SPLITS, UNLABELLED, regression_labels, texts

FORMAT, VERSION = "dmd-shards", 1
INDEX = "index.json"
MAX_INDEX_BYTES = 512 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.safetensors")  # no folder, no leading dot
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_STEPS = 2**40
MAX_NUMBER = 1e100  # beyond the squares of MAX_STEPS float32 values; JSON has whole numbers that no float64 holds


@dataclass(frozen=True)
class Shard:
    """One file: its name, its samples, its bytes and its checksum."""

    file: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitIndex:
    """What is known of a split without its shards; entry i of every field belongs to sample i."""

    ids: list[str]
    labels: np.ndarray
    lengths: dict[str, np.ndarray]
    token_lengths: np.ndarray | None
    moments: dict[str, Moments]
    shards: list[Shard]


@dataclass(frozen=True)
class ShardIndex:
    """What index.json says."""

    task: str
    metrics: str
    classes: tuple[str, ...]
    dims: dict[str, int]
    splits: dict[str, SplitIndex]


def parse_index(where: str, text: bytes) -> ShardIndex:
    """Read the text of an index.json.

    Raises:
        ValueError: naming the file and the key that are wrong.
    """
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is damaged, or no JSON: {str(error) or type(error).__name__}") from error
    root = _Entry(where, "", content)
    if root.get("format", str) != FORMAT or root.get("version", int) != VERSION:
        got = f"{content['format']!r:.40} {content['version']!r:.40}"
        raise ValueError(f"{where}: must be of format '{FORMAT}' {VERSION}, got {got}")
    metrics, task = root.get("metrics", str), root.get("task", str)
    if metrics not in LABEL_RANGES or task != ("classification" if metrics == "accuracy" else "regression"):
        raise root.wrong("metrics", "'accuracy' with task 'classification', or 'mosi' or 'sims' with 'regression'")
    classes = tuple(root.strings("classes"))
    if (task == "classification") != bool(classes):
        raise root.wrong("classes", "the names of the classes, and empty for regression")
    dims: dict[str, int] = root.get("dims", dict)
    if not dims or not all(type(width) is int and 0 < width < 2**24 for width in dims.values()):
        raise root.wrong("dims", "modality -> number of columns")
    texts(f"{where}, key 'dims'", dims)
    splits = root.entry("splits")
    parsed = {name: _parse_split(splits.entry(name), dims, metrics, len(classes)) for name in SPLITS}
    if len({split.token_lengths is None for split in parsed.values()}) > 1:
        raise ValueError(f"{where}, key 'token_lengths': must be null in every split, or in none")
    files = [shard.file for split in parsed.values() for shard in split.shards]
    if len(set(files)) < len(files):
        raise ValueError(f"{where}, key 'file': a shard is named twice")
    return ShardIndex(task, metrics, classes, dims, parsed)


def _parse_split(entry: _Entry, dims: Mapping[str, int], metrics: str, num_classes: int) -> SplitIndex:
    ids = entry.strings("ids")
    size = len(ids)
    if not ids:
        raise entry.wrong("ids", "at least one string")
    if len(set(ids)) < size:
        [(repeated, count)] = Counter(ids).most_common(1)
        raise ValueError(f"{entry.where}, key '{entry.path}ids': must be different, got {repeated!r:.60} {count} times")
    lengths, moments = entry.entry("lengths"), entry.entry("moments")
    for part, key in ((lengths, "lengths"), (moments, "moments")):
        if list(part.content) != list(dims):
            raise entry.wrong(key, f"an entry for each of {list(dims)}")
    steps = {name: lengths.counts(name, size) for name in dims}
    token_lengths = None if entry.get("token_lengths", list | None) is None else entry.counts("token_lengths", size)
    shards = [
        _parse_shard(_Entry(entry.where, f"{entry.path}shards.{i}.", shard))
        for i, shard in enumerate(entry.get("shards", list))
    ]
    if sum(shard.samples for shard in shards) != size:
        raise entry.wrong("shards", f"samples that sum to {size}, the number of ids")
    found = {name: _parse_moments(moments.entry(name), dim, int(steps[name].sum())) for name, dim in dims.items()}
    return SplitIndex(ids, _parse_labels(entry, size, metrics, num_classes), steps, token_lengths, found, shards)


def _parse_labels(entry: _Entry, size: int, metrics: str, num_classes: int) -> np.ndarray:
    labels = entry.get("labels", list)
    kinds = (int,) if metrics == "accuracy" else (int, float)
    if len(labels) != size or not all(
        label is None or (type(label) in kinds and abs(label) <= MAX_NUMBER) for label in labels
    ):
        raise entry.wrong("labels", f"{size} numbers or nulls, none beyond {MAX_NUMBER:g}")
    if metrics != "accuracy":
        return regression_labels(f"{entry.where}, key '{entry.path}labels'", np.array(labels, np.float64), metrics)
    if not all(label is None or 0 <= label < num_classes for label in labels):
        raise entry.wrong("labels", f"class numbers from 0 to {num_classes - 1}, or nulls")
    return np.array([UNLABELLED if label is None else label for label in labels], np.int64)


def _parse_shard(entry: _Entry) -> Shard:
    shard = Shard(entry.get("file", str), entry.get("samples", int), entry.get("bytes", int), entry.get("sha256", str))
    if not NAME.fullmatch(shard.file):
        raise entry.wrong("file", "the plain name of a .safetensors file beside the index")
    for key in ("samples", "bytes"):
        if not 0 < getattr(shard, key) < MAX_STEPS:
            raise entry.wrong(key, "a number above 0")
    if not SHA256.fullmatch(shard.sha256):
        raise entry.wrong("sha256", "64 hexadecimal digits")
    return shard


def _parse_moments(entry: _Entry, dim: int, count: int) -> Moments:
    if entry.get("count", int) != count:
        raise entry.wrong("count", f"{count}, the sum of the lengths")
    return Moments(count, *(entry.numbers(key, dim) for key in ("mean", "squares", "within")))


class _Entry:
    """An object in the file, and the keys that lead to it."""

    def __init__(self, where: str, path: str, content: Any) -> None:
        self.where, self.path, self.content = where, path, content
        if not isinstance(content, dict):
            raise ValueError(f"{where}, key '{path.rstrip('.') or '(all)'}': must be an object, got {content!r:.40}")

    def wrong(self, key: str, wanted: str) -> ValueError:
        got = f"{self.content.get(key)!r:.60}"
        return ValueError(f"{self.where}, key '{self.path}{key}': must be {wanted}, got {got}")

    def get(self, key: str, kind: Any) -> Any:
        if key not in self.content:
            raise ValueError(f"{self.where}: lacks the key '{self.path}{key}'")
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(key, "of another type")
        return value

    def entry(self, key: str) -> _Entry:
        return _Entry(self.where, f"{self.path}{key}.", self.get(key, dict))

    def strings(self, key: str) -> list[str]:
        value = self.get(key, list)
        if not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "a list of strings")
        return texts(f"{self.where}, key '{self.path}{key}'", value)

    def counts(self, key: str, size: int) -> np.ndarray:
        value = self.get(key, list)
        if len(value) != size or not all(type(one) is int and 0 <= one < MAX_STEPS for one in value):
            raise self.wrong(key, f"{size} whole numbers from 0")
        return np.array(value, np.int64)

    def numbers(self, key: str, size: int) -> np.ndarray:
        value = self.get(key, list)
        if len(value) != size or not all(type(one) in (int, float) and abs(one) <= MAX_NUMBER for one in value):
            raise self.wrong(key, f"{size} numbers, none beyond {MAX_NUMBER:g}")
        if key != "mean" and min(value) < 0:
            raise self.wrong(key, "numbers from 0")
        return np.array(value, np.float64)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")
