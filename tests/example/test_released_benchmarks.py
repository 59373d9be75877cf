"""The benchmarks of the published recipe and program: what they refuse, and that wrong input is one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import released_recipe

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "epochs must be at least 1, got 0"),
        ("--learning-rate", "0", "learning_rate must be above 0 and finite, got 0.0"),
        ("--learning-rate", "nan", "learning_rate must be above 0 and finite, got nan"),
        ("--attention-dropout", "1", "attention_dropout must be in [0, 1), got 1.0"),
        ("--seed", "-1", "seed must be in [0, 2**32), got -1"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(tmp_path, capsys, option, value, message):
    with pytest.raises(SystemExit) as left:
        released_recipe.main(["--data", "synthetic", "--out", str(tmp_path / "run"), f"{option}={value}"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mae", [float("nan"), float("inf")])
def test_a_validation_error_that_is_not_finite_stops_the_training(tmp_path, monkeypatch, mae):
    monkeypatch.setattr(released_recipe, "train_epoch", lambda *_: 0.5)
    monkeypatch.setattr(released_recipe, "evaluate", lambda *_: {"metrics": {"mae": mae}})
    with pytest.raises(SystemExit) as left:
        released_recipe.main(["--data", "synthetic", "--out", str(tmp_path), "--epochs", "1"])
    assert left.value.code == f"error: epoch 1, training loss 0.5: the MAE of valid must be finite, got {mae}"
    assert not (tmp_path / "results.json").exists()


def test_a_folder_that_is_no_clone_is_named(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "against_published.py"), "--published", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} is not a clone of the published program, or lacks a package")
    assert done.stderr.count("\n") == 1
