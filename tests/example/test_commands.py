"""train.py, evaluate.py and predict.py, as they are typed."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import evaluate
import numpy as np
import predict
import pytest
import torch
import train
from dmd import training
from dmd.config import RunConfig
from dmd.metrics import compute_metrics
from dmd.model import ModelConfig
from dmd.task import DistillationConfig, TaskConfig

from tests.example.small_runs import RECORDINGS, rows

FOLDER = Path(__file__).parents[2] / "examples" / "dmd"
NETWORK = ["--model.dim", "8", "--model.num_heads", "2", "--model.num_layers", "1", "--model.modality_dropout", "0.1"]
TINY = ["--data", "synthetic", "--device", "cpu", "--batch-size", "64", *NETWORK]


def start(script, *arguments, module=(), **options):
    """A command in a process of its own."""
    command = [sys.executable, *module, str(FOLDER / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, pictures included."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train.main([*TINY, "--epochs", "3", "--out", str(out)])
    return out


@pytest.fixture
def few(monkeypatch, no_pictures):
    """Fewer recordings than `--data synthetic` draws, and no pictures."""
    monkeypatch.setattr(train, "load", lambda *_, **__: RECORDINGS)


# What a run leaves behind


def test_files_of_a_run(finished):
    assert {path.name for path in finished.iterdir()} == {
        *("config.json", "model.safetensors", "checkpoints", "tensorboard"),
        *("results.json", "predictions.csv", "edges.csv", "history.json", "report.json", "report.html"),
        *("losses.png", "edges_heatmap.png", "edges_over_epochs.png", "tsne.png", "predictions.png"),
    }
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in finished.glob("*.png"))


def test_results(finished):
    results = json.loads((finished / "results.json").read_text())
    metrics = {"mae", "corr", "acc2_neg_pos", "acc2_neg_nonneg", "f1_neg_pos", "acc5", "acc7"}
    assert metrics <= results["test"].keys() == results["valid"].keys()
    assert results["config"]["model"]["dim"] == 8
    assert results["config"]["epochs"] == 3
    assert results["seed"] == 0
    assert results["versions"]["torch"] == torch.__version__
    assert results["data"]["path"] == "synthetic"
    assert re.fullmatch("[0-9a-f]{64}", results["data"]["sha256"])
    assert results["data"]["sizes"] == {"train": 192, "valid": 64, "test": 64}
    assert results["seconds"] > 0
    assert results["peak_memory_mb"] > 50
    history = json.loads((finished / "history.json").read_text())
    best = min(history, key=lambda epoch: epoch["valid"]["mae"])
    assert results["best_epoch"] == best["epoch"]
    assert results["valid"]["mae"] == pytest.approx(best["valid"]["mae"], rel=1e-5)


def test_predictions_give_the_metrics_of_the_results(finished):
    results = json.loads((finished / "results.json").read_text())
    predictions = rows(finished / "predictions.csv")
    assert list(predictions[0]) == ["split", "id", "truth", "prediction"]
    for split in ("valid", "test"):
        part = [row for row in predictions if row["split"] == split]
        assert [row["id"] for row in part] == [f"{split}{i:04d}" for i in range(64)]
        truth, prediction = (np.float32([row[column] for row in part]) for column in ("truth", "prediction"))
        assert compute_metrics(prediction, truth, "mosi") == pytest.approx(results[split], rel=1e-6)
    assert len(predictions) == 128


def test_evaluate_agrees(finished, tmp_path, capsys):
    results = json.loads((finished / "results.json").read_text())
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for split in ("test", "valid"):
        out = tmp_path / f"{split}.csv"
        evaluate.main([str(finished), "--split", split, "--out", str(out), "--batch-size", "7", "--device", "cpu"])
        written = json.loads(out.with_suffix(".json").read_text())
        assert written[split] == pytest.approx(results[split], rel=1e-5)
        wanted = [row for row in rows(finished / "predictions.csv") if row["split"] == split]
        assert [row["id"] for row in rows(out)] == [row["id"] for row in wanted]
        errors = [float(a["prediction"]) - float(b["prediction"]) for a, b in zip(rows(out), wanted, strict=True)]
        assert max(map(abs, errors)) < 1e-5
    assert f"mae              {results['valid']['mae']:.4f}" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_predict_needs_no_labels(finished, tmp_path, capsys):
    generator = np.random.default_rng(0)
    lengths = {"language": [3, 0, 5], "vision": [4, 4, 4], "acoustic": [1, 2, 3]}
    widths = {"language": 16, "vision": 8, "acoustic": 5}
    arrays = {name: generator.normal(size=(sum(lengths[name]), width)) for name, width in widths.items()}
    arrays |= {f"{name}_offsets": np.cumsum([0, *lengths[name]]) for name in widths}
    labels = {"regression_labels": np.full(3, np.nan), "split": np.array(["train", "valid", "test"])}
    np.savez(tmp_path / "new.npz", ids=np.array(["x", "y", "z"]), **arrays, **labels)
    out = tmp_path / "folder" / "p.csv"
    predict.main(["--checkpoint", str(finished), "--data", str(tmp_path / "new.npz"), "--out", str(out)])
    predictions = rows(out)
    assert [(row["split"], row["id"]) for row in predictions] == [("train", "x"), ("valid", "y"), ("test", "z")]
    assert all(abs(float(row["prediction"])) < 10 for row in predictions)
    assert "predictions of 3 samples are in" in capsys.readouterr().out


def test_help_lists_every_field_with_its_docstring(capsys):
    with pytest.raises(SystemExit, match="0"):
        train.main(["--help"])
    text = capsys.readouterr().out.partition("\noptions:\n")[2]
    plain = " ".join(text.split())
    nested = {"model.": ModelConfig, "objective.": TaskConfig, "objective.distillation.": DistillationConfig}
    for prefix, group in ({"": RunConfig} | nested).items():
        explained = " ".join(group.__doc__.split())
        for name in (field.name for field in fields(group)):
            assert f"--{prefix}{name} " in text
            if name not in ("model", "objective", "distillation"):
                beginning = re.match("[^.]+", explained.partition(f" {name}: ")[2])
                assert beginning, name
                assert beginning[0][:25] in plain.partition(f"--{prefix}{name} ")[2][:150], name
    assert all(f"{option} " in text for option in ("--config", "--seeds", "--resume"))


@pytest.mark.usefixtures("few")
def test_a_yaml_file_and_what_is_typed_after_it(tmp_path):
    (tmp_path / "my.yaml").write_text("epochs: 1\nseed: 5\nmodel:\n  dim: 4\n  pool: {vision: 2}\n  num_heads: 2\n")
    arguments = ["--config", str(tmp_path / "my.yaml"), "--device", "cpu", "--seed=6", "--model.num-layers", "1"]
    train.main([*arguments, "--out", str(tmp_path / "run"), "--objective.distillation.normalize=graph"])
    config = json.loads((tmp_path / "run" / "results.json").read_text())["config"]
    assert (config["epochs"], config["seed"], config["model"]["num_layers"]) == (1, 6, 1)
    assert (config["model"]["dim"], config["model"]["pool"]) == (4, {"vision": 2})
    assert config["objective"]["distillation"]["normalize"] == "graph"


@pytest.mark.parametrize("path", sorted((FOLDER / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_read(path):
    config, seeds, resume = train.parse(["--config", str(path), "--epochs", "1"])
    assert (config.epochs, seeds, resume) == (1, [], False)


@pytest.mark.usefixtures("few")
def test_without_out_each_run_gets_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        train.main([*TINY, "--epochs", "1"])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["synthetic", "synthetic-2"]


@pytest.mark.usefixtures("few")
def test_several_seeds(tmp_path, capsys):
    out = tmp_path / "run"
    train.main([*TINY, "--epochs", "1", "--seeds", "1", "2", "--out", str(out)])
    summaries = {"seeds.json", "summary.json", "summary.md", "report.html"}
    assert {path.name for path in out.iterdir()} == {"seed-1", "seed-2", *summaries}
    results = [json.loads((out / f"seed-{seed}" / "results.json").read_text()) for seed in (1, 2)]
    assert [run["seed"] for run in results] == [1, 2]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["n"], summary["seeds"]) == (2, [1, 2])
    for split in ("test", "valid"):
        for name, entry in summary[split].items():
            values = [run[split][name] for run in results]
            assert entry["values"] == values
            assert entry["mean"] == pytest.approx(np.mean(values))
            assert entry["std"] == pytest.approx(np.std(values, ddof=1))
    assert summary["test"]["mae"]["std"] > 0
    assert "| mae | " in capsys.readouterr().out
    train.main(["--resume", str(out)])
    assert capsys.readouterr().out.count("is finished; nothing to do") == 2


# Going on


def test_a_finished_run_says_so(finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    train.main(["--resume", str(finished)])
    train.main(["--resume", str(finished), "--out", str(finished)])
    assert capsys.readouterr().out.count(f"{finished} is finished; nothing to do") == 2
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("few")
def test_a_run_without_a_checkpoint_starts_over(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit) as ended:
            train.main([*TINY, "--epochs", "1", "--seed", "3", "--out", str(out)])
    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"train.py --resume {out}")
    train.main(["--resume", str(out)])
    assert capsys.readouterr().err == f"warning: {out} has no checkpoint; training starts over\n"
    assert json.loads((out / "results.json").read_text())["seed"] == 3


def test_a_folder_without_a_run_is_not_gone_on_with(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train.main(["--resume", str(tmp_path)])
    wanted = f"error: --resume {tmp_path}: no run has begun there (no config.json); start it with --out\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.slow
def test_two_processes(tmp_path):
    out = tmp_path / "run"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # Four batches of 24 in training; in validation the last batch of 16 has no counterpart.
    process = start("train.py", *TINY, "--batch-size", "24", "--epochs", "1", "--out", out, module=launcher)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert "2 process(es)" in output
    assert output.count("Everything is in") == 1
    results = json.loads((out / "results.json").read_text())
    predictions = rows(out / "predictions.csv")
    ids = [f"{split}{i:04d}" for split in ("valid", "test") for i in range(64)]
    assert [row["id"] for row in predictions] == ids  # each once, in the order of the split
    evaluate.main([str(out), "--out", str(tmp_path / "test.csv"), "--device", "cpu"])
    assert json.loads((tmp_path / "test.json").read_text())["test"] == pytest.approx(results["test"], rel=1e-4)
