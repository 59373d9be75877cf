"""What each protocol of missing modalities drops, and the command from end to end."""

import csv
import json
import math
import shutil
from dataclasses import replace

import evaluate
import numpy as np
import pytest
import torch
from dmd.data import Split, make_loader
from dmd.evaluation import evaluate as judge
from dmd.missing import (
    drop_modalities,
    drop_steps,
    keep_modalities,
    missing_cases,
    num_cases,
    presence,
    subsets,
)
from dmd.missing_report import missing_table, write_missing

from tests.example.small_runs import RECORDINGS, prepare, rows

NAMES = ("language", "vision", "acoustic")


def make_split(lengths=((5, 0, 40), (3, 20, 30), (0, 7, 9), (0, 0, 0)), tokens=False, names=NAMES):
    """Sample i has lengths[i] steps; every value says which step it is."""
    inputs = {name: [np.arange(row[m], dtype=np.float32)[:, None] for row in lengths] for m, name in enumerate(names)}
    ids = [np.arange(row[0]) + 100 for row in lengths] if tokens else None
    return Split([str(i) for i in range(len(lengths))], inputs, np.zeros(len(lengths), np.float32), ids)


def steps(split, name):
    return [x[:, 0].astype(int).tolist() for x in split.inputs[name]]


def many(size=2000, names=NAMES, length=4):
    return make_split(np.full((size, len(names)), length), names=names)


# Whole


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_every_subset_once(count):
    names = [f"view{i}" for i in range(count)]
    found = subsets(names)
    assert len(found) == len(set(found)) == 2**count - 1
    assert all(sorted(kept, key=names.index) == list(kept) for kept in found)
    assert found[-1] == tuple(names)


def test_the_seven_subsets_in_order():
    letters = ["".join(name[0] for name in kept) for kept in subsets(NAMES)]
    assert letters == ["l", "v", "a", "lv", "la", "va", "lva"]


def test_keeping_modalities_drops_the_others_and_nothing_else():
    split = make_split(tokens=True)
    kept = keep_modalities(split, ("vision",))
    assert tuple(kept.inputs) == NAMES
    assert steps(kept, "vision") == steps(split, "vision")
    assert steps(kept, "language") == steps(kept, "acoustic") == [[]] * 4
    assert all(x.shape == (0, 1) and x.dtype == np.float32 for x in kept.inputs["language"])
    assert (kept.ids, kept.labels.tolist()) == (split.ids, split.labels.tolist())
    assert len(split.inputs["language"][0]) == 5  # the given one is as it was
    with pytest.raises(ValueError, match="kept names nose; the modalities are language, vision, acoustic"):
        keep_modalities(split, ("nose",))


# Steps


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_share_of_dropped_steps(rate):
    split = many()
    left = drop_steps(split, rate, np.random.default_rng(0))
    for name in NAMES:
        share = 1 - sum(map(len, left.inputs[name])) / 8000
        assert share == pytest.approx(rate, abs=0.0 if rate in (0, 1) else 4 * math.sqrt(rate * (1 - rate) / 8000))


def test_dropped_steps_are_those_of_the_formula_in_their_order():
    split = make_split(tokens=True)
    left = drop_steps(split, 0.4, np.random.default_rng(7))
    for stream, (m, name) in zip(np.random.default_rng(7).spawn(3), enumerate(NAMES), strict=True):
        for i, x in enumerate(split.inputs[name]):
            draws = stream.random(len(x))
            wanted = [t for t in range(len(x)) if draws[t] >= 0.4]
            assert steps(left, name)[i] == wanted, m
    assert [[t + 100 for t in one] for one in steps(left, "language")] == [ids.tolist() for ids in left.tokens]


def test_a_modality_loses_the_same_steps_beside_others_of_any_length():
    one = drop_steps(make_split(((5, 9, 40),)), 0.5, np.random.default_rng(1))
    other = drop_steps(make_split(((30, 9, 2),)), 0.5, np.random.default_rng(1))
    assert steps(one, "vision") == steps(other, "vision")


# Random


def test_at_least_one_modality_is_kept_of_those_there_are():
    split = make_split()
    had = presence(split)
    for seed in range(50):
        for rate in (0.0, 0.5, 0.9, 1.0):
            left = presence(drop_modalities(split, rate, np.random.default_rng(seed)))
            assert not (left & ~had).any()
            np.testing.assert_array_equal(left.any(axis=1), had.any(axis=1))
            if rate == 1:
                np.testing.assert_array_equal(left.sum(axis=1), had.any(axis=1))
            if rate == 0:
                np.testing.assert_array_equal(left, had)


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_chances_of_every_set_of_modalities(rate):
    size = 20_000
    left = presence(drop_modalities(many(size, length=1), rate, np.random.default_rng(0)))
    for kept in np.ndindex(2, 2, 2):
        if any(kept):
            alone = rate**3 / 3 if sum(kept) == 1 else 0.0  # all lost: each is as likely to be the one kept
            chance = rate ** (3 - sum(kept)) * (1 - rate) ** sum(kept) + alone
            share = (left == kept).all(axis=1).mean()
            assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / size))


def test_what_is_kept_is_whole():
    split = make_split()
    left = drop_modalities(split, 0.5, np.random.default_rng(3))
    for name in NAMES:
        for got, had in zip(steps(left, name), steps(split, name), strict=True):
            assert got in ([], had)


# Both


@pytest.mark.parametrize("drop", [drop_steps, drop_modalities])
def test_seeds_and_rates(drop):
    split = many(50)

    def left(rate, seed):
        return {name: steps(drop(split, rate, np.random.default_rng(seed)), name) for name in NAMES}

    assert left(0.5, 1) == left(0.5, 1)
    assert left(0.5, 1) != left(0.5, 2)
    low, high = left(0.3, 1), left(0.6, 1)
    assert low != high
    for name in NAMES:
        for a, b in zip(high[name], low[name], strict=True):
            assert set(a) <= set(b)  # what goes at one rate goes at every higher one
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1.5"):
        drop(split, 1.5, np.random.default_rng(0))


def test_cases():
    split = replace(make_split(), labels=np.float32([0.0, np.nan, 1.0, 2.0]))
    found = list(missing_cases(split, (0.2, 0.5), seed=4))
    assert len(found) == num_cases(3, (0.2, 0.5)) == 11
    rows = [case.row() for case in found]
    assert [row["protocol"] for row in rows] == ["whole"] * 7 + ["steps"] * 2 + ["random"] * 2
    assert [(row["rate"], row["seed"]) for row in rows[6:]] == [(None, None), (0.2, 4), (0.5, 4), (0.2, 4), (0.5, 4)]
    assert {row["n"] for row in rows} == {3}
    # Of the three labelled samples the last has nothing; the third no language, the first no vision.
    assert [row["empty"] for row in rows[:7]] == [2, 2, 1, 1, 1, 1, 1]
    assert all(row["formula"] for row in rows)


# The network


def test_what_is_dropped_says_nothing(tmp_path):
    """Predictions are finite, do not depend on what was dropped, and without anything are all the same."""
    run = prepare(tmp_path)
    samples = RECORDINGS.splits["valid"]

    def predict(split):
        changed = replace(RECORDINGS, splits=RECORDINGS.splits | {"valid": split})
        found = judge(run.task, make_loader(split, 5), changed, "valid", run.accelerator)
        assert np.isfinite(found["predictions"]["prediction"]).all()
        return found["predictions"]["prediction"]

    generator = np.random.default_rng(0)
    noise = {
        name: [generator.normal(size=x.shape).astype(np.float32) for x in xs] for name, xs in samples.inputs.items()
    }
    other = replace(samples, inputs=samples.inputs | {"vision": noise["vision"]})
    for kept in subsets(RECORDINGS.names):
        same = np.array_equal(predict(keep_modalities(samples, kept)), predict(keep_modalities(other, kept)))
        assert same == ("vision" not in kept)
    nothing = predict(keep_modalities(samples, ()))
    assert np.ptp(nothing) < 1e-6
    np.testing.assert_allclose(predict(keep_modalities(samples, RECORDINGS.names)), predict(samples))


# The report


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


# The command


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
