"""evaluate.py extends the page of a run; t-SNE runs once for its picture and the page."""

import json
import shutil
from dataclasses import replace

import evaluate
import numpy as np
import pytest
from dmd.confusion import confusion
from dmd.data import synthetic
from dmd.page import split_part
from dmd.page.curves import errors
from dmd.page.part import read_parts
from dmd.pictures import feature_maps, mapped_samples

from gdkit.plot import embedding_map
from tests.example.page_runs import CLASSES, Page, half_labelled, hostile
from tests.example.small_runs import RECORDINGS, STEPS


@pytest.fixture
def run(reported, tmp_path, monkeypatch):
    """A copy of a run, and its own recordings in place of those that `synthetic` draws."""
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: hostile(RECORDINGS))
    return shutil.copytree(reported["regression"], tmp_path / "run")


def parts(folder):
    return json.loads((folder / "report.json").read_text())["parts"]


def test_another_split_is_added(run, capsys):
    evaluate.main([str(run), "--split", "train", "--device", "cpu"])
    assert f"{run / 'report.html'} shows all this" in capsys.readouterr().out
    assert list(parts(run)) == ["test", "valid", "train"]
    page, judged = Page(run / "report.html"), json.loads((run / "predictions_train.json").read_text())["train"]
    assert "metric test valid train test, always" in " ".join(page.sections["results"].split())
    for value in judged.values():
        assert f"{value:.4f}" in page.sections["results"]
    assert "48 labelled samples" in page.sections["errors"]
    assert "said" in page.sections["errors"]


def test_classes(reported, tmp_path, monkeypatch):
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: half_labelled(hostile(CLASSES)))
    run = shutil.copytree(reported["classes"], tmp_path / "run")
    evaluate.main([str(run), "--split", "train", "--device", "cpu"])
    page = Page(run / "report.html")
    assert "Confusion, train" in page.source
    part = parts(run)["train"]
    assert f"{part['num_wrong']} of 24 train samples are wrong" in page.sections["errors"]


def test_seeds(reported, tmp_path, monkeypatch):
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: hostile(RECORDINGS))
    root = shutil.copytree(reported["seeds"], tmp_path / "runs")
    evaluate.main([str(root), "--split", "train", "--device", "cpu"])
    found = [json.loads((root / f"seed-{seed}" / "predictions_train.json").read_text())["train"] for seed in (1, 2)]
    mean, std = np.mean([one["mae"] for one in found]), np.std([one["mae"] for one in found], ddof=1)
    assert f"{mean:.4f} ± {std:.4f}" in Page(root / "report.html").sections["results"]
    assert "train" in parts(root / "seed-2")


def test_missing_modalities_are_shown(run):
    evaluate.main([str(run), "--missing", "--missing-rates", "0.5", "--device", "cpu"])
    page = Page(run / "report.html")
    assert "language + vision" in page.sections["missing"]
    assert "Whole modalities are missing" in page.source
    assert "Dropped by chance" in page.source
    assert page.sections["missing"].count("random") == 1


def test_other_data_has_a_title_of_its_own(run, monkeypatch):
    other = replace(synthetic((24, 8, 8), steps=STEPS, seed=9), path="folder/other.npz")
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: other)
    before = parts(run)["test"]
    evaluate.main([str(run), "--data", "synthetic", "--device", "cpu"])
    assert parts(run)["test"] == before
    assert "test of other.npz" in Page(run / "report.html").sections["results"]


def test_elsewhere_and_not_at_all(run, tmp_path):
    def content():
        return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    before = content()
    evaluate.main([str(run), "--split", "train", "--out", str(tmp_path / "p.csv"), "--device", "cpu"])
    assert content() == before
    assert "train" in Page(tmp_path / "p.html").sections["results"]
    evaluate.main([str(run), "--pictures", "false", "--device", "cpu"])
    assert content().keys() - before.keys() == {"predictions_test.csv", "predictions_test.json"}
    assert content()["report.html"] == before["report.html"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.json", "[{"),
        ("history.json", '[{"epoch": "one"}]'),
        ("results.json", '{"test": [], "valid": {}}'),
        ("edges.csv", "epoch,unit\n1,a\n"),
        ("missing_test.csv", "protocol,kept\nwhole,language\n"),
    ],
)
def test_a_damaged_file_is_named(run, capsys, name, content):
    (run / name).write_text(content)
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(run), "--device", "cpu"])
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run / name} is")
    assert error.count("\n") == 1


def without(key):
    def change(part):
        del part[key]

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("size"),
        without("map"),
        lambda part: part.update(labelled="all"),
        lambda part: part.update(classes=[1, 2]),
        lambda part: part.update(confusion=[[1]]),
        lambda part: part["metrics"].update(mae="low"),
        lambda part: part["points"].append(["id", "high", 1]),
        lambda part: part["worst"].append({"id": 3}),
        lambda part: part["map"]["id"].pop(),
        lambda part: part["map"]["places"]["homogeneous"]["vision"].append([1, 2, 3]),
    ],
)
def test_a_damaged_part_is_left_out(reported, tmp_path, change):
    content = json.loads((reported["regression"] / "report.json").read_text())
    assert read_parts(reported["regression"]) == content
    change(content["parts"]["test"])
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert list(read_parts(tmp_path)["parts"]) == ["valid"]


@pytest.mark.parametrize("content", ["{", "[]", '{"parts": 3}', '{"parts": {"test": 3}}', "[" * 100_000])
def test_a_damaged_report_is_written_anew(run, content):
    (run / "report.json").write_text(content)
    assert read_parts(run)["parts"] == {}


def test_t_sne_runs_once(run, monkeypatch):
    from sklearn.manifold import TSNE

    calls = []
    whole = TSNE.fit_transform
    monkeypatch.setattr(TSNE, "fit_transform", lambda *arguments: calls.append(1) or whole(*arguments))
    evaluate.main([str(run), "--device", "cpu"])  # the test split is in the page already
    assert calls == []
    evaluate.main([str(run), "--split", "valid", "--device", "cpu"])  # in the page, but without a map
    assert len(calls) == 2  # one a GD-Unit


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
