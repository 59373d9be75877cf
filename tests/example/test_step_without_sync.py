"""A training step never makes the host wait for the device, and sends it nothing: counted, and run without any values.

On a CPU, operations that would wait and tensors made of Python's numbers are counted. On the device "meta", whose
tensors have no values, whatever reads one fails, and a tensor that was left on the CPU shows. CUDA says it itself.
"""

import sys

import pytest
import torch
import torch_geometric.utils  # noqa: F401 (gdkit imports it on first use, and the import makes a tensor)
from accelerate.utils import send_to_device
from dmd import epoch, finite
from dmd.baselines import Baseline, BaselineTask
from dmd.data import synthetic
from dmd.model import ModelConfig
from dmd.released import ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.task import TaskConfig
from torch import nn

import gdkit
from benchmarks.suite.counters import OperationCounter
from gdkit import _sdpa_attention
from gdkit.kernels import _operator
from tests.example.small import DIMS, NAMES, classes_of, make_batch, make_model, make_task
from tests.example.small_runs import STEPS, prepare

RELEASED = ReleasedConfig(
    input_dims={name: DIMS[name] for name in NAMES},
    steps=dict(zip(NAMES, (12, 20, 9))),  # fewer than sources have, so that some bands hide steps and some nothing
    dim=10,
    num_heads=2,
    num_layers=2,
    memory_layers=2,
)
EVERYTHING = {
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "input_dropout": 0.1,
    "modality_dropout": 0.2,
    "warp": 0.1,
    "gain": 0.1,
    "mixing": 0.1,
    "wide": "signal",
    "stem_layers": 2,
    "stem_batch_norm": True,
    "stem_stride": 2,
    "readout": "mean_max",
    "readout_norm": True,
    "memory_layers": 1,
    "pool": 2,
}
TAUGHT = {"prior": [1 / 6] * 6, "prior_weight": 0.1, "quality_sharpness": 1.0, "feature_distance": "l2"}


def of_dmd(distillation=None, objective=None, num_outputs=1, **options):
    return lambda: make_task(make_model(num_outputs=num_outputs, **options), distillation, **objective or {})


def of_released(**options):
    return lambda: ReleasedTask(ReleasedNetwork(RELEASED), ReleasedObjective(**options)).train()


def of_baseline(kind):
    config = ModelConfig(dim=8, num_heads=2, num_layers=2, attention_dropout=0.1)
    return lambda: BaselineTask(Baseline(kind, config, {name: DIMS[name] for name in NAMES}, 1), TaskConfig()).train()


TASKS = {
    "plain": of_dmd(),
    "every option": of_dmd({"scorer": "mlp", **TAUGHT}, {"proportional_margin": True}, **EVERYTHING),
    "classes": of_dmd({"scorer": "agreement"}, num_outputs=3, readout="attention", standardize="sample"),
    "no decoupling": of_dmd({"scorer": "free", "normalize": "graph"}, feature_decoupling=False, vote=True),
    "no cross-attention": of_dmd({"scorer": None, "distance": "l2"}, cross_attention=False, dropout=0.1),
    "early_fusion": of_baseline("early_fusion"),
    "mult": of_baseline("mult"),
    "published": of_released(),
    "paper's margin": of_released(margin_pairs="paper", orthogonality_axis="feature", homogeneous_repr=10.0),
}
EVERY = pytest.mark.parametrize("name", TASKS)


def setting(name, device):
    """A task, an optimiser and a batch of unequal lengths in which modalities and a label are missing."""
    task = TASKS[name]()
    lengths = ((5, 3, 0, 6), (4, 7, 6, 5), (9, 0, 2, 7))
    batch = make_batch(lengths=lengths, labels=[-2.0, 1.0, -2.0, float("nan")])
    if name == "classes":
        batch = classes_of(batch)
        batch.labels[-1] = -100
    return task.to(device), send_to_device(batch, device)


def step(task, batch, optimizer=None):
    """Forward, losses, backward, clipping and the optimiser's turn."""
    task(batch)["loss"].backward()
    nn.utils.clip_grad_norm_(task.parameters(), 1.0)
    nn.utils.clip_grad_value_(task.parameters(), 0.6)  # as the published program does
    if optimizer is not None:
        optimizer.step()
    task.zero_grad()


def choose(monkeypatch, backend):
    """The backend of every attention, whatever the device."""
    monkeypatch.setattr(sys.modules["gdkit.attention"], "choose_backend", lambda *_: backend)


@EVERY
def test_nothing_is_read_and_nothing_copied(name, monkeypatch):
    # "chunked", for the CPU alone, reads the seed of its dropout, which never leaves the CPU.
    choose(monkeypatch, "sdpa")
    task, batch = setting(name, "cpu")
    optimizer = torch.optim.AdamW(task.parameters(), fused=True)
    step(task, batch, optimizer)  # makes the optimiser's state
    with OperationCounter() as counter:
        step(task, batch, optimizer)
    assert counter.operations > 300
    assert (counter.reads, counter.copies) == (0, 0)


@EVERY
@pytest.mark.parametrize("backend", [pytest.param("triton", marks=pytest.mark.slow), "sdpa"])
def test_no_value_is_needed(name, backend, monkeypatch):
    choose(monkeypatch, backend)
    monkeypatch.setitem(_sdpa_attention.WIDTH_MULTIPLE, "meta", _sdpa_attention.WIDTH_MULTIPLE["cuda"])
    monkeypatch.setattr(_operator, "compute_dtype", lambda query: query.dtype)  # "meta" has no autocast to ask about
    task, batch = setting(name, "meta")
    with OperationCounter() as counter:
        step(task, batch)
    assert counter.operations > 300
    assert counter.copies == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EVERY
def test_cuda_sees_no_wait(name):
    task, batch = setting(name, "cuda")
    optimizer = torch.optim.AdamW(task.parameters(), fused=True)
    step(task, batch, optimizer)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(task, batch, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("num_nodes", [1, 3])
def test_boundaries_of_classes_are_no_tensor(num_nodes):
    loss = gdkit.TripletMarginLoss(binning=(-0.5, 0.5))
    with OperationCounter() as counter:
        loss(torch.randn(6, num_nodes, 4), torch.linspace(-1, 1, 6))
    assert (counter.reads, counter.copies) == (0, 0)


@pytest.mark.usefixtures("no_pictures")
def test_an_epoch_reads_as_often_with_more_batches(tmp_path, monkeypatch):
    whole, counters = epoch.Epoch.__call__, []

    def counted(*arguments):
        with OperationCounter() as counter:
            result = whole(*arguments)
        counters.append(counter)
        return result

    monkeypatch.setattr(epoch.Epoch, "__call__", counted)
    monkeypatch.setattr(finite.FiniteWatch, "every", 100)  # as on a GPU, where it looks less often
    recordings = synthetic((96, 16, 16), steps=STEPS, absent=0.1)
    for size in (48, 8):
        prepare(tmp_path / str(size), recordings, epochs=1, batch_size=size).train()
    few, many = counters
    assert many.operations > 4 * few.operations
    assert many.reads == few.reads > 0  # the means of the terms, once


def test_what_would_wait_or_be_copied_is_counted():
    x = torch.ones(3, 4, device="meta")
    for call, found in {
        lambda: x[torch.arange(2)]: (0, 1),
        lambda: torch.ones(4).to("meta"): (0, 1),
        lambda: x.copy_(torch.tensor(1.0)): (0, 2),  # made of a number, and moved
        lambda: x + 1 + torch.ones(()): (0, 0),  # an argument of the kernel
        lambda: torch.ones(3)[[0, 2]]: (0, 1),
        lambda: torch.ones(3).sum().item(): (1, 0),
    }.items():
        with OperationCounter() as counter:
            call()
        assert (counter.reads, counter.copies) == found
    for call in (lambda: x.nonzero(), lambda: bool(x.sum()), lambda: x[x > 0], lambda: x.tolist(), lambda: x.cpu()):
        with pytest.raises((NotImplementedError, RuntimeError)):
            call()
