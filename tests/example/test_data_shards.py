"""Recordings as shards: bit for bit those of the file, read as they are needed, and nothing wrong is believed."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import convert
import numpy as np
import pytest
from dmd.data import joined, load, shards, standardization_statistics, synthetic, training_loader
from dmd.data.shard_writer import verify_shards, write_shards
from dmd.missing import missing_cases
from safetensors.numpy import load_file, save_file

from tests.example.small_runs import content, prepare

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"text": 4, "vision": 2, "audio": 3}


def mmsa_file(path, sizes=(24, 9, 10)):
    """An MMSA file with texts of every length, absent modalities, token ids and unlabelled samples."""
    generator = np.random.default_rng(0)
    file = {}
    for split, size in zip(("train", "valid", "test"), sizes):
        lengths = {key: generator.integers(0, 7, size) for key in KEYS}
        is_real = {key: np.arange(6) < lengths[key][:, None] for key in KEYS}
        entries = {key: generator.normal(size=(size, 6, dim)) * is_real[key][..., None] for key, dim in KEYS.items()}
        tokens = [generator.integers(0, 90, (size, 6)), is_real["text"], np.zeros((size, 6))]
        labels = generator.uniform(-3, 3, size)
        labels[::5] = np.nan
        ids = [f"{split}${i}" for i in range(size)]
        file[split] = entries | {"id": ids, "text_bert": np.stack(tokens, axis=1), "regression_labels": labels}
    path.write_bytes(pickle.dumps(file, protocol=4))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return mmsa_file(tmp_path_factory.mktemp("source") / "file.pkl")


@pytest.fixture(scope="module")
def folder(source):
    """The file as shards of a few samples each, with one whose samples have no step."""
    write_shards(load(str(source)), target := source.parent / "shards", shard_bytes=600)
    return target


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def assert_same_split(ours, theirs):
    assert ours.ids == theirs.ids
    assert ours.labels.dtype == theirs.labels.dtype
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert (ours.tokens is None) == (theirs.tokens is None)
    pairs = [*((ours.inputs[name], theirs.inputs[name]) for name in theirs.inputs)]
    for mine, other in pairs if theirs.tokens is None else [*pairs, (ours.tokens, theirs.tokens)]:
        for x, y in zip(mine, other, strict=True):
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_shards_hold_what_the_file_holds_to_the_bit(source, folder):
    file, read = load(str(source)), load(str(folder))
    assert len(list(folder.glob("train-*"))) > 3
    for field in ("names", "dims", "sizes", "task", "metrics", "classes", "label_range"):
        assert getattr(read, field) == getattr(file, field)
    for name, split in file.splits.items():
        assert_same_split(read.splits[name], split)
    whole = [joined(one.splits["train"], one.splits["valid"]) for one in (read, file)]
    assert_same_split(*whole)
    for ours, theirs in ([one.splits["train"] for one in (read, file)], whole):
        for centred in (False, True):
            statistics = [standardization_statistics(split, centred=centred) for split in (ours, theirs)]
            for name in file.names:
                assert [x.tobytes() for x in statistics[0][name]] == [x.tobytes() for x in statistics[1][name]]
    for ours, theirs in zip(*(missing_cases(one.splits["test"], [0.3], 1) for one in (read, file)), strict=True):
        assert_same_split(ours.split, theirs.split)


def test_classes_and_forced_tasks(tmp_path):
    write_shards(synthetic((9, 4, 4), task="classification", unlabelled=0.4), tmp_path / "shards")
    read = load(str(tmp_path / "shards"), task="classification", metrics="accuracy")
    assert_same_split(read.splits["train"], synthetic((9, 4, 4), task="classification", unlabelled=0.4).splits["train"])
    assert read.classes == ("negative", "neutral", "positive")
    with pytest.raises(ValueError, match="written for task 'classification', got 'regression': convert with --task"):
        load(str(tmp_path / "shards"), task="regression")


@pytest.mark.parametrize("options", [{}, {"train_on": "train+valid", "keep": "last", "labelled_fraction": 1.0}])
def test_training_is_the_same_to_the_bit(source, folder, tmp_path, no_pictures, options):
    for name, data in (("file", source), ("shards", folder)):
        prepare(tmp_path / name, load(str(data)), epochs=1, batch_size=7, **options).train()
    assert content(tmp_path / "file") == content(tmp_path / "shards")
    data = [json.loads((tmp_path / name / "results.json").read_text())["data"] for name in ("file", "shards")]
    assert data[0]["sha256"] != data[1]["sha256"] == load(str(folder)).sha256


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_reads_what_a_batch_needs(folder, monkeypatch, num_workers):
    monkeypatch.setattr(shards, "HELD", 1500)  # maps are closed and opened again all the time
    split = load(str(folder)).splits["train"]
    batches = list(training_loader(split, 5, num_workers=num_workers))
    wanted = list(training_loader(split, 5))
    assert [batch.index.tolist() for batch in batches] == [batch.index.tolist() for batch in wanted]
    for batch, other in zip(batches, wanted, strict=True):
        for name in split.inputs:
            assert np.array_equal(batch.inputs[name], other.inputs[name])
        assert np.array_equal(batch.tokens, other.tokens)


def test_reading_and_pickling_keep_no_more_than_is_needed(folder, monkeypatch):
    split = load(str(folder)).splits["train"]
    files = split.inputs["language"].files
    assert all(sequence.files is files for sequence in (*split.inputs.values(), split.tokens))
    again = pickle.loads(pickle.dumps(split))
    assert not again.inputs["language"].files._open
    assert_same_split(again, split)
    sizes = [shard.bytes for shard in files.shards]
    for held, most in ((2 * max(sizes), 2 * max(sizes)), (1, max(sizes))):  # one is always open
        monkeypatch.setattr(shards, "HELD", held)
        files._open.clear()
        for number in (0, 1, 2, 0, 3):
            files.open(number)
            assert sum(sizes[each] for each in files._open) <= most
            assert list(files._open)[-1] == number


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


def test_the_command(source, folder, tmp_path, capsys):
    target = tmp_path / "new" / "shards"
    assert convert.main([str(source), str(target), "--shard-bytes", "600"]) == 0
    assert capsys.readouterr().out == f"wrote {target}\n"
    for path in folder.iterdir():
        assert path.read_bytes() == (target / path.name).read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shards"]
    assert convert.main(["--verify", str(target)]) == 0
    assert capsys.readouterr().out.endswith("shards are as they were written\n")
    assert convert.main([str(source), str(folder)]) == 2
    assert capsys.readouterr().err == f"error: {folder} exists already; nothing is overwritten\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(tmp_path, number):
    source = mmsa_file(tmp_path / "file.pkl", (4000, 3, 3))
    command = [sys.executable, str(ROOT / "examples" / "dmd" / "convert.py"), str(source), str(tmp_path / "shards")]
    process = subprocess.Popen(
        [*command, "--shard-bytes", "1"],  # thousands of files
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which tests in the background ignore
    )
    while not (tmp_path / "shards.tmp" / "train-00010.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "shards").exists()
    assert (tmp_path / "shards.tmp").exists() == (number == signal.SIGKILL)
    if number == signal.SIGKILL:
        with pytest.raises(FileNotFoundError, match=r"index\.json: the file is missing"):
            load(str(tmp_path / "shards.tmp"))
