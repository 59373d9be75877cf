"""Every field of a run's configuration changes something: each is flipped, and the difference is looked for.

Most fields change what is learned; the rest, what is read, written, printed or refused.
"""

import json
from copy import deepcopy
from dataclasses import asdict, replace
from functools import reduce
from pathlib import Path

import pytest
from dmd.config import RunConfig, flat_fields
from dmd.data import load, synthetic, training_loader
from dmd.runs import prepare_runs

from tests.example.small_runs import CONFIG, MODEL, rows

ROOT = Path(__file__).parents[2]
# What the flipped run and the run beside it have in common.
MODEL_BASE = replace(MODEL, modality_dropout=0.0)
BASE = replace(CONFIG, epochs=1, batch_size=8, pictures=False, trackers=[], model=MODEL_BASE)
STEPS = {"language": 4, "vision": 6, "acoustic": 9}
RECORDINGS = {
    task: synthetic((16, 8, 8), steps=STEPS, absent=0.1, task=task, seed=1) for task in ("regression", "classification")
}
STEM = {"model.stem_layers": 1}
WIDE = {"model.wide": "moments"}
PRIOR = {"objective.distillation.prior_weight": 1.0}
SIX = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]  # weights of the edges of three modalities

# Field -> its other value, and what else must be set for it to matter.
LEARNED = {
    "network": ("transformer", {}),
    "modalities": (["language", "acoustic"], {}),
    "shuffle_labels": (True, {}),
    "labelled_fraction": (0.5, {}),
    "train_on": ("train+valid", {"keep": "last"}),
    "epochs": (2, {}),
    "patience": (1, {"epochs": 6, "learning_rate": 0.03, "shuffle_labels": True}),
    "keep": ("last", {"epochs": 3, "learning_rate": 0.03, "shuffle_labels": True}),
    "batch_size": (4, {}),
    "bucket": (True, {}),
    "accumulation": (2, {}),
    "learning_rate": (2e-3, {}),
    "weight_decay": (0.5, {}),
    "clip_norm": (1e-3, {}),
    "seed": (1, {}),
    "precision": ("bf16", {}),
    "model.dim": (16, {}),
    "model.num_heads": (4, {}),
    "model.num_layers": (2, {}),
    "model.memory_layers": (1, {}),
    "model.kernel_size": (3, {}),
    "model.pool": (2, {}),
    "model.standardize": ("sample", {}),
    "model.gain": (0.5, {}),
    "model.warp": (0.5, {}),
    "model.mixing": (0.5, {}),
    "model.stem_layers": (1, {}),
    "model.stem_batch_norm": (True, STEM),
    "model.stem_stride": (2, STEM),
    "model.readout": ("attention", {}),
    "model.readout_norm": (True, {}),
    "model.wide": ("moments", {}),
    "model.wide_dropout": (0.0, WIDE),
    "model.vote": (True, {}),
    "model.dropout": (0.0, {}),
    "model.modality_dropout": (0.5, {}),
    "model.input_dropout": (0.5, {}),
    "model.attention_dropout": (0.5, {}),
    "model.feature_decoupling": (False, {}),
    "model.homo_gd": (False, {}),
    "model.cross_attention": (False, {}),
    "model.hetero_gd": (False, {}),
    "objective.lambda_decoupling": (1.0, {}),
    "objective.lambda_distillation": (1.0, {}),
    "objective.gamma": (1.0, {}),
    "objective.reconstruction_weight": (0.0, {}),
    "objective.cycle_weight": (0.0, {}),
    "objective.margin_weight": (0.0, {}),
    "objective.orthogonality_weight": (0.0, {}),
    "objective.margin": (1.0, {}),
    "objective.proportional_margin": (True, {}),
    "objective.orthogonality": ("squared", {}),
    "objective.node_weight": (0.0, {}),
    "objective.distillation.scorer": ("agreement", {}),
    "objective.distillation.normalize": ("graph", {}),
    "objective.distillation.temperature": (0.2, {}),
    "objective.distillation.distance": ("l2", {}),
    "objective.distillation.distance_temperature": (1.0, {"task": "classification"}),
    "objective.distillation.feature_distance": ("l2", {}),
    "objective.distillation.feature_weight": (5.0, {"objective.distillation.feature_distance": "l2"}),
    "objective.distillation.hidden_dim": (16, {}),
    "objective.distillation.prior": (SIX, PRIOR),
    "objective.distillation.hetero_prior": (SIX[::-1], PRIOR | {"objective.distillation.prior": SIX}),
    "objective.distillation.prior_weight": (1.0, {"objective.distillation.prior": SIX}),
    "objective.distillation.detach_weights": (True, {}),
    "objective.distillation.quality_sharpness": (4.0, {"epochs": 2}),
}
# Seen in another way, in this file or where it says.
SEEN = {
    "data": "tests/example/test_commands.py",
    "task": "test_task_and_metrics",
    "metrics": "test_task_and_metrics",
    "text": "tests/example/text/test_text_training.py",
    "text_encoder": "tests/example/text/test_text_faults.py",
    "text_learning_rate": "tests/example/text/conftest.py",
    "out": "test_files",
    "pictures": "test_files",
    "trackers": "test_files",
    "checkpoint_every": "test_files",
    "max_skipped_steps": "tests/example/test_finite.py",
    "device": "test_machine",
    "num_workers": "test_machine",
    "graph": "test_machine",
    "global_losses": "tests/example/trained_processes.py",
}


def configured(out, fields):
    """The whole configuration that these dotted fields make of the base."""
    config = deepcopy(BASE)
    for name, value in fields.items():
        *path, last = name.split(".")
        setattr(reduce(getattr, path, config), last, value)
    return replace(config, out=str(out))  # which checks it


def run(out, **fields):
    """Train as the fields say; what the run has found."""
    config = configured(out, fields)
    (trained,) = prepare_runs(config, [], RECORDINGS[config.task or "regression"], resume=False)
    results = trained.train()
    return results["test"], rows(out / "predictions.csv"), rows(out / "edges.csv")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Remembered runs: many fields are flipped in the same one."""
    known = {}

    def run_once(fields):
        key = json.dumps(fields, sort_keys=True)
        if key not in known:
            known[key] = run(tmp_path_factory.mktemp("base"), **fields)
        return known[key]

    return run_once


def test_every_field_is_listed_once():
    fields = flat_fields(asdict(RunConfig()))
    assert sorted([*LEARNED, *SEEN]) == sorted(fields)


@pytest.mark.parametrize("field", LEARNED)
def test_the_field_changes_what_is_learned(field, found, tmp_path, monkeypatch):
    monkeypatch.setattr("dmd.training.Run._save", lambda _: None)  # checkpoints change nothing, and take long
    value, others = LEARNED[field]
    before = flat_fields(asdict(configured(tmp_path, others)))[field]
    assert before != value
    assert found(others) != run(tmp_path, **others, **{field: value})


def test_the_same_fields_learn_the_same(found, tmp_path):
    """Or every difference above would be worth nothing."""
    assert found({}) == run(tmp_path)


def test_seen_elsewhere():
    """The files that are named above speak of the fields."""
    for field, where in SEEN.items():
        if where.endswith(".py"):
            assert field in (ROOT / where).read_text(), field
        else:
            assert where in globals(), field


def test_task_and_metrics():
    """What the labels are read as, and judged by."""
    assert [load("synthetic", task=task).task for task in (None, "classification")] == ["regression", "classification"]
    assert [load("synthetic", metrics=name).metrics for name in ("mosi", "accuracy")] == ["mosi", "accuracy"]


def test_files(tmp_path):
    """Where a run writes; which pictures; how often; and curves for whom."""
    asked = {"plain": {}, "more": {"pictures": True, "checkpoint_every": 1}, "tracked": {"trackers": ["tensorboard"]}}
    written = {}
    for name, fields in asked.items():
        run(tmp_path / name, **fields)
        written[name] = {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}
    more = written["more"] - written["plain"]
    assert "edges_heatmap.png" in more
    assert "checkpoints/epoch-0000-step-00000002" in more
    curves = {name: any("events.out" in path for path in paths) for name, paths in written.items()}
    assert curves == {"plain": False, "more": False, "tracked": True}


def test_machine(tmp_path, capsys):
    """What a CPU can show of device, graph and num_workers."""
    with pytest.raises(ValueError, match="device"):
        run(tmp_path / "device", device="cuda")
    run(tmp_path / "graph", graph=True)
    assert "graph: not used, because" in capsys.readouterr().out
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dmd.training.training_loader", lambda *a, **o: seen.append(o["num_workers"]) or training_loader(*a, **o)
        )
        run(tmp_path / "workers", num_workers=1)
    assert seen == [1]
