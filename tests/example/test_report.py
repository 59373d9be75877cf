"""Tables that say what is undefined, and files that are whole or not there."""

import csv
import json
import math
import os

import numpy as np
import pytest
import torch
from dmd.report import results_table, summary_table, write_edges_csv, write_json, write_predictions_csv


def results(seed, **test):
    return {
        "test": test,
        "valid": {name: value for name, value in test.items() if name != "f1_macro"},
        "config": {},
        "seed": seed,
        "versions": {},
        "data": {"path": "somewhere/smartwatch.npz", "sha256": "", "sizes": {"train": 90, "valid": 30, "test": 40}},
        "seconds": 12.34,
        "peak_memory_mb": 812.6,
    }


def test_results_table():
    lines = results_table(results(3, accuracy=0.8125, f1_macro=None) | {"best_epoch": 7}).splitlines()
    assert lines[0] == "smartwatch.npz (train 90, valid 30, test 40), seed 3, best epoch 7"
    assert lines[2].split() == ["metric", "test", "valid"]
    assert lines[4].split() == ["accuracy", "0.8125", "0.8125"]
    assert lines[5].split() == ["f1_macro", "—", "—"]
    assert lines[-1] == "12.3 s, peak memory 813 MB"
    assert "best epoch" not in results_table(results(3, accuracy=0.8))


def test_summary_of_seeds():
    table, summary = summary_table([results(seed, accuracy=value) for seed, value in [(1, 0.7), (2, 0.8), (5, 0.9)]])
    assert (summary["n"], summary["seeds"]) == (3, [1, 2, 5])
    assert summary["test"] == summary["valid"]
    assert summary["test"]["accuracy"] == {
        "mean": pytest.approx(0.8),
        "std": pytest.approx(0.1),  # n - 1 in the denominator
        "values": [0.7, 0.8, 0.9],
    }
    assert "| accuracy | 0.800 ± 0.100 | 0.800 ± 0.100 |" in table
    assert "seeds 1, 2, 5 (n = 3)" in table


def test_summary_of_one_seed_and_of_undefined_values():
    table, summary = summary_table([results(0, accuracy=0.7)])
    assert math.isnan(summary["test"]["accuracy"]["std"])
    assert "| accuracy | 0.700 ± — | 0.700 ± — |" in table
    table, summary = summary_table([results(0, corr=0.5), results(1, corr=None), results(2, corr=0.7)])
    assert summary["test"]["corr"]["mean"] == pytest.approx(0.6)
    assert "| corr | 0.600 ± 0.141 (n = 2) |" in table
    table, _ = summary_table([results(0, f1_macro=math.nan)])
    assert "| f1_macro | — ± — (n = 0) |" in table


def test_json_is_plain_and_has_null_for_nan(tmp_path):
    path = tmp_path / "results.json"
    content = {
        "nan": math.nan,
        "infinity": np.float32("inf"),
        "array": np.array([1.5, math.nan]),
        "tensor": torch.tensor([1, 2]),
        "integer": np.int64(3),
        "flag": np.bool_(True),
        "path": tmp_path,
        "nested": [{"word": "é"}, (1, None)],
        5: "key",
    }
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "nan": None,
        "infinity": None,
        "array": [1.5, None],
        "tensor": [1, 2],
        "integer": 3,
        "flag": True,
        "path": str(tmp_path),
        "nested": [{"word": "é"}, [1, None]],
        "5": "key",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}


def test_csv_files(tmp_path):
    row = {"epoch": 1, "unit": "homogeneous", "source": "language", "target": "vision", "weight": 0.25}
    write_edges_csv(tmp_path / "edges.csv", [row])
    assert (tmp_path / "edges.csv").read_text() == (
        "epoch,unit,source,target,weight\n1,homogeneous,language,vision,0.25\n"
    )
    predictions = {
        "valid": {"id": ["a,1", "b"], "truth": np.float32([0.1, np.nan]), "prediction": np.float32([0.2, -1.5])},
        "test": {"id": ["c", "d"], "truth": np.array([3, -100]), "prediction": np.array([2, 0])},
    }
    write_predictions_csv(tmp_path / "predictions.csv", predictions)
    with open(tmp_path / "predictions.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["split", "id", "truth", "prediction"],
            ["valid", "a,1", "0.1", "0.2"],
            ["valid", "b", "", "-1.5"],
            ["test", "c", "3", "2"],
            ["test", "d", "", "0"],
        ]
