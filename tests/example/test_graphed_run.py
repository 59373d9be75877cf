"""Runs with `graph`: the same results as without, on a CPU by a tape of operations; and why a run goes without."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from dmd import training
from dmd.data import training_loader
from dmd.training_step import why_not_graphed

from tests.example.small_runs import CONFIG, MODEL, RECORDINGS, content, prepare
from tests.example.tape import TapeRecorder


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
    loader = training_loader(RECORDINGS.splits["train"], 16, full_length=True)
    shapes = {tuple((name, *x.shape) for name, x in batch.inputs.items()) for batch in loader}
    longest = {name: max(map(len, arrays)) for name, arrays in RECORDINGS.splits["train"].inputs.items()}
    (shape,) = shapes
    assert {name: steps for name, _, steps, _ in shape} == longest
    for batch in loader:
        for name, mask in batch.masks.items():
            lengths = [len(RECORDINGS.splits["train"].inputs[name][i]) for i in batch.index.tolist()]
            assert mask.sum(dim=1).tolist() == lengths


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_with_graphs_on_cuda(tmp_path, precision, capsys):
    run = prepare(tmp_path, device="cuda", graph=True, epochs=5, batch_size=20, precision=precision)
    results = run.train()
    assert "graph:" not in capsys.readouterr().out
    assert len(run.run_step.graphs) == 2
    assert np.isfinite(results["test"]["mae"])
