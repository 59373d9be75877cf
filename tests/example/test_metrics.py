"""Every metric against a plain loop and the libraries of the field, and what happens where it is undefined."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from dmd.metrics import MMSA_NAMES, NAMES, SELECTION, compute_metrics, metric_collection
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

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


def assert_close(got: dict, wanted: dict) -> None:
    """Equal in float64."""
    assert list(got) == list(NAMES["mosi" if "acc7" in got else "sims" if "acc5" in got else "accuracy"])
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


def test_by_hand():
    p, y = np.array([2.5, 0.5, -0.5, -4.0, 0.0]), np.array([3.0, 0.0, -1.0, -3.0, 1.0])
    got = compute_metrics(p, y, "mosi")
    assert got["mae"] == (0.5 + 0.5 + 0.5 + 1.0 + 1.0) / 5
    assert got["acc7"] == 2 / 5  # halves go to the even number: 2.5 to 2, 0.5 to 0, -0.5 to 0; -4 is cut at -3
    assert got["acc5"] == 3 / 5  # 3 is cut at 2
    assert got["acc3"] == 3 / 5
    assert got["acc2_neg_pos"] == 3 / 4  # 0.0 is not above 0
    assert got["acc2_neg_nonneg"] == 1
    assert got["f1_neg_pos"] == pytest.approx(0.5 * (2 * 2 / (2 * 2 + 1)) + 0.5 * (2 * 1 / (2 * 1 + 1)))
    got = compute_metrics(np.array([0.1, 0.0, -0.1, 5.0]), np.array([0.05, 0.2, -0.2, 1.0]), "sims")
    assert got["mae"] == pytest.approx((0.05 + 0.2 + 0.1 + 0.0) / 4)  # 5 is cut at 1
    assert got["acc2_nonpos_pos"] == 3 / 4
    assert got["acc3"] == 3 / 4
    assert got["acc5"] == 3 / 4


# As collections


@pytest.mark.parametrize("suite", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_of_any_size_give_the_same(suite, dtype):
    generator = torch.Generator().manual_seed(0)
    p, y = (torch.randn(50, generator=generator, dtype=dtype) for _ in range(2))
    if suite == "accuracy":
        p, y = (x.abs().mul(2).clamp(max=4).long() for x in (p, y))
    metrics = metric_collection(suite, num_classes=5 if suite == "accuracy" else None)
    for again in (metrics, pickle.loads(pickle.dumps(metrics)), copy.deepcopy(metrics)):
        for sizes in ([50], [1, 49], [0, 3, 0, 40, 7]):
            again.reset()
            for part, truth in zip(p.split(sizes), y.split(sizes)):
                again.update(part, truth)
            got = {name: float(value) for name, value in again.compute().items()}
            assert got == pytest.approx(compute_metrics(p.numpy(), y.numpy(), suite), abs=1e-12)


def test_metrics_that_agree_at_first_stay_apart():
    metrics = metric_collection("mosi")
    metrics.update(torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    metrics.update(torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 3.0]))
    got = metrics.compute()
    assert (got["acc2_neg_pos"], got["acc2_neg_nonneg"], got["acc3"], got["acc7"]) == (1, 0.75, 0.75, 0.5)


def test_a_collection_skips_unlabelled_classes():
    metrics = metric_collection("accuracy", 3)
    metrics.update(torch.tensor([0, 1, 2]), torch.tensor([0, -100, 1]))
    assert metrics.compute()["accuracy"] == 0.5


def test_faults_of_a_collection():
    with pytest.raises(ValueError, match="suite must be 'mosi', 'sims' or 'accuracy', got 'mosei'"):
        metric_collection("mosei")
    with pytest.raises(ValueError, match="needs num_classes for 'accuracy', got None"):
        metric_collection("accuracy")


# Edges


@pytest.mark.parametrize("value", [0.1, 1e-30, -1e30, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rounding_of_a_mean_is_no_spread(value, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = compute_metrics(np.full(7, value, dtype), np.arange(7, dtype=dtype) / 4, "mosi")
    assert math.isnan(got["corr"])


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
        ([0, -1], [0, 1], "accuracy", "predictions must be class numbers from 0 on, got -1"),
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
        assert tuple(metrics) == NAMES[suite]
        if suite in MMSA_NAMES:
            assert set(MMSA_NAMES[suite]) == set(metrics)
