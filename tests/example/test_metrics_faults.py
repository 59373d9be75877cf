"""Metrics by hand, over batches of any size, and where they are undefined or refused."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from dmd.metrics import MMSA_NAMES, NAMES, SELECTION, compute_metrics, metric_collection

from tests.example.plain_metrics import assert_equal, correlation, weighted_f1


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
