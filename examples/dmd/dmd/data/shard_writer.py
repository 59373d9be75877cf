"""Write recordings as shards, whole or not at all, and check shards against their checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from tqdm import tqdm

from ..durable import replacing, sha256_of
from .moments import moments_of
from .recordings import Recordings, Split, is_labelled
from .sequences import step_counts
from .shard_index import FORMAT, INDEX, VERSION, parse_index
from .shards import LocalFolder

SHARD_BYTES = 64 * 2**20  # large enough to be fetched in one go, small enough to be held in memory


def write_shards(recordings: Recordings, target: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write recordings as a folder of shards and index.json; one shard is held in memory at a time.

    Args:
        recordings: the data, in memory or read when needed.
        target: the folder; it must not exist.
        shard_bytes: of a shard, at most; a larger sample has a shard of its own.

    Raises:
        FileExistsError: the target exists.
        OSError: it cannot be written.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already; nothing is overwritten")
    dims = recordings.dims
    with replacing(target, sum(int(_sizes(split, dims).sum()) for split in recordings.splits.values())) as folder:
        folder.mkdir()
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "source": {"name": Path(recordings.path).name, "sha256": recordings.sha256},
            "task": recordings.task,
            "metrics": recordings.metrics,
            "classes": list(recordings.classes),
            "dims": dims,
            "splits": {},
        }
        with tqdm(total=sum(recordings.sizes.values()), desc="shards", unit="sample", leave=False, disable=None) as bar:
            for name, split in recordings.splits.items():
                shards = [
                    _write_shard(folder / f"{name}-{number:05d}.safetensors", split, begin, end, bar)
                    for number, (begin, end) in enumerate(_cuts(split, dims, shard_bytes))
                ]
                content["splits"][name] = _describe(split) | {"shards": shards}
        text = json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
        parse_index(f"{target}/{INDEX}", text)  # what no reader would take is not written
        (folder / INDEX).write_bytes(text)


def verify_shards(folder: Path) -> int:
    """Read every shard, compare it with its checksum in the index, and return how many there are.

    Raises:
        ValueError, OSError: naming the first file that is wrong.
    """
    source = LocalFolder(folder)
    index = parse_index(f"{folder}/{INDEX}", source.index())
    shards = [shard for split in index.splits.values() for shard in split.shards]
    for shard in tqdm(shards, "verify", unit="shard", leave=False, disable=None):
        path = source.fetch(shard)
        found = sha256_of(path)
        if found != shard.sha256:
            raise ValueError(f"{path}: has changed: its SHA-256 must be {shard.sha256}, got {found}")
    return len(shards)


def _cuts(split: Split, dims: dict[str, int], shard_bytes: int) -> Iterator[tuple[int, int]]:
    """First sample of each shard, and the one after its last."""
    begin = held = 0
    for position, size in enumerate(_sizes(split, dims).tolist()):
        if position > begin and held + size > shard_bytes:
            yield begin, position
            begin, held = position, 0
        held += size
    yield begin, len(split)


def _sizes(split: Split, dims: dict[str, int]) -> np.ndarray:
    """Bytes of each sample, (N,)."""
    sizes = np.sum([4 * dims[name] * step_counts(arrays) for name, arrays in split.inputs.items()], axis=0)
    return sizes if split.tokens is None else sizes + 8 * step_counts(split.tokens)


def _write_shard(path: Path, split: Split, begin: int, end: int, bar: tqdm[Any]) -> dict[str, Any]:
    arrays = {f"inputs.{name}": np.concatenate(sequence[begin:end]) for name, sequence in split.inputs.items()}
    if split.tokens is not None:
        arrays["tokens"] = np.concatenate(split.tokens[begin:end])
    data = save(arrays)
    path.write_bytes(data)
    bar.update(end - begin)
    checksum = hashlib.sha256(data).hexdigest()
    return {"file": path.name, "samples": end - begin, "bytes": len(data), "sha256": checksum}


def _describe(split: Split) -> dict[str, Any]:
    """What the index says of a split beside its shards."""
    labels = [label if known else None for label, known in zip(split.labels.tolist(), is_labelled(split), strict=True)]
    moments = {name: moments_of(arrays) for name, arrays in split.inputs.items()}
    return {
        "ids": split.ids,
        "labels": labels,
        "lengths": {name: step_counts(arrays).tolist() for name, arrays in split.inputs.items()},
        "token_lengths": None if split.tokens is None else step_counts(split.tokens).tolist(),
        "moments": {
            name: {
                "count": found.count,
                "mean": found.mean.tolist(),
                "squares": found.squares.tolist(),
                "within": found.within.tolist(),
            }
            for name, found in moments.items()
        },
    }
