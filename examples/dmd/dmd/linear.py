"""Linear models on averages over time: the figure that a trained network has to beat.

Regression: ridge regression on the mean of each column over the steps of a sample, the penalty chosen by five-fold
cross-validation that keeps the clips of a video together. Classification: logistic regression on each column's mean and
standard deviation, penalty 1. All is standardised and fitted on the train split.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from .data import Recordings
from .data.recordings import UNLABELLED

PENALTIES = np.logspace(-1, 5, 25)
NUM_FOLDS = 5


def linear_predictions(recordings: Recordings, *, with_valid: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """Predictions for valid and test by a linear model on each modality alone, and on all.

    Args:
        recordings: the data; unlabelled samples train nothing.
        with_valid: fit on train and valid together.

    Returns:
        modality or "all" -> split -> (N,) numbers or class numbers.
    """
    is_classification = recordings.task == "classification"
    fitted = ["train", "valid"] if with_valid else ["train"]
    labels = np.concatenate([recordings.splits[split].labels for split in fitted])
    ids = [sample for split in fitted for sample in recordings.splits[split].ids]
    is_labelled = labels != UNLABELLED if is_classification else ~np.isnan(labels)
    labelled_ids = [sample for sample, has_label in zip(ids, is_labelled, strict=True) if has_label]
    columns: dict[str, list[np.ndarray]] = {}  # modality -> the fitted samples, valid, test
    for name in recordings.names:
        features = {
            split: time_features(part.inputs[name], is_classification) for split, part in recordings.splits.items()
        }
        train = np.concatenate([features[split] for split in fitted])
        columns[name] = [standardized(train, other) for other in (train, features["valid"], features["test"])]
    columns["all"] = [np.concatenate(parts, axis=1) for parts in zip(*columns.values(), strict=True)]
    predictions: dict[str, dict[str, np.ndarray]] = {}
    for name, (train, valid, test) in columns.items():
        model = _fit(train[is_labelled], labels[is_labelled], labelled_ids, is_classification)
        predictions[name] = {split: np.asarray(model.predict(x)) for split, x in (("valid", valid), ("test", test))}
    return predictions


def _fit(columns: np.ndarray, labels: np.ndarray, ids: list[str], is_classification: bool):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeCV

    model = LogisticRegression(max_iter=5000) if is_classification else RidgeCV(PENALTIES, cv=folds(ids))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return model.fit(columns, labels)


def time_features(sequences: Sequence[np.ndarray], with_spread: bool) -> np.ndarray:
    """Mean (and standard deviation) of every column over time: (N, columns); NaN where the modality is absent."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the mean of no steps is NaN, as wanted
        means = np.stack([steps.mean(axis=0, dtype=np.float64) for steps in sequences])
        if not with_spread:
            return means
        spreads = np.stack([steps.std(axis=0, dtype=np.float64) for steps in sequences])
    return np.concatenate([means, spreads], axis=1)


def standardized(train: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The second with the statistics of the first; what is absent becomes the mean, 0."""
    mean, std = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    std[std <= 1e-7 * np.maximum(np.abs(mean), np.median(std))] = 1.0
    return np.nan_to_num((other - mean) / std)


def folds(ids: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five folds; clips `video$_$clip` of one video share a speaker and stay in one fold, where there are enough."""
    from sklearn.model_selection import GroupKFold, KFold

    videos = [sample_id.split("$_$")[0] for sample_id in ids]
    if len(set(videos)) >= NUM_FOLDS:
        return list(GroupKFold(NUM_FOLDS).split(videos, groups=videos))
    return list(KFold(NUM_FOLDS, shuffle=True, random_state=0).split(videos))
