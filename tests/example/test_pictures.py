"""The pictures of a run: one panel for each thing there is, none for what is switched off, and no display needed."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from dmd.edge_tables import edge_tables
from dmd.pictures import _confusion, _heatmaps, _losses, _predictions
from dmd.report import write_pictures

NAMES = ("language", "vision", "acoustic")
REGRESSION = {"losses.png", "edges_heatmap.png", "edges_over_epochs.png", "tsne.png", "predictions.png"}


def run(task="regression", names=NAMES, units=("homogeneous", "heterogeneous"), epochs=3, samples=20, num_classes=7):
    """What `write_pictures` gets after a training run."""
    generator = np.random.default_rng(0)
    pairs = [(source, target) for source in names for target in names if source != target]
    if task == "regression":
        truth = generator.uniform(-3, 3, samples).astype(np.float32)
        metrics = {"mae": 1.2, "corr": math.nan, "acc7": 0.4}
    else:
        truth = generator.integers(0, num_classes, samples)
        metrics = {"accuracy": 0.5, "f1_macro": None}
    return {
        "recordings_task": task,
        "classes": () if task == "regression" else tuple(f"class {i}" for i in range(num_classes)),
        "history": [
            {
                "epoch": e + 1,
                "train": {"loss": 1.0, "task": 0.7, "margin": 0.1 * e, "off": 0.0},
                "valid": {"loss": 1.1, **metrics},
            }
            for e in range(epochs)
        ],
        "edges": [
            {"epoch": e + 1, "unit": unit, "source": source, "target": target, "weight": 1 / len(pairs)}
            for e in range(epochs)
            for unit in units
            for source, target in pairs
        ],
        "truth": truth,
        "prediction": truth[::-1].copy(),
        "embeddings": {unit: {name: generator.normal(size=(samples, 6)) for name in names} for unit in units},
        "labels": truth,
    }


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_regression_pictures(tmp_path):
    places = write_pictures(tmp_path, **run(), best_epoch=2)
    assert files(tmp_path) == REGRESSION
    assert {unit: list(nodes) for unit, nodes in places.items()} == {unit: list(NAMES) for unit in places}
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("num_classes", [7, 27])
def test_classification_pictures(tmp_path, num_classes):
    content = run("classification", ("inertial", "skeleton"), samples=60, num_classes=num_classes)
    content["truth"][:2] = -100
    write_pictures(tmp_path, **content)
    assert files(tmp_path) == REGRESSION - {"predictions.png"} | {"confusion.png"}


def test_a_unit_that_is_off_has_no_panel(tmp_path):
    content = run(units=("heterogeneous",))
    write_pictures(tmp_path, **content)
    assert files(tmp_path) == REGRESSION
    titles = [ax.get_title() for ax in _heatmaps(edge_tables(content["edges"]), best_epoch=1).axes]
    assert titles == ["heterogeneous GD-Unit, epoch 1"]


def test_without_units_only_losses_and_predictions(tmp_path):
    write_pictures(tmp_path, **run(units=(), epochs=1))
    assert files(tmp_path) == {"losses.png", "predictions.png"}


def test_diverged_and_empty_runs_still_report(tmp_path):
    content = run(samples=8)
    content["prediction"] = np.full(8, np.nan)
    content["embeddings"] = {"homogeneous": {name: np.full((8, 6), np.nan) for name in NAMES}}
    content["edges"] = [{**row, "weight": math.nan} for row in content["edges"]]
    write_pictures(tmp_path, **content)
    assert files(tmp_path) == {"losses.png", "edges_heatmap.png", "edges_over_epochs.png"}
    content = run(units=(), epochs=0) | {"truth": np.full(20, np.nan)}
    before = files(tmp_path)
    assert write_pictures(tmp_path / "none", **content) == {}
    assert files(tmp_path) == before


def test_edge_rows_become_a_table_in_graph_order():
    rows = [
        {"epoch": epoch, "unit": "homogeneous", "source": source, "target": target, "weight": weight}
        for epoch, source, target, weight in [
            (1, "a", "b", 0.1),
            (1, "a", "c", 0.9),
            (2, "a", "c", 0.6),
            (2, "a", "b", 0.4),
            (1, "a", "b", 0.2),  # an epoch that was interrupted and run again
        ]
    ]
    graph, epochs, weights = edge_tables(rows)["homogeneous"]
    assert graph.edges == (("a", "b"), ("a", "c"))
    assert epochs.tolist() == [1, 2]
    assert weights.tolist() == [[0.2, 0.9], [0.4, 0.6]]


def test_loss_panels():
    history = run()["history"]
    panels = {ax.get_title(): ax for ax in _losses(history, best_epoch=2).axes}
    shown = {title: [text.get_text() for text in ax.get_legend().get_texts()] for title, ax in panels.items()}
    assert shown == {
        "loss": ["train loss", "valid loss"],
        "terms of the training loss": ["task", "margin"],  # what is always 0 is switched off
        "validation error": ["mae"],
        "validation scores": ["acc7"],
    }
    assert panels["terms of the training loss"].get_yscale() == "log"
    history[0]["train"]["task"] = -0.5
    assert _losses(history, best_epoch=None).axes[1].get_yscale() == "symlog"


def test_confusion_counts_and_shares():
    figure = _confusion(np.array([0, 0, 1, -100]), np.array([0, 1, 1, 0]), ("sad", "glad"))
    ax = figure.axes[0]
    assert sorted((text.get_position(), text.get_text()) for text in ax.texts) == [
        ((0, 0), "1"),
        ((1, 0), "1"),
        ((1, 1), "1"),
    ]
    assert ax.get_title() == "n = 3, accuracy = 0.667"
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("truth", "prediction")
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.5, 0.5], [0, 1]])


def test_predictions_name_n_and_correlation():
    truth = np.array([-1.0, 0.0, 1.0, np.nan])
    assert _predictions(truth, np.array([-2.0, 0.0, 2.0, 5.0])).axes[0].get_title() == "n = 3, corr = 1.000"
    assert _predictions(truth, np.zeros(4)).axes[0].get_title() == "n = 3, corr = undefined"


def test_pictures_need_no_display(tmp_path):
    program = """
import sys, numpy as np
from pathlib import Path
import dmd.report
assert "matplotlib" not in sys.modules
nodes = {"a": np.eye(9), "b": np.eye(9)}
dmd.report.write_pictures(
    Path(sys.argv[1]), recordings_task="regression", classes=(), history=[], edges=[],
    truth=np.arange(9.0), prediction=np.arange(9.0), embeddings={"homogeneous": nodes}, labels=np.arange(9.0))
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "DISPLAY")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
    assert files(tmp_path) == {"predictions.png", "tsne.png"}
