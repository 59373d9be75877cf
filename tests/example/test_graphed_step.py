"""Steps as CUDA graphs train as steps do: on a CPU by a tape of operations, on CUDA by the graphs themselves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from dmd import training
from dmd.data import make_loader, synthetic
from dmd.graphed_step import CUDARecorder, GraphedStep
from dmd.training_step import TrainingStep, why_not_graphed
from torch import nn

from tests.example.small import make_batch, make_model, make_task
from tests.example.small_runs import CONFIG, MODEL, RECORDINGS, STEPS, content, prepare
from tests.example.tape import TapeRecorder

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTHS = ((5, 3, 4, 6), (4, 7, 6, 5), (9, 8, 2, 7))


def trainer(device="cpu", capturable=True, **options):
    """A task with dropout unless the options say otherwise, and its step."""
    task = make_task(make_model(**options)).to(device)
    # A gradient that is 0 but for rounding would otherwise move its weight as far as any other.
    optimizer = torch.optim.AdamW(task.parameters(), fused=True, eps=1e-3)
    accelerator = Accelerator(cpu=device == "cpu")
    task, optimizer = accelerator.prepare(task, optimizer)
    return TrainingStep(task, optimizer, accelerator, 1.0, [1e-2], capturable=capturable)


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


# Whole runs


@pytest.fixture
def taped(monkeypatch):
    """Runs whose steps are replayed, on the CPU."""
    recorders = []
    monkeypatch.setattr(training, "why_not_graphed", lambda *_: None)
    monkeypatch.setattr(training, "CUDARecorder", lambda: recorders.append(TapeRecorder()) or recorders[-1])
    return recorders


@pytest.mark.usefixtures("no_pictures")
def test_a_run_with_graphs_finds_the_same(tmp_path, taped, monkeypatch):
    options = {"epochs": 5, "batch_size": 20}  # 20, 20 and 8 samples
    prepare(tmp_path / "graph", graph=True, **options).train()
    (recorder,) = taped
    assert (recorder.runs, recorder.records, recorder.replays) == (6, 2, 9)
    monkeypatch.setattr(training, "GraphedStep", lambda step, recorder: step)
    prepare(tmp_path / "plain", graph=True, **options).train()
    assert content(tmp_path / "graph") == content(tmp_path / "plain")


@pytest.mark.usefixtures("no_pictures")
def test_padding_to_the_longest_changes_nothing(tmp_path, taped):
    """Not even of a run without graphs, whose learning rates are Python's."""
    options = {"epochs": 2, "model": replace(MODEL, dropout=0.0, modality_dropout=0.0)}
    history = {}
    for graph in (True, False):
        prepare(tmp_path / str(graph), graph=graph, **options).train()
        (*_, last) = json.loads((tmp_path / str(graph) / "history.json").read_text())
        history[graph] = [last["train"]["loss"], last["valid"]["mae"], last["learning_rate"]]
    np.testing.assert_allclose(history[True], history[False], rtol=1e-4)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("first", [True, False])
def test_a_run_goes_on_with_or_without(tmp_path, taped, first):
    prepare(tmp_path, epochs=1, graph=first).train()
    run = prepare(tmp_path, epochs=2, resume=True, graph=not first)
    run.train()
    (group,) = run.step.optimizer.param_groups
    assert group["capturable"] is not first
    assert isinstance(group["lr"], torch.Tensor) is not first


@pytest.mark.usefixtures("no_pictures")
def test_without_cuda_a_run_says_so_and_trains(tmp_path, capsys):
    results = prepare(tmp_path / "graph", graph=True).train()
    printed = capsys.readouterr().out
    assert "graph: not used, because the run is on cpu, and only CUDA has graphs\n" in printed
    assert results["config"]["graph"] is True
    prepare(tmp_path / "plain").train()
    assert "graph:" not in capsys.readouterr().out
    assert content(tmp_path / "graph") == content(tmp_path / "plain")


class Machine:
    """What an accelerator says of a machine."""

    def __init__(self, processes=1):
        self.device, self.num_processes = torch.device("cuda"), processes


@pytest.mark.parametrize(
    ("options", "processes", "reason"),
    [
        ({}, 1, None),
        ({"precision": "bf16"}, 1, None),
        ({"text": "frozen"}, 1, None),
        ({}, 2, "2 processes exchange their gradients in every step"),
        ({"accumulation": 3}, 1, "accumulation is 3, and a graph holds a whole step"),
        ({"precision": "fp16"}, 1, "with precision 'fp16' the host reads whether a gradient has overflowed"),
        ({"text": "finetune"}, 1, "with text 'finetune' the encoder reads how long the texts are"),
    ],
)
def test_what_keeps_a_run_from_graphs(options, processes, reason):
    assert why_not_graphed(replace(CONFIG, graph=True, **options), Machine(processes)) == reason


def test_batches_of_full_length_have_one_shape():
    loader = make_loader(RECORDINGS.splits["train"], 16, shuffle=True, full_length=True)
    shapes = {tuple((name, *x.shape) for name, x in batch.inputs.items()) for batch in loader}
    longest = {name: max(map(len, arrays)) for name, arrays in RECORDINGS.splits["train"].inputs.items()}
    (shape,) = shapes
    assert {name: steps for name, _, steps, _ in shape} == longest
    for batch in loader:
        for name, mask in batch.masks.items():
            lengths = [len(RECORDINGS.splits["train"].inputs[name][i]) for i in batch.index.tolist()]
            assert mask.sum(dim=1).tolist() == lengths


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


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_step_that_reads_a_value_cannot_be_recorded():
    run = GraphedStep(lambda x: x * float(x.sum()), CUDARecorder(), warm_up=1)
    run(torch.ones(3, device="cuda"))
    with pytest.raises(RuntimeError) as caught:
        run(torch.ones(3, device="cuda"))
    assert "does it read a value?" in caught.value.__notes__[0]


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_with_graphs_on_cuda(tmp_path, precision, capsys):
    recordings = synthetic((48, 16, 16), steps=STEPS, absent=0.1, seed=1)
    run = prepare(tmp_path, recordings, device="cuda", graph=True, epochs=5, batch_size=20, precision=precision)
    results = run.train()
    assert "graph:" not in capsys.readouterr().out
    assert len(run.run_step.graphs) == 2
    assert np.isfinite(results["test"]["mae"])
    assert isinstance(run.module, nn.Module)
