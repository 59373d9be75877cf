"""Shards and their index that are damaged, or hold something else: each fault is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dmd.data import load
from dmd.data.shard_writer import verify_shards
from safetensors.numpy import load_file, save_file


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(folder, change):
    path = folder / "index.json"
    index = json.loads(path.read_text())
    change(index, index["splits"]["train"])
    path.write_text(json.dumps(index))


def put(key, value):
    return lambda index, train: (train if key in train else index).__setitem__(key, value)


def shard(key, value):
    return lambda index, train: train["shards"][0].__setitem__(key, value)


FAULTS = {
    "format": (put("format", "other"), "must be of format 'dmd-shards' 1, got 'other' 1"),
    "version": (put("version", 2), "must be of format 'dmd-shards' 1, got 'dmd-shards' 2"),
    "version of another type": (put("version", True), "key 'version': must be of another type, got True"),
    "metrics": (put("metrics", "accuracy"), "key 'metrics': must be 'accuracy' with task 'classification'"),
    "classes": (put("classes", ["a"]), "key 'classes': must be the names of the classes, and empty for regression"),
    "dims": (put("dims", {"language": -1}), "key 'dims': must be modality -> number of columns"),
    "splits": (put("splits", {}), "lacks the key 'splits.train'"),
    "split": (put("splits", {"train": 3}), "key 'splits.train': must be of another type, got 3"),
    "ids": (put("ids", [1]), "key 'splits.train.ids': must be a list of strings, got [1]"),
    "no ids": (put("ids", []), "key 'splits.train.ids': must be at least one string"),
    "labels": (
        put("labels", [1.0]),
        "key 'splits.train.labels': must be 24 numbers or nulls, none beyond 1e+100, got [1.0]",
    ),
    "label": (put("labels", [9.0] * 24), "key 'splits.train.labels': labels must lie in [-3, 3]"),
    "modality": (put("lengths", {"language": [1]}), "key 'splits.train.lengths': must be an entry for each of"),
    "length": (lambda _, train: train["lengths"].update(vision=[-1] * 24), "'splits.train.lengths.vision': must be 24"),
    "long": (lambda _, train: train["lengths"].update(vision=[2**70] * 24), "'splits.train.lengths.vision': must be"),
    "tokens": (put("token_lengths", None), "key 'token_lengths': must be null in every split, or in none"),
    "shards": (put("shards", []), "key 'splits.train.shards': must be samples that sum to 24, the number of ids"),
    "path up": (shard("file", "../x.safetensors"), "key 'splits.train.shards.0.file': must be the plain name"),
    "absolute path": (shard("file", "/x.safetensors"), "key 'splits.train.shards.0.file': must be the plain name"),
    "hidden file": (shard("file", ".x.safetensors"), "key 'splits.train.shards.0.file': must be the plain name"),
    "missing file": (shard("file", "x.safetensors"), "x.safetensors: the file is missing"),
    "samples": (shard("samples", 10**9), "key 'splits.train.shards': must be samples that sum to 24"),
    "negative samples": (shard("samples", -1), "key 'splits.train.shards.0.samples': must be a number above 0"),
    "bytes": (shard("bytes", 12), "train-00000.safetensors: must have 12 bytes, as index.json says, got"),
    "checksum": (shard("sha256", "x"), "key 'splits.train.shards.0.sha256': must be 64 hexadecimal digits, got 'x'"),
    "twice": (
        lambda _, train: train["shards"][1].update(file="train-00000.safetensors"),
        "key 'file': a shard is named twice",
    ),
    "count": (
        lambda _, train: train["moments"]["vision"].update(count=1),
        "key 'splits.train.moments.vision.count': must be",
    ),
    "moments": (
        lambda _, train: train["moments"]["vision"].update(squares=[-1, 0]),
        "key 'splits.train.moments.vision.squares': must be numbers from 0",
    ),
    "huge moment": (
        lambda _, train: train["moments"]["vision"].update(mean=[10**400, 0]),
        "key 'splits.train.moments.vision.mean': must be 2 numbers, none beyond 1e+100",
    ),
    "huge label": (put("labels", [10**400] * 24), "key 'splits.train.labels': must be 24 numbers or nulls, none"),
    "id that cannot be written": (
        lambda _, train: train["ids"].__setitem__(3, "\ud800"),
        "key 'splits.train.ids': must be text of at most 1000 letters that can be written, got something else at",
    ),
    "modality that cannot be written": (put("dims", {"\ud800": 1}), "key 'dims': must be text of at most 1000"),
    "repeated id": (
        lambda _, train: train["ids"].__setitem__(3, train["ids"][2]),
        "key 'splits.train.ids': must be different, got 'train$2' 2 times",
    ),
    "steps": (
        lambda _, train: train["lengths"]["vision"].reverse(),
        "key 'inputs.vision': must be ('F32', [",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_index(copy, change, message):
    edit(copy, change)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(str(copy))
    assert message in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"format": NaN}', '{"format": "dmd-shards"}', "\xff"])
def test_a_damaged_index(copy, text):
    (copy / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"index\.json"):
        load(str(copy))


def test_a_shard_that_vanishes_between_fetch_and_open_is_fetched_again(copy, tmp_path):
    files = load(str(copy)).splits["train"].inputs["language"].files
    files._open.clear()
    paths = [tmp_path / "gone", files.source.fetch(files.shards[0])]
    files.source.fetch = lambda shard: paths.pop(0)
    assert files.open(0)
    files._open.clear()
    paths = [tmp_path / "gone", tmp_path / "gone too"]
    with pytest.raises(FileNotFoundError, match="gone too"):
        files.open(0)


def test_wrong_shards(copy, tmp_path):
    first = copy / "train-00000.safetensors"
    arrays, size = load_file(first), first.stat().st_size
    damaged = bytearray(first.read_bytes())
    damaged[-1] ^= 1
    first.write_bytes(damaged)
    load(str(copy))  # one wrong bit in a number shows in the checksum alone
    with pytest.raises(ValueError, match=r"train-00000.safetensors: has changed: its SHA-256 must be"):
        verify_shards(copy)
    first.write_bytes(b"\xff" * size)
    with pytest.raises(ValueError, match=r"train-00000.safetensors: is damaged, or no safetensors file"):
        load(str(copy))
    for change, message in (
        ({"extra": np.zeros(2)}, "key 'extra': is not in index.json"),
        ({"inputs.vision": arrays["inputs.vision"].astype(np.float64)}, r"must be \('F32', .*, got \('F64'"),
    ):
        save_file(arrays | change, first)
        edit(copy, shard("bytes", first.stat().st_size))
        with pytest.raises(ValueError, match=message):
            load(str(copy))
    first.rename(tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of the folder, to"):
        load(str(copy))
    with pytest.raises(FileNotFoundError, match=r"index\.json: the file is missing"):
        load(str(tmp_path))
