"""Steps as CUDA graphs train as steps do: on a CPU by a tape of operations, on CUDA by the graphs themselves."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from dmd.finite import FiniteWatch
from dmd.graphed_step import CUDARecorder, GraphedStep
from dmd.training_step import TrainingStep

from tests.example.small import make_batch, make_model, make_task
from tests.example.tape import TapeRecorder

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dmd"
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTHS = ((5, 3, 4, 6), (4, 7, 6, 5), (9, 8, 2, 7))


def trainer(device="cpu", capturable=True, **options):
    """A task with dropout unless the options say otherwise, and its step."""
    task = make_task(make_model(**options)).to(device)
    # A gradient that is 0 but for rounding would otherwise move its weight as far as any other.
    optimizer = torch.optim.AdamW(task.parameters(), fused=True, eps=1e-3)
    accelerator = Accelerator(cpu=device == "cpu")
    task, optimizer = accelerator.prepare(task, optimizer)
    watch = FiniteWatch(accelerator.device, 10)
    return TrainingStep(task, optimizer, accelerator, 1.0, [1e-2], watch, capturable=capturable)


def train(step, run, seeds, device="cpu", rates=(0.1, 1.0, 0.5), batch_sizes=(4,)):
    """Losses and weights after a batch a seed, whose learning rates and sizes go round."""
    losses = []
    torch.manual_seed(7)
    for number, seed in enumerate(seeds):
        step.set_rates(rates[number % len(rates)])
        size = batch_sizes[number % len(batch_sizes)]
        labels = [-2.0, 1.0, float("nan"), -2.0][:size]
        batch = make_batch(lengths=[row[:size] for row in LENGTHS], labels=labels, seed=seed)
        batch = send_to_device(batch, device)
        losses.append(run(batch)[step.terms.index("loss")])
    return losses, {name: x.clone() for name, x in step.module.state_dict().items()}


def test_replays_train_as_the_step_itself_does():
    plain, graphed = trainer(dropout=0.2), trainer(dropout=0.2)
    recorder = TapeRecorder()
    run = GraphedStep(graphed, recorder, warm_up=2)
    losses, weights = train(plain, plain, range(6))
    losses_, weights_ = train(graphed, run, range(6))
    assert (recorder.runs, recorder.records, recorder.replays) == (2, 1, 4)
    assert torch.equal(torch.stack(losses), torch.stack(losses_))
    assert all(torch.equal(weight, weights_[name]) for name, weight in weights.items())


def test_another_learning_rate_reaches_a_replay():
    step = trainer(dropout=0.0)
    run = GraphedStep(step, TapeRecorder(), warm_up=1)
    train(step, run, [0, 1])
    before = train(step, run, [2], rates=(0.0,))[1]
    assert all(torch.equal(weight, before[name]) for name, weight in train(step, run, [3], rates=(0.0,))[1].items())
    after = train(step, run, [4], rates=(1.0,))[1]
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


def test_a_learning_rate_of_python_would_not():
    """The tape shows what a graph would: this is why the rates lie in tensors."""
    step = trainer(capturable=False, dropout=0.0)
    run = GraphedStep(step, TapeRecorder(), warm_up=1)
    before = train(step, run, [0, 1])[1]
    after = train(step, run, [2], rates=(0.0,))[1]
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


def test_a_replay_draws_new_dropout():
    step = trainer(dropout=0.5)
    run = GraphedStep(step, TapeRecorder(), warm_up=1)
    losses, _ = train(step, run, [0, 0, 0, 0, 0], rates=(0.0,))
    assert len({float(loss) for loss in losses}) == 5


# Shapes, inputs and results


def twice(batch, factor=2.0):
    return {name: x * factor for name, x in batch.items()}


def test_every_shape_is_recorded_by_itself_up_to_a_number():
    recorder = TapeRecorder()
    run = GraphedStep(twice, recorder, warm_up=1, max_graphs=2)
    for size in (3, 4, 5, 3, 4, 5, 3, 4, 5):
        assert torch.equal(run({"x": torch.full((size,), float(size))})["x"], torch.full((size,), 2.0 * size))
    assert (recorder.runs, recorder.records, recorder.replays) == (5, 2, 4)  # size 5 always runs
    run({"x": torch.ones(3, dtype=torch.float64)})
    run({"y": torch.ones(3)})
    run({"x": torch.ones(3)}, 3.0)  # what is no tensor cannot be changed in a graph
    assert recorder.runs == 8


def test_a_batch_is_copied_to_where_the_graph_reads_it():
    seen = []
    run = GraphedStep(lambda x: seen.append(x) or x + 1, TapeRecorder(), warm_up=1)
    given = [torch.full((2,), float(i)) for i in range(4)]
    results = [run(x) for x in given]
    assert len(seen) == 2  # replays are no Python
    assert [float(x[0]) for x in results] == [1, 2, 3, 4]  # none has written over another
    assert [float(x[0]) for x in given] == [0, 1, 2, 3]
    assert seen[1].data_ptr() not in [x.data_ptr() for x in given]


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="warm_up must be at least 1 and max_graphs at least 0, got 0 and 4"):
        GraphedStep(twice, TapeRecorder(), warm_up=0)


# On CUDA


@pytest.mark.gpu
@NEEDS_CUDA
def test_graphs_train_as_the_step_itself_does_on_cuda():
    plain, graphed = trainer("cuda", dropout=0.0), trainer("cuda", dropout=0.0)
    run = GraphedStep(graphed, CUDARecorder(), warm_up=2)
    losses, weights = train(plain, plain, range(12), "cuda", batch_sizes=(4, 4, 3))
    losses_, weights_ = train(graphed, run, range(12), "cuda", batch_sizes=(4, 4, 3))
    assert len(run.graphs) == 2
    torch.testing.assert_close(torch.stack(losses), torch.stack(losses_), rtol=1e-5, atol=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, weights_[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"dropout": 0.0, "attention_dropout": 0.5}])
def test_graphs_draw_new_dropout_on_cuda(options):
    step = trainer("cuda", **options)
    run = GraphedStep(step, CUDARecorder(), warm_up=1)
    losses, _ = train(step, run, [0] * 6, "cuda", rates=(0.0,))
    assert len(run.graphs) == 1
    assert len({float(loss) for loss in losses}) == 6


@pytest.mark.gpu
@NEEDS_CUDA
def test_another_learning_rate_reaches_a_graph_on_cuda():
    step = trainer("cuda", dropout=0.0)
    run = GraphedStep(step, CUDARecorder(), warm_up=1)
    train(step, run, [0, 1, 2], "cuda")
    before = train(step, run, [3], "cuda", rates=(0.0,))[1]
    still = train(step, run, [4], "cuda", rates=(0.0,))[1]
    after = train(step, run, [5], "cuda", rates=(1.0,))[1]
    assert all(torch.equal(weight, before[name]) for name, weight in still.items())
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


@pytest.mark.gpu
@NEEDS_CUDA
def test_replays_do_not_wait_on_cuda():
    step = trainer("cuda", dropout=0.1)
    run = GraphedStep(step, CUDARecorder(), warm_up=1)
    batch = send_to_device(make_batch(labels=[-2.0, 1.0, 0.0, 2.0]), "cuda")
    for _ in range(3):
        run(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step.set_rates(0.5)
        run(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


READS = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from dmd.finite import FiniteWatch
from dmd.graphed_step import CUDARecorder, GraphedStep
run = GraphedStep(lambda x: x * float(x.sum()), CUDARecorder(), warm_up=1)
run(torch.ones(3, device="cuda"))
run(torch.ones(3, device="cuda"))
"""


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_step_that_reads_a_value_cannot_be_recorded():
    # In a process of its own, as nothing else can be done on CUDA after a recording that failed.
    done = subprocess.run([sys.executable, "-c", READS, EXAMPLE], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be recorded as a CUDA graph (does it read a value?)" in done.stderr
