"""Every metric against a plain loop, and what happens where it is undefined."""

import math

import numpy as np
import pytest
from dmd.metrics import MMSA_NAMES, SELECTION, compute_metrics
from hypothesis import given, settings
from hypothesis import strategies as st

# Quarters hit every boundary: zero, halves (round half to even), and the ends of the ranges.
numbers = st.one_of(st.integers(-16, 16).map(lambda k: k / 4), st.floats(-4, 4, width=32))
fifths = st.one_of(st.integers(-12, 12).map(lambda k: k / 10), st.floats(-1.5, 1.5, width=32))


def pairs(elements: st.SearchStrategy, min_size: int = 1) -> st.SearchStrategy:
    return st.lists(st.tuples(elements, elements), min_size=min_size, max_size=30)


def accuracy(pairs_of_classes: list) -> float:
    if not pairs_of_classes:
        return math.nan
    return sum(1 for p, y in pairs_of_classes if p == y) / len(pairs_of_classes)


def f1_scores(pairs_of_classes: list) -> dict:
    """Class -> (F1, how often the truth has it), for all classes that prediction or truth has."""
    scores = {}
    for wanted in {value for pair in pairs_of_classes for value in pair}:
        hits = sum(1 for p, y in pairs_of_classes if p == wanted and y == wanted)
        predicted = sum(1 for p, _ in pairs_of_classes if p == wanted)
        true = sum(1 for _, y in pairs_of_classes if y == wanted)
        scores[wanted] = (2 * hits / (predicted + true), true)
    return scores


def weighted_f1(pairs_of_classes: list) -> float:
    if not pairs_of_classes:
        return math.nan
    return sum(score * count for score, count in f1_scores(pairs_of_classes).values()) / len(pairs_of_classes)


def macro_f1(pairs_of_classes: list) -> float:
    scores = f1_scores(pairs_of_classes)
    return sum(score for score, _ in scores.values()) / len(scores)


def clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def correlation(samples: list) -> float:
    p_mean = math.fsum(p for p, _ in samples) / len(samples)
    y_mean = math.fsum(y for _, y in samples) / len(samples)
    covariance = math.fsum((p - p_mean) * (y - y_mean) for p, y in samples)
    p_spread = math.fsum((p - p_mean) ** 2 for p, _ in samples)
    y_spread = math.fsum((y - y_mean) ** 2 for _, y in samples)
    return covariance / math.sqrt(p_spread * y_spread)


def assert_equal(got: dict, wanted: dict) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-5, nan_ok=True), name


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


def sims_bin(value: float, edges: tuple[float, ...]) -> int:
    return sum(1 for edge in edges if value > edge)


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


def test_the_two_binary_tasks_differ():
    metrics = compute_metrics(np.array([0.2, -0.2, 1.0, -1.0]), np.array([0.0, 0.0, 1.0, -2.0]), "mosi")
    assert metrics["acc2_neg_pos"] == 1
    assert metrics["acc2_neg_nonneg"] == 0.75


def test_weighted_f1_weighs_by_the_truth():
    predictions, labels = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, -1.0, -1.0, -1.0])
    forward = compute_metrics(predictions, labels, "mosi")["f1_neg_pos"]
    swapped = compute_metrics(labels, predictions, "mosi")["f1_neg_pos"]
    assert forward == pytest.approx(0.25 * 0.5 + 0.75 * 0.5)
    assert forward == pytest.approx(weighted_f1([(True, True), (True, False), (True, False), (False, False)]))
    predictions[1] = -1.0
    assert compute_metrics(predictions, labels, "mosi")["f1_neg_pos"] != pytest.approx(
        compute_metrics(labels, predictions, "mosi")["f1_neg_pos"]
    )
    assert swapped == pytest.approx(0.5)


def test_mae_and_correlation_of_mosi_are_not_clipped():
    metrics = compute_metrics(np.array([9.0, -1.0, 0.0]), np.array([3.0, -1.0, 0.0]), "mosi")
    assert metrics["mae"] == 2
    assert metrics["corr"] == pytest.approx(correlation([(9, 3), (-1, -1), (0, 0)]))
    assert metrics["acc7"] == 1


def test_what_is_undefined_is_nan():
    constant = compute_metrics(np.zeros(3), np.array([1.0, 2.0, 0.0]), "mosi")
    assert math.isnan(constant["corr"])
    assert not any(math.isnan(value) for name, value in constant.items() if name != "corr")
    neutral = compute_metrics(np.array([1.0, -1.0]), np.zeros(2), "mosi")
    assert math.isnan(neutral["acc2_neg_pos"])
    assert math.isnan(neutral["f1_neg_pos"])
    assert neutral["acc2_neg_nonneg"] == 0.5
    assert math.isnan(compute_metrics(np.ones(1), np.ones(1), "sims")["corr"])


def test_unlabelled_samples_are_skipped_and_shapes_flattened():
    some = compute_metrics(np.array([[1.0], [np.nan], [-2.0]]), np.array([0.5, np.nan, -1.0]), "mosi")
    assert_equal(some, compute_metrics(np.array([1.0, -2.0]), np.array([0.5, -1.0]), "mosi"))
    classes = compute_metrics(np.array([0, 1, 2]), np.array([0, -100, 2]), "accuracy")
    assert classes == {"accuracy": 1.0, "f1_macro": 1.0}


def test_whole_numbers_are_taken_as_they_are():
    assert compute_metrics(np.array([1, 0]), np.array([1, 0]), "sims")["acc5"] == 1


@pytest.mark.parametrize(
    ("predictions", "labels", "suite", "message"),
    [
        ([1.0], [1.0], "mosei", "suite must be 'mosi', 'sims' or 'accuracy', got 'mosei'"),
        ([1.0, 2.0], [1.0], "mosi", "must have the same size, got 2 and 1"),
        ([], [], "mosi", "at least one labelled sample, got none among 0"),
        ([], [], "accuracy", "at least one labelled sample, got none among 0"),
        ([1.0, 2.0], [np.nan, np.nan], "sims", "got none among 2"),
        ([1, 2], [-100, -100], "accuracy", "got none among 2"),
        ([np.nan, np.inf, 1.0], [1.0, 1.0, 1.0], "mosi", "predictions must be finite, got 2 that are not"),
    ],
)
def test_faults(predictions, labels, suite, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(np.array(predictions), np.array(labels), suite)


def test_tables_name_metrics_that_exist():
    for suite, (name, direction) in SELECTION.items():
        metrics = compute_metrics(np.array([0, 1]), np.array([0, 1]), suite)
        assert name in metrics
        assert direction in ("min", "max")
        if suite in MMSA_NAMES:
            assert set(MMSA_NAMES[suite]) == set(metrics)
