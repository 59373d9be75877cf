"""Recordings in a folder of shards: the index is read, and of the shards only what a batch needs.

A shard is mapped into memory (by safetensors), so that the operating system brings the pages that are touched and may
drop them again. Pages once brought count as the process's own until the map is closed, and the system brings far more
than is touched; so shards of at most :data:`HELD` bytes are open at a time, the ones used last. Opening one costs a
tenth of a millisecond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from .moments import Moments
from .recordings import LABEL_RANGES, SPLITS, Recordings, Split
from .sequences import Lazy
from .shard_index import INDEX, MAX_INDEX_BYTES, Shard, ShardIndex, SplitIndex, parse_index

HELD = 256 * 2**20


class Source(Protocol):
    """Where shards come from."""

    def index(self) -> bytes:
        """The text of index.json."""
        ...

    def fetch(self, shard: Shard) -> Path:
        """The file of a shard, on this machine, of the size that the index gives."""
        ...


class LocalFolder:
    """Shards in a folder; nothing outside it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> bytes:
        path = self._inside(INDEX)
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"{path}: an index has at most {MAX_INDEX_BYTES} bytes, got {path.stat().st_size}")
        return path.read_bytes()

    def fetch(self, shard: Shard) -> Path:
        path = self._inside(shard.file)
        if (size := path.stat().st_size) != shard.bytes:
            raise ValueError(f"{path}: must have {shard.bytes} bytes, as {INDEX} says, got {size}; is it whole?")
        return path

    def _inside(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: the file is missing")
        if path.resolve().parent != self.folder.resolve():
            raise ValueError(f"{path}: leads out of the folder, to {path.resolve()}")
        return path


class ShardFiles:
    """The shards of one folder, opened when they are needed.

    Args:
        source: where they come from.
        shards: of all splits; a shard's number is its place here.
        shapes: of each, key -> (dtype, shape) of what it must hold.
    """

    def __init__(self, source: Source, shards: Sequence[Shard], shapes: list[dict[str, tuple[str, list[int]]]]) -> None:
        self.source, self.shards, self.shapes = source, shards, shapes
        self._open: dict[int, Any] = {}  # the one used last comes last
        self._checked: set[int] = set()

    def read(self, number: int, key: str, start: int, stop: int) -> np.ndarray:
        """Rows from start to stop of one array, as a copy.

        Raises:
            ValueError, OSError: the shard is not what the index says, or cannot be read.
        """
        return self.open(number).get_slice(key)[start:stop]

    def open(self, number: int) -> Any:
        """A shard, checked against the index."""
        if (shard := self._open.pop(number, None)) is not None:
            self._open[number] = shard
            return shard
        try:
            path, shard = self._map(number)
        except FileNotFoundError:  # another process has made room in the cache meanwhile
            path, shard = self._map(number)
        if number not in self._checked:
            self._check(number, path, shard)
        while self._open and sum(self.shards[each].bytes for each in (*self._open, number)) > HELD:
            del self._open[next(iter(self._open))]
        self._open[number] = shard
        return shard

    def _map(self, number: int) -> tuple[Path, Any]:
        path = self.source.fetch(self.shards[number])
        try:
            return path, safe_open(path, "numpy")
        except SafetensorError as error:
            raise ValueError(f"{path}: is damaged, or no safetensors file: {error}") from error

    def _check(self, number: int, path: Path, shard: Any) -> None:
        """Compare what a shard says of itself with the index, once."""
        found = {
            key: (part.get_dtype(), part.get_shape())
            for key in shard.keys()  # noqa: SIM118  (it is no mapping)
            for part in [shard.get_slice(key)]
        }
        wanted = self.shapes[number]
        if found != wanted:
            key = next(key for key in [*wanted, *found] if found.get(key) != wanted.get(key))
            what = f"must be {wanted[key]}, as {INDEX} says" if key in wanted else f"is not in {INDEX}"
            raise ValueError(f"{path}, key '{key}': {what}, got {found.get(key, 'nothing')}")
        self._checked.add(number)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # every process opens its own


class Sharded(Lazy):
    """One array a sample, read from the shard that holds it.

    Attributes:
        moments: those that the index gives; None for token ids.
    """

    def __init__(
        self,
        files: ShardFiles,
        key: str,
        lengths: np.ndarray,
        numbers: np.ndarray,
        dim: int | None,
        moments: Moments | None,
    ) -> None:
        self.files, self.key, self.lengths, self.numbers, self.dim = files, key, lengths, numbers, dim
        self.moments = moments
        ends = np.cumsum(lengths)
        firsts = np.searchsorted(numbers, numbers)  # the first sample of each sample's shard
        self.starts = ends - lengths - (ends - lengths)[firsts]

    def read(self, position: int) -> np.ndarray:
        if self.lengths[position] == 0:
            return np.empty((0,) if self.dim is None else (0, self.dim), np.int64 if self.dim is None else np.float32)
        start = int(self.starts[position])
        return self.files.read(int(self.numbers[position]), self.key, start, start + int(self.lengths[position]))


def read_shards(folder: Path, *, task: str | None = None, metrics: str | None = None) -> Recordings:
    """Recordings of a folder that ``convert.py`` wrote.

    Args:
        folder: holds index.json and the shards beside it.
        task, metrics: must be those that the shards were written for, or None.

    Raises:
        ValueError, OSError: naming the file, and the key, that are wrong.
    """
    recordings, files = open_shards(LocalFolder(folder), str(folder), task=task, metrics=metrics)
    for number in range(len(files.shards)):
        files.open(number)
    return recordings


def open_shards(
    source: Source, where: str, *, task: str | None, metrics: str | None, in_blocks: bool = False
) -> tuple[Recordings, ShardFiles]:
    """Recordings whose arrays come from a source, and its files; of these nothing is read yet.

    With `in_blocks`, samples say in which shard they are, so that training reads a few shards at a time.
    """
    text = source.index()
    index = parse_index(f"{where.rstrip('/')}/{INDEX}", text)
    for name, forced, held in (("task", task, index.task), ("metrics", metrics, index.metrics)):
        if forced not in (None, held):
            raise ValueError(f"{where} was written for {name} '{held}', got '{forced}': convert with --{name} {forced}")
    shards = [shard for name in SPLITS for shard in index.splits[name].shards]
    files = ShardFiles(source, shards, [shape for name in SPLITS for shape in _shapes(index, index.splits[name])])
    splits: dict[str, Split] = {}
    first = 0
    for name in SPLITS:
        part = index.splits[name]
        counts = [shard.samples for shard in part.shards]
        numbers = np.repeat(np.arange(first, first + len(counts)), counts)  # (sample,)
        first += len(counts)
        inputs: dict[str, Sequence[np.ndarray]] = {
            modality: Sharded(files, f"inputs.{modality}", part.lengths[modality], numbers, dim, part.moments[modality])
            for modality, dim in index.dims.items()
        }
        has_tokens = part.token_lengths is not None
        tokens = Sharded(files, "tokens", part.token_lengths, numbers, None, None) if has_tokens else None
        if in_blocks:
            for sequence in (*inputs.values(), *([tokens] if tokens is not None else [])):
                sequence.blocks = numbers
        splits[name] = Split(part.ids, inputs, part.labels, tokens)
    checksum = hashlib.sha256(text).hexdigest()  # the index has the checksums of the shards
    label_range = LABEL_RANGES[index.metrics]
    return Recordings(splits, index.task, index.metrics, index.classes, label_range, where, checksum), files


def _shapes(index: ShardIndex, part: SplitIndex) -> list[dict[str, tuple[str, list[int]]]]:
    """What each shard of a split must hold: key -> (dtype, shape)."""
    firsts = np.cumsum([0, *(shard.samples for shard in part.shards)])[:-1]
    totals = {f"inputs.{name}": np.add.reduceat(part.lengths[name], firsts) for name in index.dims}
    shapes = [
        {f"inputs.{name}": ("F32", [int(totals[f"inputs.{name}"][i]), dim]) for name, dim in index.dims.items()}
        for i in range(len(firsts))
    ]
    if part.token_lengths is not None:
        for shape, total in zip(shapes, np.add.reduceat(part.token_lengths, firsts), strict=True):
            shape["tokens"] = ("I64", [int(total)])
    return shapes
