"""Steps whose loss or gradient is not finite are skipped and counted; too many in a row end the run."""

import itertools
import json
import math

import pytest
import torch
import train
from dmd.data import BatchOrder
from dmd.finite import NotFinite
from dmd.task import DMDTask

from tests.example.small_runs import RECORDINGS, prepare

pytestmark = pytest.mark.usefixtures("no_pictures")


def spoil(monkeypatch, calls, what):
    """Make the loss, or only the gradient of one weight, not finite in some of the training batches."""
    whole, count = DMDTask.forward, iter(range(1, 10**6))

    def spoiled(self, batch):
        out = whole(self, batch)
        if self.training and next(count) in calls:
            if what == "loss":
                out |= {"loss": out["loss"] * math.inf, "task": out["task"] * math.nan}
            else:
                bias = self.model.joint_head.output.bias
                spoilt = out["loss"] + (bias * 0).abs().sqrt().sum()  # the derivative of sqrt at 0
                out |= {"loss": spoilt}
                assert spoilt.isfinite()
        return out

    monkeypatch.setattr(DMDTask, "forward", spoiled)


def snapshots(monkeypatch, run):
    """The weights and AdamW's memory after every step."""
    seen, whole = [], torch.optim.AdamW.step

    def step(self, *arguments, **options):
        result = whole(self, *arguments, **options)
        memory = [value.clone() for values in self.state.values() for value in values.values()]
        seen.append([*(p.detach().clone() for p in run.task.parameters()), *memory])
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return seen


def are_equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_is_skipped_and_counted(tmp_path, monkeypatch, what, accumulation):
    run = prepare(tmp_path, epochs=1, batch_size=8, accumulation=accumulation)  # 6 batches
    spoil(monkeypatch, {3}, what)
    seen = snapshots(monkeypatch, run)
    run.train()
    skipped = (3 - 1) // accumulation
    changed = [not are_equal(before, after) for before, after in itertools.pairwise(seen)]
    assert changed == [step + 1 != skipped for step in range(len(changed))]
    (epoch,) = json.loads((tmp_path / "history.json").read_text())
    assert epoch["skipped_steps"] == 1
    assert all(value is not None and math.isfinite(value) for value in epoch["train"].values())
    assert all(p.isfinite().all() for p in run.task.parameters())


def test_too_many_in_a_row_end_the_run(tmp_path, monkeypatch):
    run = prepare(tmp_path, epochs=2, batch_size=16, max_skipped_steps=2)  # 3 batches an epoch
    spoil(monkeypatch, {1, 3, 5, 6, 7}, "loss")  # 7: when the last batch is run again for the report
    with pytest.raises(NotFinite) as failure:
        run.train()
    text = str(failure.value)
    assert text.startswith("2 steps in a row had a loss or gradient that is not finite, and were skipped: steps 5 to 6")
    assert "task = nan" in text
    assert "loss = inf" in text
    assert "model.fusion (" in text
    report = json.loads((tmp_path / "not_finite.json").read_text())
    assert set(report["samples"]) == {"5", "6"}
    ids = report["samples"]["6"]
    assert len(ids) == 16
    assert set(ids) <= set(RECORDINGS.splits["train"].ids)
    assert report["terms"]["task"] == "nan"
    assert any(name.startswith("model.fusion") for name in report["gradients"])
    monkeypatch.undo()
    resumed = prepare(tmp_path, epochs=2, batch_size=16, max_skipped_steps=2, resume=True)
    assert (resumed.state["epoch"], resumed.state["skipped"]) == (1, 2)  # what was before is there


def test_a_learning_rate_that_is_too_high(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--model.dim=8", "--model.num_heads=2", "--model.num_layers=1", "--learning-rate=1e37", "--epochs=9"]
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", "synthetic", "--device", "cpu", "--out", str(out), "--max-skipped-steps=3", *options])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("\nerror: 3 steps in a row had a loss or gradient that is not finite")
    assert f"everything is in {out}/not_finite.json; a lower --learning-rate may help" in error


def test_predictions_that_are_not_finite(tmp_path, capsys):
    """Weights that are finite can be too large for the validation split, before steps are skipped."""
    out = tmp_path / "run"
    options = ["--model.dim=8", "--model.num_heads=2", "--model.num_layers=1", "--learning-rate=1e30", "--epochs=1"]
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", "synthetic", "--device", "cpu", "--out", str(out), *options])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("\nerror: 64 of 64 predictions of split 'valid' are not finite, the first is of sample ")
    assert len(json.loads((out / "not_finite.json").read_text())["samples"]) == 64


def test_counts_survive(tmp_path, monkeypatch):
    spoil(monkeypatch, {2, 3}, "loss")
    run = prepare(tmp_path, epochs=1, batch_size=16, max_skipped_steps=3)
    run.train()
    resumed = prepare(tmp_path, epochs=2, batch_size=16, max_skipped_steps=3, resume=True)
    assert resumed.state["watch"] == [2.0, 2.0, 2.0]
    spoil(monkeypatch, {1, 2}, "loss")  # the third in a row, and when it is run again
    with pytest.raises(NotFinite, match="steps 4 to 4"):
        resumed.train()


def test_the_report_names_every_batch_of_a_step(tmp_path, monkeypatch):
    """Of two batches of a step the first is bad: the report explains that one."""
    run = prepare(tmp_path, epochs=1, batch_size=8, accumulation=2, max_skipped_steps=1)
    whole, seen = DMDTask.forward, []

    def spoiled(self, batch):
        out = whole(self, batch)
        seen.append(batch.index.tolist())
        return out | ({"task": out["task"] * math.nan, "loss": out["loss"] * math.nan} if batch.index[0] == bad else {})

    bad = next(iter(run_order(run)))[0]
    monkeypatch.setattr(DMDTask, "forward", spoiled)
    with pytest.raises(NotFinite, match="task = nan") as failure:
        run.train()
    ids = RECORDINGS.splits["train"].ids
    assert failure.value.report["samples"] == {1: [ids[i] for i in seen[0] + seen[1]]}
    assert f"samples: {ids[bad]}, " in str(failure.value)


def run_order(run):
    order = BatchOrder(48, 8, seed=run.config.seed)
    order.start(1)
    return order


def test_a_smaller_limit_afterwards(tmp_path, monkeypatch):
    spoil(monkeypatch, {1, 2}, "loss")
    prepare(tmp_path, epochs=1, batch_size=16).train()
    monkeypatch.undo()
    prepare(tmp_path, epochs=2, batch_size=16, max_skipped_steps=2, resume=True).train()
