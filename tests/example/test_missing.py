"""What each protocol of missing modalities drops, and the command from end to end."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dmd.data import Split, make_loader
from dmd.evaluation import evaluate as judge
from dmd.missing import drop_modalities, drop_steps, keep_modalities, missing_cases, num_cases, presence, subsets

from tests.example.small_runs import RECORDINGS, prepare

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
