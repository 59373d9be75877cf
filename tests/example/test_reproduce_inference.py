"""Intervals and tests: against scipy, against copies of samples, and by hand."""

import math

import numpy as np
import pytest
from dmd.metrics import NAMES, compute_metrics
from dmd.reproduce import edges
from dmd.reproduce.embeddings import neighbourhood
from dmd.reproduce.inference import (
    bootstrap_interval,
    holm,
    resampled_metric,
    resampling_counts,
    sample_errors,
    sign_flip_test,
)
from scipy import stats

GENERATOR = np.random.default_rng(0)
DRAWN = {
    "mosi": (GENERATOR.normal(size=40).astype(np.float32) * 1.5, GENERATOR.integers(-6, 7, 40).astype(np.float32) / 2),
    "sims": (GENERATOR.normal(size=40).astype(np.float32), GENERATOR.integers(-5, 6, 40).astype(np.float32) / 5),
    "accuracy": (GENERATOR.integers(0, 4, 40), GENERATOR.integers(0, 4, 40)),
}


@pytest.mark.parametrize("suite", DRAWN)
def test_a_resample_has_the_metrics_of_its_copies(suite):
    predictions, labels = DRAWN[suite]
    counts = resampling_counts(40, 8)
    for metric in NAMES[suite]:
        found = resampled_metric(predictions, labels, suite, metric, counts)
        for row, value in zip(counts.astype(int), found, strict=True):
            copies = np.repeat(np.arange(40), row)
            wanted = compute_metrics(predictions[copies], labels[copies], suite)[metric]
            assert value == pytest.approx(wanted, abs=1e-6), metric


def test_undefined_resamples():
    predictions, labels = np.float32([1, 1, 2]), np.float32([0, 0, 0])
    counts = resampling_counts(3, 50)
    assert np.isnan(resampled_metric(predictions, labels, "mosi", "corr", counts)).all()
    assert bootstrap_interval(predictions[None], labels, "mosi", "acc2_neg_pos", counts) == pytest.approx(
        (math.nan, math.nan), nan_ok=True
    )


def test_interval_against_scipy():
    predictions, labels = DRAWN["mosi"]
    seeds = np.stack([predictions, predictions + 0.3])
    errors = sample_errors(seeds, labels, "mosi")
    wanted = stats.bootstrap((errors,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    found = bootstrap_interval(seeds, labels, "mosi", "mae", resampling_counts(40, 20_000))
    assert found == pytest.approx(tuple(wanted), abs=0.02)
    assert found[0] < errors.mean() < found[1]


def test_resampling_is_seeded():
    assert np.array_equal(resampling_counts(5, 3), resampling_counts(5, 3))
    assert (resampling_counts(5, 3).sum(axis=1) == 5).all()


@pytest.mark.parametrize("size", [6, 9, 30])
def test_sign_flips_against_scipy(size):
    differences = np.random.default_rng(size).normal(0.4, 1, size)
    options = {"permutation_type": "samples", "n_resamples": np.inf if size < 20 else 20_000, "rng": 1}
    wanted = stats.permutation_test((differences, np.zeros(size)), lambda x, y: (x - y).mean(), **options).pvalue
    assert sign_flip_test(differences) == pytest.approx(wanted, abs=1e-12 if size < 13 else 0.02)


def test_sign_flips_by_hand():
    assert sign_flip_test(np.array([1.0, 1.0, 1.0])) == 2 / 8
    assert sign_flip_test(np.array([3.0, -1.0])) == 1.0  # +-2 and +-4: all at least as far out
    assert sign_flip_test(np.zeros(700)) == 1.0
    assert sign_flip_test(np.ones(700)) == pytest.approx(1 / 10_001)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_errors_of_classes():
    errors = sample_errors(np.array([[0, 1, 2], [0, 2, 1]]), np.array([0, 1, 0]), "accuracy")
    assert errors.tolist() == [0.0, 0.5, 1.0]


# Figure 5


def test_distance_of_graphs():
    assert edges.distance(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])) == pytest.approx(0.5)
    assert edges.distance(np.array([2.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(1 / 3)


def test_labels_that_matter_and_labels_that_do_not():
    generator = np.random.default_rng(0)
    real = generator.dirichlet([30, 10, 10, 10], size=5)
    same, other = generator.dirichlet([30, 10, 10, 10], size=5), generator.dirichlet([2, 10, 10, 40], size=5)
    assert edges.label_test(real, other) == pytest.approx(2 / 252)  # of the 252 ways to call five of ten real
    assert edges.label_test(real, same) > 0.05
    assert math.isnan(edges.label_test(real[:1], other[:1]))
    many = edges.label_test(np.tile(real, (2, 1)), np.tile(other, (2, 1)))  # drawn ways
    assert many < 0.01


def test_compared_graphs():
    real = np.array([[[0.5, 0.5], [0.7, 0.3], [0.0, 1.0]], [[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]]])  # (seed, epoch, edge)
    found = edges.compare_labels(real, real[:, :2, ::-1], prior=[1.0, 0.0])
    assert found["epoch"] == 2
    assert found["n"] == 2
    assert found["distance"] == pytest.approx((0.4 + 0.6 + 0.6 + 0.8) / 4)
    assert found["between_real"] == found["between_shuffled"] == pytest.approx(0.2)
    assert found["spearman"] == pytest.approx(-1.0)
    assert found["to_prior_real"] == pytest.approx(0.2)
    assert found["to_prior_shuffled"] == pytest.approx(0.8)


def test_rank_correlation():
    weights = np.random.default_rng(0).random((2, 12)).round(1)
    assert edges.spearman(*weights) == pytest.approx(stats.spearmanr(*weights).statistic)
    assert math.isnan(edges.spearman(np.full(3, 0.2), weights[0, :3]))


# Figures 3 and 4


def test_neighbourhood_by_hand():
    """Two far groups, one a label; in each, the modalities lie on one another."""
    labels = np.array([0] * 12 + [1] * 12)
    place = labels[:, None] * 100.0 + np.random.default_rng(0).normal(size=(24, 2))
    together = neighbourhood({"a": place, "b": place + 1e-3}, labels)
    assert together.same_label == 1.0
    assert together.other_modality == pytest.approx(0.5, abs=0.05)
    apart = neighbourhood({"a": place, "b": place + 10_000}, labels)
    assert apart.other_modality == 0.0
    absent = np.where(labels[:, None] == 0, np.nan, place)
    assert neighbourhood({"a": place, "b": absent}, labels).same_label == 1.0
