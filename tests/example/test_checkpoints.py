"""Which checkpoints are kept, and which are written over."""

import shutil

import pytest
import torch
from dmd.training_state import KEPT, checkpoints_of, read_checkpoint, write_checkpoint

from tests.example.small_runs import prepare

STATE = {"history": [], "edges": [], "seconds": 0.0, "skipped": 0, "watch": [0.0] * 3, "seen": 0, "bucket": None}
STATE |= {"totals": None, "terms": [], "rate": 0.0, "spent": 0.0}


def write(folder, epoch, step, unusable=None, newest=None):
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters())
    state = STATE | {"epoch": epoch, "step": step}
    return write_checkpoint(folder, module, optimizer, state, None, unusable=unusable or [], newest=newest)


def test_the_last_two_are_kept_by_number(tmp_path):
    paths = [write(tmp_path, epoch, 10 * epoch) for epoch in (9998, 9999, 10000, 10001)]
    assert checkpoints_of(tmp_path) == paths[-KEPT:]


def test_a_damaged_one_goes_when_the_next_is_there(tmp_path, monkeypatch):
    whole, damaged = write(tmp_path, 0, 1), write(tmp_path, 0, 2)
    (damaged / "training.json").unlink()
    unusable = [damaged]
    with monkeypatch.context() as patch:
        patch.setattr("dmd.training_state.save_file", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write(tmp_path, 0, 3, unusable)
    assert checkpoints_of(tmp_path) == [whole, damaged]
    again = write(tmp_path, 0, 2, unusable)
    assert unusable == []
    assert checkpoints_of(tmp_path) == [whole, again]
    read_checkpoint(again)
    later = write(tmp_path, 0, 3, unusable)
    assert checkpoints_of(tmp_path) == [again, later]


def test_nothing_is_written_where_nothing_has_changed(tmp_path, monkeypatch):
    path = write(tmp_path, 0, 1)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: pytest.fail("a whole checkpoint is removed"))
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    assert write(tmp_path, 0, 1, newest=path) == path
    assert before == {file: file.stat().st_mtime_ns for file in path.iterdir()}


def test_who_may_read_a_run_may_read_its_weights(tmp_path):
    """Safetensors leaves a file to its owner alone; a colleague could open everything but the model."""
    prepare(tmp_path / "run", epochs=1, pictures=False).train()
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "plain").touch()
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}
