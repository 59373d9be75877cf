"""benchmarks/edges.py: it runs from end to end, gives every row the same labels, and keeps seeds apart."""

import csv
import re
import sys

import numpy as np
import pytest
import torch

from benchmarks import edges
from benchmarks.edges_study.data import SCALES, VIEWS, digits, planted
from benchmarks.edges_study.report import interval, summary
from benchmarks.edges_study.rows import ALONE, ROWS, Row, rows_of
from benchmarks.edges_study.training import Batches, train


@pytest.fixture(scope="module")
def few():
    return planted("planted, 100 labels", 100, [3, 4], 2)


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["edges.py", *map(str, arguments)])
    edges.main()


def interrupted_after_one(train):
    """``train`` once, then an interrupt."""
    calls = []

    def called(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return train(*arguments)

    return called


def test_quick_run_writes_lines_tables_and_pictures(monkeypatch, tmp_path, capsys):
    call(monkeypatch, "--quick", "--out", tmp_path, "--images", tmp_path)
    with (tmp_path / "edges.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    studies = list(dict.fromkeys(line["study"] for line in lines))
    assert [name.split(",")[0] for name in studies] == ["digits", "planted", "planted", "digits"]
    wanted = [(study, row.name, seed) for study in studies for row in rows_of(study) for seed in ("0", "1")]
    assert [(line["study"], line["row"], line["seed"]) for line in lines] == wanted
    for line in lines:
        count = len(line["nodes"].split())
        share = sum(float(line[f"out_weight_{i + 1}"]) for i in range(count))
        assert share == pytest.approx(0 if line["row"] == "alone" else 1, abs=1e-3)
        assert all(0 <= float(line[f"accuracy_{i + 1}"]) <= 1 for i in range(count))
    table = (tmp_path / "edges.md").read_text()
    assert table.count("### ") == 4
    assert re.search(r"^\| agreement \| [+-]\d\.\d\d \| (\d\.\d{3} ± \d\.\d{3} \| ){5}[+-]", table, re.MULTILINE)
    assert capsys.readouterr().out.count("\n") == len(wanted) / 2
    pictures = [tmp_path / "edges_gain.png", tmp_path / "edges_weight.png"]
    sizes = [picture.stat().st_size for picture in pictures]
    for picture in pictures:
        picture.unlink()
    path = tmp_path / "edges.csv"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-3]))  # as if stopped within the last row but one
    call(monkeypatch, "--quick", "--resume", "--out", tmp_path, "--images", tmp_path)
    assert path.read_text() == whole
    assert capsys.readouterr().out.count("\n") == 2
    header, *rest = whole.splitlines(keepends=True)
    path.write_text(header + "".join(rest[2:4] + rest[6:]))  # the first row and the third are lacking
    with monkeypatch.context() as patch:
        patch.setattr(edges, "train", interrupted_after_one(edges.train))
        with pytest.raises(KeyboardInterrupt):
            call(patch, "--quick", "--resume", "--out", tmp_path, "--images", tmp_path)
    assert path.read_text() == header + "".join(rest[:4] + rest[6:])  # nothing that was there is lost
    assert not list(tmp_path.glob("*.tmp"))
    path.write_text(whole)
    for picture in pictures:
        picture.unlink()
    call(monkeypatch, "--draw", "--out", tmp_path, "--images", tmp_path)
    assert [picture.stat().st_size for picture in pictures] == sizes
    assert (tmp_path / "edges.md").read_text() == table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "--out", "."], "--draw and --resume read edges.csv, which is not there"),
        (["--out", "none/here"], "none/here"),
    ],
)
def test_wrong_arguments_end_before_training(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *arguments, "--images", ".")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_rows_cover_every_factor():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert rows_of("planted, 100 labels") == ROWS
    for field, wanted in {
        "scorer": {None, "linear", "mlp", "free", "agreement"},
        "normalize": {"graph", "target"},
        "quality": {"none", "validation", "validation, then all labels", "training", "confidence", "consensus"},
        "detach_weights": {False, True},
        "late": {False, True},
    }.items():
        assert {getattr(row, field) for row in ROWS} == wanted
    assert rows_of("digits, 1,000 labels")[0] is ALONE


def test_held_out_labels_come_out_of_the_rows_own_budget(few):
    everyone, held = (Batches(few, Row("", quality=kind), [3, 4]) for kind in ("none", "validation"))
    labelled, every = everyone(False)
    assert labelled.labels.shape == (2, 100)
    assert every.inputs["2.0"].shape == (2, 228, 16)
    fewer, _ = held(False)
    assert torch.equal(fewer.labels, few.labelled.labels[:, :60])
    assert torch.equal(held(True)[0].labels, few.labelled.labels)


def test_rows_see_the_same_batches(few):
    batches = [Batches(few, row, [3, 4])(False)[1].inputs["0.3"] for row in (ALONE, Row("", "mlp"))]
    assert torch.equal(*batches)


@pytest.mark.parametrize(
    "row", [Row("a", "linear", "target"), Row("b", "agreement"), Row("c", quality="confidence"), Row("d", "free")]
)
def test_a_seed_trains_as_it_would_alone(few, row):
    together = train(few, row, [3, 4])
    alone = train(planted("planted, 100 labels", 100, [4], 2), row, [4])
    for both, one in zip(together, alone):
        torch.testing.assert_close(both[1:], one, rtol=0, atol=2e-3)


def test_data_are_as_described(few):
    assert tuple(few.test.inputs) == tuple(SCALES)
    strengths = [few.labelled.inputs[node].square().mean().item() for node in SCALES]
    assert strengths == sorted(strengths, reverse=True)
    views = digits("digits, 100 labels", 100, [0, 1], 2)
    assert tuple(views.test.inputs) == VIEWS
    assert [part.labels.shape[1] for part in (views.labelled, views.unlabelled, views.test)] == [100, 900, 1000]
    assert torch.equal(views.test.labels[0], views.test.labels[1])
    assert not torch.equal(views.labelled.labels[0], views.labelled.labels[1])


def test_ranks_and_intervals():
    assert edges.spearman(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(1)
    assert edges.spearman(torch.tensor([0.9, 0.2, 0.1]), torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(-1)
    assert edges.spearman(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])) == 0
    assert interval(np.array([[1.0], [2.0], [3.0]])).item() == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert interval(np.array([[1.0]])).item() == 0


def test_gains_are_paired_by_seed():
    common = {"study": "s", "nodes": ["a"], "rho": "1.0", "out_weight": [1.0]}
    lines = [
        {**common, "row": row, "seed": seed, "accuracy": [value]}
        for row, values in {"alone": (0.5, 0.9), "better": (0.6, 1.0)}.items()
        for seed, value in enumerate(values)
    ]
    gain, half = summary(lines)["s"]["better"]["gain"]
    assert gain.tolist() == pytest.approx([0.1, 0.1])
    assert half.tolist() == pytest.approx([0.0, 0.0])
