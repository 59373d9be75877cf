"""Every metric against a plain loop and the libraries of the field, and what happens where it is undefined."""

import math

import numpy as np
import pytest
from dmd.metrics import compute_metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from tests.example.plain_metrics import (
    accuracy,
    assert_close,
    assert_equal,
    clip,
    correlation,
    macro_f1,
    pairs,
    sims_bin,
    weighted_f1,
)

# Quarters hit every boundary: zero, halves (round half to even), and the ends of the ranges.
numbers = st.one_of(st.integers(-16, 16).map(lambda k: k / 4), st.floats(-4, 4, width=32))
fifths = st.one_of(st.integers(-12, 12).map(lambda k: k / 10), st.floats(-1.5, 1.5, width=32))


@settings(max_examples=200, deadline=None)
@given(samples=pairs(numbers))
def test_mosi(samples):
    got = compute_metrics(np.float32([p for p, _ in samples]), np.float32([y for _, y in samples]), "mosi")
    got.pop("corr")
    signed = [(p > 0, y > 0) for p, y in samples if y != 0]
    all_samples = [(p >= 0, y >= 0) for p, y in samples]
    wanted = {
        "mae": sum(abs(p - y) for p, y in samples) / len(samples),
        "acc2_neg_pos": accuracy(signed),
        "acc2_neg_nonneg": accuracy(all_samples),
        "f1_neg_pos": weighted_f1(signed),
        "f1_neg_nonneg": weighted_f1(all_samples),
    }
    for limit in (1, 2, 3):
        wanted[f"acc{2 * limit + 1}"] = accuracy([(round(clip(p, limit)), round(clip(y, limit))) for p, y in samples])
    assert_equal(got, wanted)


@settings(max_examples=200, deadline=None)
@given(samples=pairs(fifths))
def test_sims(samples):
    got = compute_metrics(np.array([p for p, _ in samples]), np.array([y for _, y in samples]), "sims")
    got.pop("corr")
    clipped = [(clip(p, 1), clip(y, 1)) for p, y in samples]

    def binned(*edges: float) -> list:
        return [(sims_bin(p, edges), sims_bin(y, edges)) for p, y in clipped]

    wanted = {
        "mae": sum(abs(p - y) for p, y in clipped) / len(clipped),
        "acc2_nonpos_pos": accuracy(binned(0)),
        "f1_nonpos_pos": weighted_f1(binned(0)),
        "acc3": accuracy(binned(-0.1, 0.1)),
        "acc5": accuracy(binned(-0.7, -0.1, 0.1, 0.7)),
    }
    assert_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sims_bins_are_right_closed_in_every_precision(dtype):
    edges = np.array([-0.7, -0.1, 0.1, 0.7], dtype)
    in_bins = np.array([-0.8, -0.3, 0.0, 0.4], np.float64)
    assert compute_metrics(in_bins, edges, "sims")["acc5"] == 1
    assert compute_metrics(edges, in_bins, "sims")["acc5"] == 1


@settings(max_examples=100, deadline=None)
@given(samples=pairs(st.integers(-8, 8).map(lambda k: k / 2), min_size=2), suite=st.sampled_from(["mosi", "sims"]))
def test_correlation(samples, suite):
    got = compute_metrics(np.array([p for p, _ in samples]), np.array([y for _, y in samples]), suite)["corr"]
    limit = 1 if suite == "sims" else math.inf
    samples = [(clip(p, limit), clip(y, limit)) for p, y in samples]
    if len({p for p, _ in samples}) == 1 or len({y for _, y in samples}) == 1:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(correlation(samples), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(samples=pairs(st.integers(0, 5)))
def test_classification(samples):
    got = compute_metrics(np.array([p for p, _ in samples]), np.array([y for _, y in samples]), "accuracy")
    assert_equal(got, {"accuracy": accuracy(samples), "f1_macro": macro_f1(samples)})


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_and_scipy_agree(seed):
    generator = np.random.default_rng(seed)
    p, y = generator.normal(scale=1.5, size=200), np.round(generator.uniform(-3, 3, 200) * 5) / 5
    signed = y != 0
    got = compute_metrics(p, y, "mosi")
    assert_close(
        got,
        {
            "mae": mean_absolute_error(y, p),
            "corr": pearsonr(y, p).statistic,
            "acc2_neg_pos": accuracy_score(y[signed] > 0, p[signed] > 0),
            "acc2_neg_nonneg": accuracy_score(y >= 0, p >= 0),
            "f1_neg_pos": f1_score(y[signed] > 0, p[signed] > 0, average="weighted"),
            "f1_neg_nonneg": f1_score(y >= 0, p >= 0, average="weighted"),
            "acc3": accuracy_score(np.round(np.clip(y, -1, 1)), np.round(np.clip(p, -1, 1))),
            "acc5": accuracy_score(np.round(np.clip(y, -2, 2)), np.round(np.clip(p, -2, 2))),
            "acc7": accuracy_score(np.round(np.clip(y, -3, 3)), np.round(np.clip(p, -3, 3))),
        },
    )
    p, y = np.clip(p, -1, 1), np.clip(y, -1, 1)
    bins = {3: [-0.1, 0.1], 5: [-0.7, -0.1, 0.1, 0.7]}
    binned = {k: [np.digitize(x, edges, right=True) for x in (y, p)] for k, edges in bins.items()}
    assert_close(
        compute_metrics(2 * p, 2 * y, "sims"),
        {
            "mae": mean_absolute_error(np.clip(2 * y, -1, 1), np.clip(2 * p, -1, 1)),
            "corr": pearsonr(np.clip(2 * y, -1, 1), np.clip(2 * p, -1, 1)).statistic,
            "acc2_nonpos_pos": accuracy_score(y > 0, p > 0),
            "f1_nonpos_pos": f1_score(y > 0, p > 0, average="weighted"),
            **{name: value for name, value in compute_metrics(2 * p, 2 * y, "sims").items() if name.startswith("acc")},
        },
    )
    for k, classes in binned.items():
        assert compute_metrics(p, y, "sims")[f"acc{k}"] == pytest.approx(accuracy_score(*classes), abs=1e-12)
    p, y = generator.integers(0, 4, 200), generator.integers(0, 6, 200)
    classes = {"accuracy": accuracy_score(y, p), "f1_macro": f1_score(y, p, average="macro")}
    assert_close(compute_metrics(p, y, "accuracy"), classes)
