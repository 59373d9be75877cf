"""Going on with a run changes nothing, and what is no such run is refused."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import train
from dmd import report, training, training_state
from dmd.data import synthetic
from dmd.runs import finish, prepare_runs, summarise
from dmd.task import DMDTask, TaskConfig
from dmd.training_state import checkpoints_of

from tests.example.small_runs import CONFIG, MODEL, RECORDINGS, content, fail_on_call, prepare

pytestmark = pytest.mark.usefixtures("no_pictures")


# The same again


def test_a_seed_fixes_a_run(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        prepare(tmp_path / name, seed=seed).train()
        torch.manual_seed(seed + 100)  # what happens outside a run does not reach it
    first, second, other = (content(tmp_path / name) for name in "abc")
    assert first == second
    assert first["predictions"] != other["predictions"]


INTERRUPTIONS = {  # 3 batches an epoch in training, and 1 in validation
    "in the first epoch": (DMDTask, "forward", 2, 0),
    "in the second epoch": (DMDTask, "forward", 6, 1),
    "in validation": (training, "evaluate", 2, 1),
    "between the best weights and the checkpoint": (training, "write_checkpoint", 2, 1),
    "in the checkpoint": (training_state, "save_file", 4, 1),
    "before the checkpoint has its name": (os, "replace", 5, 1),
    "in the test split": (training, "evaluate", 5, 3),
    "before the results": (report, "write_predictions_csv", 1, 3),
}


@pytest.mark.parametrize("where", INTERRUPTIONS)
def test_going_on_after_an_interruption_changes_nothing(tmp_path, undisturbed, where):
    owner, name, count, finished_epochs = INTERRUPTIONS[where]
    with pytest.MonkeyPatch.context() as patch:
        fail_on_call(patch, owner, name, count)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path, epochs=3).train()
    assert not (tmp_path / "results.json").exists()
    torch.manual_seed(99)
    run = prepare(tmp_path, epochs=3, resume=True)
    assert run.state["epoch"] == finished_epochs  # at most the current epoch is lost
    assert not run.is_finished
    run.train()
    assert content(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.tmp"))
    assert prepare(tmp_path, epochs=3, resume=True).is_finished


def test_more_epochs_go_on_from_the_last(tmp_path):
    prepare(tmp_path, epochs=1).train()
    run = prepare(tmp_path, epochs=2, resume=True)
    assert not run.is_finished
    run.train()
    assert [epoch["epoch"] for epoch in json.loads((tmp_path / "history.json").read_text())] == [1, 2]


def test_going_on_with_runs_over_seeds(tmp_path):
    def run_all(folder, **options):
        runs = prepare_runs(replace(CONFIG, out=str(tmp_path / folder)), [5, 7], RECORDINGS, **options)
        summarise(tmp_path / folder, [finish(run) for run in runs])
        return runs

    run_all("whole", resume=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_pictures", lambda *_, **__: {})
        fail_on_call(patch, training, "evaluate", 6)  # 4 in the first run, then the second epoch of the second
        with pytest.raises(KeyboardInterrupt):
            run_all("parts", resume=False)
    states = [run.state["epoch"] for run in run_all("parts", resume=True)]
    assert states == [2, 2]
    for seed in (5, 7):
        folder = Path(f"seed-{seed}")
        assert content(tmp_path / "parts" / folder) == content(tmp_path / "whole" / folder)
    summaries = [(tmp_path / folder / "summary.json").read_text() for folder in ("whole", "parts")]
    assert summaries[0] == summaries[1]


# What is refused


REFUSED = [
    ({"seed": 1}, "is a run of another config: seed is 0 there, 1 here"),
    ({"learning_rate": 0.5}, "learning_rate is 0.001 there, 0.5 here"),
    ({"model": replace(MODEL, dim=16)}, "model.dim is 8 there, 16 here"),
    ({"objective": TaskConfig(gamma=0.5)}, "objective.gamma is 0.1 there, 0.5 here"),
    ({"recordings": synthetic((48, 16, 16))}, "is a run on other data"),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_pictures", lambda *_, **__: {})
        prepare(out, epochs=1).train()
    return out


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_folder_of_another_run(begun, options, message):
    before = {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
    with pytest.raises(ValueError, match=message):
        prepare(begun, resume=True, epochs=1, **options)
    with pytest.raises(ValueError, match=r"already holds a run; --resume .* goes on, another --out starts anew"):
        prepare(begun, epochs=1, **options)
    assert before == {path: path.stat().st_mtime_ns for path in begun.rglob("*")}


def test_single_runs_and_runs_over_seeds_do_not_mix(tmp_path, begun):
    config = replace(CONFIG, epochs=1)
    with pytest.raises(ValueError, match="holds a single run; runs over seeds need another --out"):
        prepare_runs(replace(config, out=str(begun)), [1, 2], RECORDINGS, resume=False)
    prepare_runs(replace(config, out=str(tmp_path)), [1, 2], RECORDINGS, resume=False)
    with pytest.raises(ValueError, match=r"holds runs over seeds \[1, 2\]; a single run needs another --out"):
        prepare_runs(replace(config, out=str(tmp_path)), [], RECORDINGS, resume=False)


def test_nothing_is_written_before_every_seed_is_checked(tmp_path, begun):
    shutil.copytree(begun, tmp_path / "seed-2")
    with pytest.raises(ValueError, match="already holds runs"):
        prepare_runs(replace(CONFIG, out=str(tmp_path)), [1, 2], RECORDINGS, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["seed-2"]


# What is damaged


def flip(whole, position):
    """One bit of a file."""
    return whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :]


DAMAGES = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "empty": lambda _: b"",
    "junk": lambda _: b"no such thing",
    "first bit": lambda whole: flip(whole, 0),
    "middle bit": lambda whole: flip(whole, len(whole) // 2),
    "last bit": lambda whole: flip(whole, len(whole) - 1),
    "gone": None,
}
NAMES = ("model.safetensors", "best.safetensors", "optimizer.safetensors", "training.json", "SHA256SUMS")


def damage(path, how):
    if DAMAGES[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[how](path.read_bytes()))


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """A run that was stopped in its third epoch, with checkpoints after steps 6 (second epoch) and 7."""
    out = tmp_path_factory.mktemp("halfway") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fail_on_call(patch, DMDTask, "forward", 3 * 3 + 2)  # validation has one batch
        with pytest.raises(KeyboardInterrupt):
            prepare(out, epochs=3, checkpoint_every=1).train()
    assert [path.name[-8:] for path in checkpoints_of(out)] == ["00000007", "00000008"]
    return out


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, halfway, undisturbed, name, how):
    out = Path(shutil.copytree(halfway, tmp_path / "run"))
    older, newer = checkpoints_of(out)
    damage(newer / name, how)
    with pytest.warns(UserWarning, match=rf"{newer.name} is damaged and passed over"):
        run = prepare(out, epochs=3, resume=True)
    assert run.state["step"] == 7
    assert run.checkpoint.path == older
    if (name, how) == ("model.safetensors", "middle bit"):  # the rest goes the same way
        run.train()
        assert content(out) == undisturbed


@pytest.mark.parametrize("how", ["middle bit", "gone"])
def test_weights_of_the_run_that_are_damaged_are_written_again(tmp_path, halfway, undisturbed, how):
    out = Path(shutil.copytree(halfway, tmp_path / "run"))
    damage(out / "model.safetensors", how)
    prepare(out, epochs=3, resume=True).train()
    assert content(out) == undisturbed


def test_without_a_whole_checkpoint_nothing_is_lost(tmp_path, halfway):
    out = Path(shutil.copytree(halfway, tmp_path / "run"))
    for path in checkpoints_of(out):
        damage(path / "optimizer.safetensors", "cut")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(ValueError, match=r"no checkpoint of .*run is whole \(.*optimizer\.safetensors.*\); remove"):
        prepare(out, epochs=3, resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def forge(path, **fields):
    """Write other fields, and the checksum that belongs to them."""
    state = json.loads((path / "training.json").read_text())
    (path / "training.json").write_text(json.dumps({key: x for key, x in (state | fields).items() if x is not ...}))
    names = sorted(entry.name for entry in path.iterdir() if entry.name != "SHA256SUMS")
    sums = [f"{sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (path / "SHA256SUMS").write_text("".join(sums))


@pytest.mark.parametrize("fields", [{"format": 99}, {"history": ...}])
def test_a_checkpoint_of_another_program(tmp_path, halfway, fields):
    out = Path(shutil.copytree(halfway, tmp_path / "run"))
    forge(checkpoints_of(out)[-1], **fields)
    with pytest.warns(UserWarning, match=r"training\.json must have format 1 and the fields bucket, edges, epoch"):
        prepare(out, epochs=3, resume=True)


def test_checksums_are_those_of_sha256sum(halfway):
    for path in checkpoints_of(halfway):
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_split_without_labels(tmp_path, split):
    part = RECORDINGS.splits[split]
    splits = RECORDINGS.splits | {split: replace(part, labels=np.full_like(part.labels, np.nan))}
    with pytest.raises(ValueError, match=f"synthetic has no labelled sample in split '{split}'"):
        prepare(tmp_path / "run", replace(RECORDINGS, splits=splits))
    assert not (tmp_path / "run").exists()


def test_batches_of_another_size_are_said(tmp_path, begun, monkeypatch):
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    prepare(out, epochs=1, resume=True)
    with pytest.warns(UserWarning, match="had 16 samples of all processes until now, and has 8 from here on"):
        prepare(out, epochs=1, batch_size=8, resume=True)


@pytest.mark.parametrize(("processes", "size"), [(1, 16), (2, 8), (3, 16)])
def test_with_other_processes_steps_stay_as_large_where_they_can(begun, monkeypatch, processes, size):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert train.resume_defaults(str(begun))["batch_size"] == size
