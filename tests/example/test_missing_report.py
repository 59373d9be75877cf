"""What is said of missing modalities: tables, files, and the command."""

import csv
import json
import math
import shutil
from dataclasses import replace

import evaluate
import numpy as np
import pytest
import torch
from dmd.data import Split
from dmd.missing import missing_cases
from dmd.missing_report import missing_table, write_missing

from tests.example.small_runs import RECORDINGS, prepare, rows

NAMES = ("language", "vision", "acoustic")
LENGTHS = ((5, 0, 40), (3, 20, 30), (0, 7, 9), (0, 0, 0))  # a row a sample, the third without language


def make_split():
    """Sample i has LENGTHS[i] steps; every value says which step it is."""
    inputs = {name: [np.arange(row[m], dtype=np.float32)[:, None] for row in LENGTHS] for m, name in enumerate(NAMES)}
    return Split([str(i) for i in range(len(LENGTHS))], inputs, np.zeros(len(LENGTHS), np.float32))


def fake_rows(shift=0.0, **changes):
    samples = replace(make_split(), labels=np.float32([0, 1, 2, np.nan]))
    values = {"mae": 0.5 + shift, "corr": math.nan, **dict.fromkeys(("acc2_nonpos_pos", "f1_nonpos_pos"), 0.75)}
    values |= dict.fromkeys(("acc3", "acc5"), 0.25) | changes
    return [case.row() | values for case in missing_cases(samples, (0.1, 0.4), seed=2)]


def test_table_of_several_runs():
    lines = missing_table({3: fake_rows(), 8: fake_rows(0.2)}, "sims").splitlines()
    names = "mae | corr | acc2_nonpos_pos | f1_nonpos_pos | acc3 | acc5"
    assert lines[0] == f"| protocol | kept | rate | seed | n | empty | {names} |"
    values = "0.600 ± 0.141 | — | 0.750 ± 0.000 | 0.750 ± 0.000 | 0.250 ± 0.000 | 0.250 ± 0.000"
    assert lines[2] == f"| whole | language | — | — | 3 | 1 | {values} |"
    assert lines[-5] == ""
    assert "| random | language + vision + acoustic | 0.4 | 2 | 3 | 0 |" in lines[-6]
    assert [line.partition(":")[0] for line in lines[-4:-1]] == ["- `whole`", "- `steps`", "- `random`"]
    assert "over the runs of seeds 3, 8" in lines[-1]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_files(tmp_path, seeds):
    runs = {seed: fake_rows(seed / 10) for seed in seeds}
    table = write_missing(tmp_path / "missing_test", runs, "sims")
    assert (tmp_path / "missing_test.md").read_text() == table + "\n"
    assert (tmp_path / "missing_test.png").read_bytes()[:4] == b"\x89PNG"
    written = rows(tmp_path / "missing_test.csv")
    assert len(written) == 11 * len(seeds)
    assert [int(row["run_seed"]) for row in written] == [seed for seed in seeds for _ in range(11)]
    assert all(row["formula"] for row in written)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of one epoch, as train.py --seeds leaves them."""
    root = tmp_path_factory.mktemp("trained") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmd.report.write_pictures", lambda *_, **__: {})
        for seed in (1, 2):
            prepare(root / f"seed-{seed}", epochs=1, seed=seed).train()
    (root / "seeds.json").write_text("[1, 2]")
    return root


@pytest.fixture
def few(monkeypatch):
    """The recordings that the runs were trained on, in place of the larger ones that `synthetic` draws."""
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: RECORDINGS)


@pytest.mark.usefixtures("few")
def test_missing_from_end_to_end(trained, tmp_path, capsys):
    run = shutil.copytree(trained / "seed-1", tmp_path / "run")
    evaluate.main([str(run), "--missing", "--missing-rates", "0.5", "0.2", "--seed", "3", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert (run / "missing_test.md").read_text() in printed + "\n"
    assert (run / "missing_test.png").stat().st_size > 10_000
    written = rows(run / "missing_test.csv")
    cases = [(row["protocol"], row["rate"], row["seed"], row["n"], row["run_seed"]) for row in written]
    chance = [(protocol, rate, "3", "16", "1") for protocol in ("steps", "random") for rate in ("0.2", "0.5")]
    assert cases == [("whole", "", "", "16", "1")] * 7 + chance
    whole = json.loads((run / "predictions_test.json").read_text())["test"]
    assert {name: float(written[6][name]) for name in whole} == pytest.approx(whole, rel=1e-6)
    before = (run / "missing_test.csv").read_bytes()
    arguments = ["--missing", "--missing-rates", "0.2", "0.5", "--seed", "3", "--device", "cpu", "--batch-size", "5"]
    evaluate.main([str(run), *arguments])
    for one, other in zip(rows(run / "missing_test.csv"), csv.DictReader(before.decode().splitlines()), strict=True):
        assert float(one["mae"]) == pytest.approx(float(other["mae"]), rel=1e-5)  # whatever the batches


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("listed", [True, False], ids=["of train.py", "of reproduce.py"])
def test_runs_over_seeds(trained, tmp_path, capsys, listed):
    root = shutil.copytree(trained, tmp_path / "runs")
    if not listed:
        (root / "seeds.json").unlink()
    evaluate.main([str(root), "--missing", "--split", "valid", "--missing-rates", "0.5", "--device", "cpu"])
    values = [
        json.loads((root / f"seed-{seed}" / "predictions_valid.json").read_text())["valid"]["mae"] for seed in (1, 2)
    ]
    printed = capsys.readouterr().out
    assert f"mae              {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} (n = 2 seeds)" in printed
    written = rows(root / "missing_valid.csv")
    assert [row["run_seed"] for row in written] == ["1"] * 9 + ["2"] * 9
    assert float(written[6]["mae"]) == pytest.approx(values[0], rel=1e-6)
    assert float(written[15]["mae"]) == pytest.approx(values[1], rel=1e-6)
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in (root / "missing_valid.md").read_text()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--missing", "--missing-rates", "1.5"], "--missing-rates must be in [0, 1], got 1.5"),
        (["--missing", "--missing-rates", "nan"], "nan"),
        (["--missing", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--out", "p.csv"], "--out is the file of one run; those of the 2 runs in"),
    ],
)
def test_wrong_options(trained, capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(trained), *arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not list(trained.rglob("*missing*"))


def test_missing_needs_labels(trained, monkeypatch, capsys):
    test = replace(RECORDINGS.splits["test"], labels=np.full(16, np.nan, np.float32))
    unlabelled = replace(RECORDINGS, splits=RECORDINGS.splits | {"test": test})
    monkeypatch.setattr("dmd.checkpoint.load", lambda *_, **__: unlabelled)
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(trained / "seed-1"), "--missing"])
    assert "--missing compares metrics, but no sample of split 'test' has a label" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_damaged_checkpoints_are_named(trained, tmp_path, capsys):
    """Cut anywhere, of another network, or no safetensors at all: one line that names the file."""
    root = shutil.copytree(trained, tmp_path / "runs")
    path = root / "seed-2" / "model.safetensors"
    whole = path.read_bytes()

    def says(content):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match="2"):
            evaluate.main([str(root)])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    for content in (b"", whole[:7], whole[:200], whole[:-1], whole + b"more", b"\xff" * 64, b"PK\x03\x04 a torch file"):
        assert says(content).startswith(f"error: {path} is damaged: ")
    torch.save({"weight": torch.zeros(2)}, path)
    assert says(path.read_bytes()).startswith(f"error: {path} is damaged: ")
    path.unlink()
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(root)])
    assert f"{path.parent} has no model.safetensors" in capsys.readouterr().err
