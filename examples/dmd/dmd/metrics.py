"""The field's metrics, with names that say what they measure.

Papers mix up two binary tasks: "negative against positive" drops the samples whose label is 0, "negative against
non-negative" keeps all. Both are here, each under its own name.
"""

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_f1_score

SELECTION = {"mosi": ("mae", "min"), "sims": ("mae", "min"), "accuracy": ("accuracy", "max")}

MMSA_NAMES = {
    "mosi": {
        "mae": "MAE",
        "corr": "Corr",
        "acc2_neg_pos": "Non0_acc_2",
        "acc2_neg_nonneg": "Has0_acc_2",
        "f1_neg_pos": "Non0_F1_score",
        "f1_neg_nonneg": "Has0_F1_score",
        "acc3": "Mult_acc_3",
        "acc5": "Mult_acc_5",
        "acc7": "Mult_acc_7",
    },
    "sims": {
        "mae": "MAE",
        "corr": "Corr",
        "acc2_nonpos_pos": "Mult_acc_2",
        "f1_nonpos_pos": "F1_score",
        "acc3": "Mult_acc_3",
        "acc5": "Mult_acc_5",
    },
}


def compute_metrics(predictions: np.ndarray, labels: np.ndarray, suite: str) -> dict[str, float]:
    """Every metric of a suite on one split; unlabelled samples are skipped.

    What is undefined is NaN: `corr` when predictions or labels are constant, `acc2_neg_pos` and `f1_neg_pos` when no
    label differs from 0.

    Args:
        predictions: (N,) numbers, or class numbers for "accuracy"; flattened.
        labels: (N,) numbers with NaN = unlabelled, or class numbers with -100 = unlabelled; flattened.
        suite: "mosi" (labels in [-3, 3]), "sims" (labels in [-1, 1]) or "accuracy".

    Returns:
        Metric name -> value.

    Raises:
        ValueError: an unknown suite, sizes that differ, no labelled sample, or a prediction that is not finite.

    Example:
        >>> compute_metrics(np.array([0, 1, 1]), np.array([0, 1, 0]), "accuracy")["accuracy"]
        0.6666666666666666
    """
    suites = {"mosi": _mosi, "sims": _sims, "accuracy": _classification}
    if suite not in suites:
        raise ValueError(f"suite must be 'mosi', 'sims' or 'accuracy', got {suite!r}")
    predictions, labels = np.asarray(predictions).ravel(), np.asarray(labels).ravel()
    if suite != "accuracy":
        predictions, labels = (x if x.dtype.kind == "f" else x.astype(np.float64) for x in (predictions, labels))
    if len(predictions) != len(labels):
        raise ValueError(f"predictions and labels must have the same size, got {len(predictions)} and {len(labels)}")
    is_labelled = labels >= 0 if suite == "accuracy" else ~np.isnan(labels)
    if not is_labelled.any():
        raise ValueError(f"metrics need at least one labelled sample, got none among {len(labels)}")
    predictions, labels = predictions[is_labelled], labels[is_labelled]
    if not np.isfinite(predictions).all():
        raise ValueError(f"predictions must be finite, got {(~np.isfinite(predictions)).sum()} that are not")
    return suites[suite](predictions, labels)


def _mosi(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    is_signed = labels != 0
    neg_pos = predictions[is_signed] > 0, labels[is_signed] > 0
    neg_nonneg = predictions >= 0, labels >= 0

    def rounded(limit: int) -> tuple[np.ndarray, np.ndarray]:
        return np.round(np.clip(predictions, -limit, limit)), np.round(np.clip(labels, -limit, limit))

    return {
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
        "acc2_neg_pos": _accuracy(*neg_pos),
        "acc2_neg_nonneg": _accuracy(*neg_nonneg),
        "f1_neg_pos": _f1(*neg_pos, "weighted"),
        "f1_neg_nonneg": _f1(*neg_nonneg, "weighted"),
        "acc3": _accuracy(*rounded(1)),
        "acc5": _accuracy(*rounded(2)),
        "acc7": _accuracy(*rounded(3)),
    }


def _sims(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    predictions, labels = np.clip(predictions, -1, 1), np.clip(labels, -1, 1)

    def binned(*edges: float) -> tuple[np.ndarray, np.ndarray]:
        # Right-closed bins. Edges take each array's own precision, so that a float32 label of 0.1 equals the edge 0.1.
        return (
            np.digitize(predictions, np.array(edges, predictions.dtype), right=True),
            np.digitize(labels, np.array(edges, labels.dtype), right=True),
        )

    nonpos_pos = binned(0.0)
    return {
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
        "acc2_nonpos_pos": _accuracy(*nonpos_pos),
        "f1_nonpos_pos": _f1(*nonpos_pos, "weighted"),
        "acc3": _accuracy(*binned(-0.1, 0.1)),
        "acc5": _accuracy(*binned(-0.7, -0.1, 0.1, 0.7)),
    }


def _classification(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"accuracy": _accuracy(predictions, labels), "f1_macro": _f1(predictions, labels, "macro")}


def _mae(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.abs(predictions.astype(np.float64) - labels).mean())


def _correlation(predictions: np.ndarray, labels: np.ndarray) -> float:
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return float("nan")
    return float(np.corrcoef(predictions.astype(np.float64), labels.astype(np.float64))[0, 1])


def _accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float((predictions == labels).mean()) if len(labels) else float("nan")


def _f1(predictions: np.ndarray, labels: np.ndarray, average: str) -> float:
    """F1 over the classes 0, 1, ...: "weighted" by how often the truth has each, or the plain mean ("macro").

    A class that neither predictions nor labels have counts in no mean.
    """
    if len(labels) == 0:
        return float("nan")
    classes = torch.tensor(predictions.astype(np.int64)), torch.tensor(labels.astype(np.int64))
    num_classes = max(2, int(max(values.max() for values in classes)) + 1)
    return float(multiclass_f1_score(*classes, num_classes=num_classes, average=average))  # pyright: ignore[reportArgumentType]
