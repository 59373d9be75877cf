"""Synthetic recordings: what is planted in them is there."""

import numpy as np
import pytest
from dmd.data import Split, load, synthetic


def means(split: Split, name: str) -> np.ndarray:
    return np.stack([steps.mean(axis=0) if len(steps) else np.zeros(steps.shape[1]) for steps in split.inputs[name]])


def test_the_same_seed_draws_the_same_recordings():
    assert load("synthetic", seed=3).sha256 == load("synthetic", seed=3).sha256
    assert load("synthetic", seed=3).sha256 != load("synthetic", seed=4).sha256


def test_synthetic_defaults_are_small_ragged_and_sometimes_absent():
    recordings = load("synthetic")
    assert recordings.names == ("language", "vision", "acoustic")
    assert len(set(recordings.dims.values())) == 3
    for arrays in recordings.splits["train"].inputs.values():
        lengths = {len(steps) for steps in arrays}
        assert 0 in lengths
        assert len(lengths) > 3


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_the_correlation_with_the_label(seed):
    reliability = {"language": 0.9, "vision": 0.6, "acoustic": 0.0}
    recordings = synthetic((2000, 2, 2), reliability=reliability, absent=0.0, seed=seed)
    train = recordings.splits["train"]
    for name, wanted in reliability.items():
        columns = np.c_[means(train, name), np.ones(2000)]
        fitted = columns @ np.linalg.lstsq(columns, train.labels, rcond=None)[0]
        assert abs(np.corrcoef(fitted, train.labels)[0, 1] - wanted) < 0.1


def test_private_signal_is_in_one_modality_only():
    train = synthetic((2000, 2, 2), reliability={"left": 0.5, "right": 0.5}, absent=0.0).splits["train"]
    wave = np.sin(2 * np.pi * np.arange(16) / 8)
    styles = {}
    for name, arrays in train.inputs.items():
        projected = np.stack([wave[: len(steps)] @ (steps - steps.mean(axis=0)) / len(steps) for steps in arrays])
        values, vectors = np.linalg.eigh(np.cov(projected.T))
        assert values[-1] > 3 * values[-2]  # one direction carries the style
        styles[name] = projected @ vectors[:, -1]
    assert abs(np.corrcoef(styles["left"], styles["right"])[0, 1]) < 0.1
    assert abs(np.corrcoef(styles["left"], train.labels)[0, 1]) < 0.1


def test_synthetic_classes_absence_and_missing_labels():
    recordings = synthetic((300, 30, 30), task="classification", absent=0.9, unlabelled=0.5)
    assert (recordings.metrics, recordings.classes) == ("accuracy", ("negative", "neutral", "positive"))
    labels = recordings.splits["train"].labels
    assert 100 < (labels == -100).sum() < 200
    assert np.bincount(labels[labels >= 0]).min() > 30
    assert (recordings.splits["test"].labels >= 0).all()
    present = np.stack([[len(steps) > 0 for steps in arrays] for arrays in recordings.splits["train"].inputs.values()])
    assert present.any(axis=0).all()
    assert 0.3 < present.mean() < 0.5
    assert np.isnan(synthetic(unlabelled=1.0).splits["train"].labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reliability": {"a": 1.5}}, r"a must lie in \[0, 1\], got 1.5"),
        ({"reliability": {}}, "at least one modality"),
        ({"absent": -0.1}, r"absent must lie in \[0, 1\]"),
        ({"dims": {"vision": 1}}, "'vision' needs at least 2 columns"),
        ({"task": "other"}, "task must be"),
    ],
)
def test_synthetic_faults(options, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**options)
