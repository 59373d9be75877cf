"""`torchrun train.py` computes what one process computes, writes once, and survives the loss of a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dmd.finite import FiniteWatch

from tests.example import trained_processes
from tests.example.small_runs import rows
from tests.example.trained_processes import EPOCHS, GLOBAL_BATCH, KILLED_AFTER, RECORDINGS, run

ROOT = Path(__file__).parents[2]
MINUTES = 2  # in which a job ends, whatever happens to it


def torchrun(folder, *tasks):
    """The tasks, by two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "examples" / "dmd")))
    return subprocess.run(
        [*command, str(Path(trained_processes.__file__)), str(folder), *tasks],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
        check=False,
    )


def history(folder):
    return json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of one process: one that has ended, and one that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("processes") / "runs"
    run(folder, "alone", 1)
    with pytest.MonkeyPatch.context() as patch:
        whole = FiniteWatch.remember

        def remember(self, step, *arguments):
            whole(self, step, *arguments)
            if step == KILLED_AFTER:
                raise KeyboardInterrupt

        patch.setattr(FiniteWatch, "remember", remember)
        with pytest.raises(SystemExit):
            run(folder, "begun", 1)
    return folder


def assert_same_run(got, wanted):
    """Metrics of every epoch, and what was found in the end, to 1e-5."""
    pairs = list(zip(history(got), history(wanted), strict=True))
    assert len(pairs) == EPOCHS
    metrics = json.loads((wanted / "results.json").read_text())["valid"].keys()
    for ours, theirs in pairs:
        for name in metrics:
            assert ours["valid"][name] == pytest.approx(theirs["valid"][name], abs=1e-5), name
        # Those of training are of the same batches too; in validation a batch is what one process reads at a time.
        assert ours["train"] == pytest.approx(theirs["train"], abs=1e-5)
    ours, theirs = (json.loads((each / "results.json").read_text()) for each in (got, wanted))
    for split in ("valid", "test"):
        assert ours[split] == pytest.approx(theirs[split], abs=1e-5)
    for ours, theirs in zip(rows(got / "predictions.csv"), rows(wanted / "predictions.csv"), strict=True):
        assert ours["id"] == theirs["id"]
        assert float(ours["prediction"]) == pytest.approx(float(theirs["prediction"]), abs=1e-5)


def test_two_processes_train_as_one_does_and_one_of_them_writes(folder):
    ended = torchrun(folder, "together", "begun+")
    assert ended.returncode == 0, ended.stderr
    assert_same_run(folder / "together", folder / "alone")
    assert_same_run(folder / "begun", folder / "alone")  # begun by one process, ended by two
    assert json.loads((folder / "together/results.json").read_text())["config"]["batch_size"] == GLOBAL_BATCH // 2
    ids = [row["id"] for row in rows(folder / "together" / "predictions.csv")]
    assert len(ids) == len(set(ids)) == sum(RECORDINGS.sizes[split] for split in ("valid", "test"))
    first, second = (json.loads(Path(f"{folder}-{rank}.json").read_text()) for rank in range(2))
    assert any("model.safetensors" in path for path in first)
    assert all(each.startswith("os.mkdir") for each in second)  # it makes sure that the folder is there


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_one_process_goes_on(folder):
    ended = torchrun(folder, "killed!")
    assert ended.returncode != 0
    told = [line for line in ended.stderr.splitlines() if "go on with: python examples/dmd/train.py --resume" in line]
    assert len(told) == 1, ended.stderr
    assert 'train.py", line' not in ended.stderr  # no traceback but torchrun's own
    assert not (folder / "killed" / "results.json").exists()
    run(folder, "killed+", 1)
    assert_same_run(folder / "killed", folder / "alone")
