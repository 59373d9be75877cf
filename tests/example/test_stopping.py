"""SIGTERM and Ctrl-C: the step is finished, a checkpoint written, a clear line said, and nothing is lost."""

import os
import signal

import pytest
import train
from dmd import report, training, training_state
from dmd.stopping import Stopped, StopRequest
from dmd.task import DMDTask
from dmd.training_state import checkpoints_of

from tests.example.small_runs import content, on_call, prepare

pytestmark = pytest.mark.usefixtures("no_pictures")
MOMENTS = {  # 3 batches an epoch in training, 1 in validation: what the signal comes in, finished epochs, steps
    "in the first step": (DMDTask, "forward", 1, 0, 1),
    "in the last step of an epoch": (DMDTask, "forward", 7, 1, 6),
    "in validation": (training, "evaluate", 2, 1, 6),
    "in a checkpoint": (training_state, "save_file", 4, 2, 6),
    "in the test split": (training, "evaluate", 5, 3, 9),
    "in the results": (report, "write_predictions_csv", 1, 3, 9),
}


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_stopped_goes_on_to_the_same_end(tmp_path, undisturbed, moment, number):
    owner, name, count, epochs, steps = MOMENTS[moment]
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        on_call(patch, owner, name, count, send(number))
        with pytest.raises(Stopped) as stopped:
            prepare(tmp_path, epochs=3).train()
    assert (stopped.value.number, stopped.value.status) == (number, 128 + number)
    assert stopped.value.said == f"after epoch {epochs}, step {steps}"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    run = prepare(tmp_path, epochs=3, resume=True)
    assert (run.state["epoch"], run.state["step"]) == (epochs, steps)  # not a step is lost
    run.train()
    assert content(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_how_to_go_on(tmp_path, monkeypatch, capsys, number):
    out = tmp_path / "run"
    on_call(monkeypatch, DMDTask, "forward", 2, send(number))
    options = ["--model.dim=8", "--model.num_heads=2", "--model.num_layers=1", "--epochs=1"]
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", "synthetic", "--device", "cpu", "--out", str(out), *options])
    assert ended.value.code == 128 + number
    name = signal.Signals(number).name
    again = f"go on with: python examples/dmd/train.py --resume {out}"
    assert capsys.readouterr().err == f"\n{name} after epoch 0, step 2, with a checkpoint; {again}\n"
    assert [path.name for path in checkpoints_of(out)] == ["epoch-0000-step-00000002"]
    train.main(["--resume", str(out)])
    assert "from epoch 1, step 3" in capsys.readouterr().out


def interrupted_twice(stop):
    """Ctrl-C, and what a launcher sends then."""
    with stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGINT
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("not reached")


def test_a_second_interrupt_ends_at_once():
    with pytest.raises(Stopped):  # at the end of the run, as nothing is to begin after it
        interrupted_twice(StopRequest())
