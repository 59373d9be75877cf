"""convert.py: what it writes, load reads; and the linear baseline reads that."""

import io
import json
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import convert as command
import numpy as np
import pytest
from dmd.data import load, synthetic

from benchmarks.linear_baseline import linear_baseline, markdown_table


def convert(*arguments: object) -> subprocess.CompletedProcess:
    """The command, without the seconds that a process needs to start."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # of argparse
            status = stopped.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six samples, two a split; the modality "watch" as CSV, "camera" as NumPy and absent in s0."""
    source = tmp_path / "recordings"
    (source / "watch").mkdir(parents=True)
    (source / "camera").mkdir()
    lines = ["id,split,label"]
    for i, split in enumerate(["train", "train", "valid", "valid", "test", "test"]):
        lines.append(f"s{i},{split},{'walk' if i % 2 else 'run'}")
        rows = "\n".join(f"{i},{step},0.5" for step in range(i + 1))
        (source / "watch" / f"s{i}.csv").write_text(f"x,y,z\n{rows}\n")
        if i:
            np.save(source / "camera" / f"s{i}.npy", np.full((2, 4), i))
    (source / "samples.csv").write_text("\n".join(lines) + "\n")
    return source


def test_a_folder_of_classes(folder, tmp_path):
    done = convert(folder, tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    recordings = load(str(tmp_path / "out.npz"))
    assert recordings.dims == {"camera": 4, "watch": 3}
    assert recordings.classes == ("run", "walk")
    train = recordings.splits["train"]
    assert train.ids == ["s0", "s1"]
    assert train.labels.tolist() == [0, 1]
    assert [len(steps) for steps in train.inputs["camera"]] == [0, 2]
    np.testing.assert_array_equal(train.inputs["watch"][1], [[1, 0, 0.5], [1, 1, 0.5]])


def test_samples_without_a_class_are_unlabelled(folder, tmp_path):
    (folder / "samples.csv").write_text((folder / "samples.csv").read_text().replace("s1,train,walk", "s1,train,"))
    assert convert(folder, tmp_path / "out.npz").returncode == 0
    recordings = load(str(tmp_path / "out.npz"))
    assert recordings.classes == ("run", "walk")
    assert recordings.splits["train"].labels.tolist() == [0, -100]


def test_a_folder_of_real_labels(folder, tmp_path):
    text = (folder / "samples.csv").read_text().replace("label", "value").replace("run", "-1.5").replace("walk", "")
    (folder / "samples.csv").write_text(text)
    assert convert(folder, tmp_path / "out.npz").returncode == 0
    recordings = load(str(tmp_path / "out.npz"))
    assert recordings.task == "regression"
    np.testing.assert_array_equal(recordings.splits["train"].labels, np.float32([-1.5, np.nan]))


def test_faults_are_one_line_and_status_2(folder, tmp_path):
    target = tmp_path / "out.npz"
    (folder / "watch" / "s1.csv").write_text("x,y\n1,2\n")
    faults = [convert(folder, target), convert(tmp_path / "nowhere", target)]
    (folder / "samples.csv").write_text("id,split\na,train\n")
    faults.append(convert(folder, target))
    faults.append(convert(folder / "samples.csv", target))
    faults.append(convert(folder / "watch" / "s0.csv", tmp_path / "shards"))
    np.save(tmp_path / "other.npy", np.array({"X": []}, dtype=object))
    faults.append(convert(tmp_path / "other.npy", target))
    words_of = (
        "files of one width, got [2, 3]",
        "there is no ",
        "needs the columns",
        "the source must be a folder, or a .pkl, .npz or .npy file",
        "the source must be a folder, or a .pkl, .npz or .npy file",
        "with the keys X",
    )
    for done, words in zip(faults, words_of, strict=True):
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not target.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.npy", "recordings"]
    target.touch()
    for given, words in (
        ((folder, target), "exists already; nothing is overwritten"),
        ((target, tmp_path / "new.npz"), "becomes a folder of shards"),
        ((tmp_path / "other.npy", tmp_path / "new"), "the target must be an .npz file"),
        ((folder,), "give SOURCE and TARGET, or --verify FOLDER"),
    ):
        done = convert(*given)
        assert done.returncode == 2
        assert words in done.stderr


def test_a_folder_becomes_the_same_as_file_and_as_shards(folder, tmp_path):
    done = [convert(folder, tmp_path / "out.npz"), convert(folder, tmp_path / "shards")]
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    file, shards = load(str(tmp_path / "out.npz")), load(str(tmp_path / "shards"))
    assert (shards.dims, shards.classes, shards.sizes) == (file.dims, file.classes, file.sizes)
    for name, split in file.splits.items():
        assert split.ids == shards.splits[name].ids
        for modality, arrays in split.inputs.items():
            for ours, theirs in zip(arrays, shards.splits[name].inputs[modality], strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "shards" / "index.json").read_text())["source"]["name"] == "recordings"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "recordings", "shards"]


@pytest.mark.parametrize("sample_id", ["../../secret", "/secret", "..", "", "a\\b", "a\0b"])
def test_an_id_cannot_name_another_folder(folder, tmp_path, sample_id):
    np.save(tmp_path / "secret.npy", np.zeros((1, 3)))
    (folder / "samples.csv").write_text((folder / "samples.csv").read_text().replace("s1,", f"{sample_id},"))
    done = convert(folder, tmp_path / "out.npz")
    assert done.returncode == 2
    assert f"samples.csv line 3, column 'id': must be a plain file name, got {sample_id!r}" in done.stderr


@pytest.mark.parametrize("name", ["watch/s1.csv", "watch", "samples.csv"])
def test_a_link_cannot_lead_out_of_the_folder(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    done = convert(folder, tmp_path / "out.npz")
    assert done.returncode == 2
    assert f"must stay inside {folder}, got a link to {tmp_path / 'elsewhere'}" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("camera/s1.npy", b"", "camera/s1.npy: cannot be read as .npy: "),
        ("camera/s1.npy", b"PK\x03\x04", "camera/s1.npy: cannot be read as .npy: "),
        ("watch/s1.csv", b"x,y,z\n1,2,house\n", "watch/s1.csv: cannot be read as .csv: could not convert string"),
        ("watch/s1.csv", b"x,y,z\n1,2,3\n1,2\n", "watch/s1.csv: cannot be read as .csv: "),
        ("watch/s1.csv", b"x\n\xff\n", "watch/s1.csv: cannot be read as .csv: "),
        ("samples.csv", b"\xff", "samples.csv: cannot be read as CSV in UTF-8: "),
        (
            "samples.csv",
            b"id,split,value\ns0,train,1\ns1,train,one\n",
            "samples.csv line 3, column 'value': must be a number, or empty where unknown, got 'one'",
        ),
    ],
)
def test_a_damaged_file_is_named(folder, tmp_path, name, content, words):
    (folder / name).write_bytes(content)
    done = convert(folder, tmp_path / "out.npz")
    assert done.returncode == 2
    assert f"{folder}/{words}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_smartwatch_form(tmp_path):
    generator = np.random.default_rng(0)
    signals = [generator.normal(size=(9, 6)), generator.normal(size=(6, 6))]
    data = {"X": signals, "y": np.array([1, 0]), "subject": np.array([3, 4]), "y_labels": ["A", "B"]}
    np.save(tmp_path / "raw.npy", np.array(data, dtype=object))
    assert convert(tmp_path / "raw.npy", tmp_path / "out.npz").returncode == 0
    with np.load(tmp_path / "out.npz") as file:
        assert file["signals"].dtype == np.int16
        assert file["offsets"].tolist() == [0, 4, 7]
        assert file["person"].tolist() == [3, 4]
        values = file["signals"] * file["scales"]
    wanted = np.concatenate([(steps[0 : len(steps) - 1 : 2] + steps[1::2]) / 2 for steps in signals])
    np.testing.assert_allclose(values, wanted, atol=1e-4)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_linear_baseline_finds_the_reliable_modality(task):
    recordings = synthetic((200, 20, 200), task=task, absent=0.05, unlabelled=0.1)
    results = linear_baseline(recordings)
    metric, sign = ("mae", -1) if task == "regression" else ("accuracy", 1)
    scores = [sign * results[name][metric] for name in ("language", "vision", "acoustic")]
    assert scores == sorted(scores, reverse=True)
    assert list(results) == ["language", "vision", "acoustic", "all"]
    assert markdown_table(results).count("\n") == 5
    assert linear_baseline(recordings, with_valid=True).keys() == results.keys()
