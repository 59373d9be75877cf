"""Recordings as shards: bit for bit those of the file, read as they are needed, and nothing wrong is believed."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import convert
import numpy as np
import pytest
from dmd.data import joined, load, shards, standardization_statistics, synthetic, training_loader
from dmd.data.shard_writer import write_shards
from dmd.missing import missing_cases

from tests.example.small_files import mmsa_file
from tests.example.small_runs import content, prepare

ROOT = Path(__file__).resolve().parents[3]


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
