"""Pages and pictures of large runs stay small: samples, modalities, edges and classes beyond what can be told apart."""

from dataclasses import replace

import numpy as np
import pytest
from dmd.confusion import confusion
from dmd.data import synthetic
from dmd.page import split_part
from dmd.page.curves import errors
from dmd.page.figure import numbers
from dmd.page.graphs import drawn_edges, heat_map, node_links, over_epochs
from dmd.pictures import feature_maps, mapped_samples

from gdkit import DistillationGraph
from gdkit.plot import embedding_map
from tests.example.page_runs import check_figure
from tests.example.small_runs import STEPS


@pytest.mark.parametrize("count", [2, 7, 17, 30])
def test_arrows_of_many_modalities_fit_between_their_nodes(count):
    graph = DistillationGraph.complete([f"modality {i}" for i in range(count)])
    table = graph, np.ones(1, np.int64), np.ones((1, graph.num_edges))
    chart = node_links("homogeneous", table, top=1.0, at=0).drawn()
    check_figure(chart)
    *arcs, _, _, nodes, _ = chart["data"]
    shown, _ = drawn_edges(table, 0)
    places = dict(zip(graph.names, zip(nodes["x"], nodes["y"], strict=True), strict=True))
    for arc, (source, target) in zip(arcs, shown[0].edges, strict=True):
        ends = np.hypot(np.subtract(arc["x"], places[source][0]), np.subtract(arc["y"], places[source][1]))
        to_target = np.hypot(arc["x"][-1] - places[target][0], arc["y"][-1] - places[target][1])
        assert 0 < ends[0] < 0.2 < 5 * to_target < 1.2
        assert ends[-1] > ends[0]  # it leads away from the teacher


def test_of_many_edges_the_heaviest_are_drawn():
    graph = DistillationGraph.complete([f"modality {i}" for i in range(12)])
    weights = np.random.default_rng(0).permuted(np.tile(np.arange(132.0), (3, 1)), axis=1)
    weights[1, 5] = np.nan
    table = graph, np.arange(1, 4), weights
    links, curves = node_links("homogeneous", table, top=131.0, at=1), over_epochs("homogeneous", table, best_epoch=2)
    assert links.note == curves.note == "The 60 edges of 132 that are heaviest in epoch 2."
    heaviest = sorted(np.nan_to_num(weights[1]))[-60:]
    assert sorted(float(text) for text in links.frames["texts"][1]) == heaviest
    assert sorted(trace["y"][1] for trace in curves.data) == heaviest
    edges = {f"{source} → {target}": weights[:, i].tolist() for i, (source, target) in enumerate(graph.edges)}
    for trace in curves.data:
        assert trace["y"] == numbers(edges[trace["name"]])
    assert len(heat_map("homogeneous", table, top=131.0, at=1).data[0]["z"]) == 12  # all of them


def test_places_are_those_of_the_picture(monkeypatch):
    monkeypatch.setattr("dmd.pictures.MOST_MAPPED", 40)
    generator = np.random.default_rng(0)
    nodes = {name: generator.normal(size=(50, 4)) for name in ("a", "b")}
    chosen = mapped_samples(50, 40)
    assert len(chosen) == 40
    nodes["a"][chosen[[3, 5]]] = np.nan
    labels = np.arange(50) % 3
    figure, places = feature_maps({"unit": nodes}, labels, ("x", "y", "z"))
    picture = embedding_map(nodes, labels, classes=("x", "y", "z"), max_samples=40)
    drawn = [dots.get_offsets() for dots in picture.collections]
    assert np.flatnonzero(np.isnan(places["unit"]["a"]).any(1)).tolist() == [3, 5]
    np.testing.assert_array_equal(np.delete(places["unit"]["a"], [3, 5], axis=0), drawn[0])
    np.testing.assert_array_equal(places["unit"]["b"], drawn[1])
    assert len(figure.axes) == 2  # the map and its colours
    assert feature_maps({}, labels, ()) == (None, {})


def test_of_many_modalities_fewer_samples_are_mapped(monkeypatch):
    monkeypatch.setattr("dmd.pictures.MOST_DOTS", 40)
    recordings = synthetic((24, 8, 8), steps=STEPS)
    samples = recordings.splits["test"]
    nodes = {f"modality {i}": np.random.default_rng(i).normal(size=(8, 3)) for i in range(8)}
    _, places = feature_maps({"unit": nodes}, samples.labels, ())
    assert {len(rows) for rows in places["unit"].values()} == {5}
    predictions = {"id": samples.ids, "truth": samples.labels, "prediction": samples.labels}
    found = split_part("test", {"predictions": predictions, "metrics": {}}, recordings, places)["map"]
    assert found["id"] == [samples.ids[i] for i in mapped_samples(8, 5)]


def test_of_many_classes_those_with_most_errors_are_shown(monkeypatch):
    monkeypatch.setattr("dmd.confusion.MOST_CLASSES", 2)
    classes, truth = ("a", "b", "c", "d"), np.array([0, 0, 1, 1, 2, 3, 3, -100])
    counts = confusion(truth, np.array([0, 0, 3, 3, 2, 3, 0, 1]), 4)
    chart = errors("test", {"confusion": counts.tolist(), "classes": classes})
    assert chart.data[0]["text"] == [["", "2"], ["", "1"]]  # of b and d
    assert chart.data[0]["z"] == [[0, 1], [0, 0.5]]  # shares of all samples of a class
    assert chart.layout["xaxis"]["ticktext"] == ["b", "d"]
    assert chart.note.startswith("4 of 7 right")
    assert "the 2 of 4 classes" in chart.note
    assert "b is taken for d in 2 samples" in chart.label


def test_a_large_split_is_thinned_out():
    size = 7001
    recordings = synthetic((24, 8, 8), steps=STEPS)
    samples = replace(recordings.splits["test"], ids=[str(i) for i in range(size)], labels=np.zeros(size, np.float32))
    recordings = replace(recordings, splits=recordings.splits | {"test": samples})
    predictions = {"id": samples.ids, "truth": samples.labels, "prediction": np.arange(size, dtype=np.float32)}
    part = split_part("test", {"predictions": predictions, "metrics": {}}, recordings, {})
    assert len(part["points"]) <= 3000
    assert [row["id"] for row in part["worst"][:2]] == ["7000", "6999"]
