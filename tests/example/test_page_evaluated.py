"""evaluate.py extends the page of a run; t-SNE runs once for its picture and the page."""

import json
import shutil
from dataclasses import replace

import evaluate
import numpy as np
import pytest
from dmd.data import synthetic
from dmd.page.content import read_content
from dmd.page.part import read_parts

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


@pytest.mark.parametrize("finished", [0, 1])
def test_seeds_that_are_not_finished(reported, tmp_path, monkeypatch, finished):
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: hostile(RECORDINGS))
    root = shutil.copytree(reported["seeds"], tmp_path / "runs")
    for seed in (1, 2)[finished:]:
        (root / f"seed-{seed}" / "results.json").unlink()
    evaluate.main([str(root), "--device", "cpu"])
    page = Page(root / "report.html")
    assert page.sections["warnings"].count("is not finished") == 2 - finished
    judged = json.loads((root / "seed-1" / "predictions_test.json").read_text())["test"]
    assert f"{judged['mae']:.4f}" in page.sections["results"]


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
        ("history.json", '[{"epoch": 1, "train": {"loss": Infinity}}]'),
        ("results.json", '{"test": [], "valid": {}}'),
        ("results.json", '{"test": {}, "valid": {}, "data": []}'),
        ("results.json", '{"test": {}, "valid": {}, "data": {"sizes": {"train": null}}}'),
        ("results.json", '{"test": {"mae": 1' + "0" * 400 + '}, "valid": {}}'),
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
        lambda part: part["points"].append(["id", None, 1]),
        lambda part: part["points"].append(["id", float("nan"), 1]),
        lambda part: part["points"].append(["id", 10**400, 1]),
        lambda part: part["worst"].append({"id": 3}),
        lambda part: part["worst"][0].update(truth=None),
        lambda part: part["worst"][0].update(text=3),
        lambda part: part["constant"].pop("text"),
        lambda part: part.update(classes=["a", "b"]),  # without a confusion
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


@pytest.mark.parametrize(
    "change",
    [
        without("num_wrong"),
        without("confusion"),
        lambda part: part.update(confusion=[["x"] * 3] * 3),
        lambda part: part["worst"][0].update(confidence=None),
    ],
)
def test_a_damaged_part_of_classes_is_left_out(reported, tmp_path, change):
    content = json.loads((reported["classes"] / "report.json").read_text())
    assert read_parts(reported["classes"]) == content
    change(next(part for part in content["parts"].values() if part["worst"]))
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert len(read_parts(tmp_path)["parts"]) == len(content["parts"]) - 1


def test_a_title_of_a_part_is_not_looked_up_in_the_results(reported, tmp_path):
    run = shutil.copytree(reported["regression"], tmp_path / "run")
    content = json.loads((run / "report.json").read_text())
    content["parts"]["graphs"] = content["parts"]["valid"]
    (run / "report.json").write_text(json.dumps(content))
    assert read_content(run).metrics("graphs") == read_content(run).metrics("valid")


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
