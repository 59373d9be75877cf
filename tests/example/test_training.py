"""A run: what it writes, what it reads when, how it selects, and that accumulation loses nothing."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dmd import report, training
from dmd.data import make_loader, standardization_statistics, synthetic
from dmd.epoch import schedule
from dmd.evaluation import evaluate
from dmd.metrics import compute_metrics
from dmd.runs import finish
from dmd.task import TaskConfig
from safetensors.torch import load_file

from tests.example.small_runs import MODEL, RECORDINGS, STEPS, prepare, rows

pytestmark = pytest.mark.usefixtures("no_pictures")


# What a run writes


def test_terms_and_edges_of_every_epoch(tmp_path):
    run = prepare(tmp_path)
    run.train()
    history = json.loads((tmp_path / "history.json").read_text())
    terms = {"loss", "task", "nodes", "reconstruction", "cycle", "margin", "orthogonality"}
    terms |= {"homogeneous", "heterogeneous"}
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    for epoch in history:
        assert set(epoch["train"]) == terms
        assert set(epoch["valid"]) == terms | {*compute_metrics(np.float32([1, -1]), np.float32([1, -1]), "mosi")}
    pairs = [(source, target) for source in RECORDINGS.names for target in RECORDINGS.names if source != target]
    wanted = [(str(e), unit, *pair) for e in (1, 2) for unit in ("homogeneous", "heterogeneous") for pair in pairs]
    edges = rows(tmp_path / "edges.csv")
    assert [(row["epoch"], row["unit"], row["source"], row["target"]) for row in edges] == wanted
    assert all(0 < float(row["weight"]) <= 1 for row in edges)


def test_edge_weights_are_means_over_the_samples_that_have_the_edge(tmp_path):
    run = prepare(tmp_path)
    read = [
        evaluate(run.task, make_loader(RECORDINGS.splits["valid"], size), RECORDINGS, "valid", run.accelerator)["edges"]
        for size in (1, 64)
    ]
    assert read[0].keys() == {"homogeneous", "heterogeneous"}
    for unit, weights in read[0].items():
        np.testing.assert_allclose(weights, read[1][unit], rtol=1e-5)


def test_tensorboard_has_every_term_and_every_edge_by_name(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prepare(tmp_path, epochs=1).train()
    (events,) = tmp_path.rglob("events.out.tfevents*")
    scalars = EventAccumulator(str(events)).Reload()
    tags = set(scalars.Tags()["scalars"])
    (epoch,) = json.loads((tmp_path / "history.json").read_text())
    assert {f"{part}/{name}" for part in ("train", "valid") for name in epoch[part]} <= tags
    edges = {f"{row['unit']}/{row['source']}_to_{row['target']}": row for row in rows(tmp_path / "edges.csv")}
    assert len(edges) == 12
    for tag, row in edges.items():
        assert scalars.Scalars(tag)[0].value == pytest.approx(float(row["weight"]))


def without_test_labels(recordings):
    test = recordings.splits["test"]
    test = replace(test, labels=np.full_like(test.labels, -100))
    return replace(recordings, splits=recordings.splits | {"test": test})


UNUSUAL = {
    "no test labels": (
        without_test_labels(synthetic((24, 12, 12), steps=STEPS, task="classification")),
        {"losses.png", "edges_heatmap.png", "edges_over_epochs.png", "tsne.png"},
    ),
    "one modality": (
        synthetic((24, 12, 12), reliability={"language": 0.9}, steps={"language": 4}),
        {"losses.png", "tsne.png", "predictions.png"},
    ),
}


@pytest.mark.parametrize("which", UNUSUAL)
def test_a_run_on_unusual_recordings(tmp_path, monkeypatch, which):
    from dmd.pictures import write_pictures

    monkeypatch.setattr(report, "write_pictures", write_pictures)
    recordings, pictures = UNUSUAL[which]
    results = finish(prepare(tmp_path, recordings, epochs=1))
    assert {path.name for path in tmp_path.glob("*.png")} == pictures
    assert len(rows(tmp_path / "predictions.csv")) == 24
    if which == "no test labels":
        assert results["test"] == {}
        assert {row["truth"] for row in rows(tmp_path / "predictions.csv") if row["split"] == "test"} == {""}
    else:
        assert rows(tmp_path / "edges.csv") == []


# What a run reads, and when


def test_the_test_split_is_read_once_and_after_selection(tmp_path, monkeypatch):
    class Sealed(dict):
        is_open = False

        def items(self):
            assert self.is_open, "the test split was read before selection was over"
            return super().items()

    sealed = Sealed(RECORDINGS.splits["test"].inputs)
    splits = RECORDINGS.splits | {"test": replace(RECORDINGS.splits["test"], inputs=sealed)}
    read = []

    def recording(module, loader, recordings, split, accelerator):
        read.append(split)
        sealed.is_open = split == "test"
        return evaluate(module, loader, recordings, split, accelerator)

    monkeypatch.setattr(training, "evaluate", recording)
    prepare(tmp_path, replace(RECORDINGS, splits=splits), epochs=3).train()
    assert read == ["valid"] * 4 + ["test"]


def test_standardisation_comes_from_the_train_split_alone_and_is_saved(tmp_path):
    def shifted(split):
        inputs = {name: [x + 1000 for x in arrays] for name, arrays in RECORDINGS.splits[split].inputs.items()}
        return replace(RECORDINGS.splits[split], inputs=inputs)

    splits = RECORDINGS.splits | {split: shifted(split) for split in ("valid", "test")}
    prepare(tmp_path, replace(RECORDINGS, splits=splits), epochs=1).train()
    weights = load_file(tmp_path / "model.safetensors")
    for name, (mean, std) in standardization_statistics(RECORDINGS.splits["train"]).items():
        np.testing.assert_array_equal(weights[f"model.adapter.adapter.{name}_mean"], mean)
        np.testing.assert_array_equal(weights[f"model.adapter.adapter.{name}_scale"], std)


# Selection


def judge(monkeypatch, values):
    """Give validation these values of the metric, epoch by epoch, and return the weights seen in each."""
    values, seen = iter(values), []

    def judged(module, *arguments):
        out = evaluate(module, *arguments)
        seen.append({name: x.clone() for name, x in module.state_dict().items()})
        return out | {"metrics": out["metrics"] | {"mae": next(values, 9.0)}}

    monkeypatch.setattr(training, "evaluate", judged)
    return seen


@pytest.mark.parametrize(
    ("values", "epochs", "best"),
    [
        ([3.0, 2.0, 1.0, 1.0, 2.0, 0.0], 5, 3),  # the earlier of equals, and no look beyond patience
        ([1.0, 2.0, 3.0], 3, 1),
        ([math.nan, 3.0, math.nan, 2.0, math.nan, math.nan], 6, 4),
    ],
)
def test_early_stopping_keeps_the_best_epoch(tmp_path, monkeypatch, values, epochs, best):
    seen = judge(monkeypatch, values)
    results = prepare(tmp_path, epochs=9, patience=2, batch_size=48).train()
    assert results["best_epoch"] == best
    assert len(seen) == epochs + 2  # and the best one's two splits at the end
    kept = [f"epoch-{number:04d}-step-{number:08d}" for number in (epochs - 1, epochs)]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(weight, seen[best - 1][name])
        assert torch.equal(weight, seen[-1][name])


def test_accuracy_is_selected_upwards(tmp_path):
    recordings = synthetic((24, 12, 12), steps=STEPS, task="classification")
    run = prepare(tmp_path, recordings)
    run.state["history"] = [{"epoch": e, "valid": {"accuracy": value}} for e, value in enumerate([0.3, 0.6, 0.6], 1)]
    assert run._best()["epoch"] == 2


# Steps


def test_accumulation_loses_nothing(tmp_path, monkeypatch):
    """Batches of 16 in pairs move the weights as batches of 32 do, the single last one too."""
    # Plain gradient steps: Adam would blow up the rounding of gradients that are 0.
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **_: torch.optim.SGD(groups, weight_decay=0, fused=True))
    recordings = synthetic((80, 16, 16), steps=STEPS, absent=0.0)
    # Without the terms whose means run over steps or triplets: these differ from batch to batch.
    options = {
        "objective": TaskConfig(lambda_decoupling=0.0),
        "model": replace(MODEL, dropout=0.0, modality_dropout=0.0),
        "learning_rate": 0.3,
        "epochs": 2,
    }
    whole = prepare(tmp_path / "whole", recordings, batch_size=32, **options)
    start = {name: x.clone() for name, x in whole.task.state_dict().items()}
    whole.train()
    parts = prepare(tmp_path / "parts", recordings, batch_size=16, accumulation=2, **options)
    parts.train()
    moved = 0.0
    for name, weight in whole.task.state_dict().items():
        torch.testing.assert_close(parts.task.state_dict()[name], weight, rtol=1e-4, atol=1e-5)
        moved = max(moved, float((weight - start[name]).abs().max()))
    assert moved > 0.05


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 3), (2, 2), (3, 1), (5, 1)])
def test_number_of_steps(tmp_path, monkeypatch, accumulation, steps):
    norms = []
    step = torch.optim.AdamW.step

    def counted(self, *arguments, **options):
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(gradients).norm()))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    prepare(tmp_path, epochs=1, accumulation=accumulation, clip_norm=0.01).train()
    assert norms == pytest.approx([0.01] * steps, rel=1e-2)


def test_learning_rate_rises_and_falls():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert 8 <= int(np.argmax(rates)) <= 10
    assert max(rates) > 0.95
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert 0 <= rates[-1] < 1e-3
    assert schedule(0, 1) == 1.0


def test_bf16(tmp_path):
    results = prepare(tmp_path / "bf16", epochs=1, precision="bf16").train()
    assert math.isfinite(results["test"]["mae"])
    assert {weight.dtype for weight in load_file(tmp_path / "bf16" / "model.safetensors").values()} == {torch.float32}
    assert (tmp_path / "bf16" / "predictions.csv").read_text().count("\n") == 33


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works where there is a GPU")
def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="precision 'fp16' needs a GPU"):
        prepare(tmp_path / "run", precision="fp16")
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_cuda(tmp_path, precision):
    run = prepare(tmp_path, device="cuda", precision=precision)
    results = run.train()
    assert run.accelerator.device.type == "cuda"
    assert math.isfinite(results["test"]["mae"])
    assert results["peak_memory_mb"] > 0
