"""The field's metrics as torchmetrics collections, with names that say what they measure.

Papers mix up two binary tasks: "negative against positive" drops the samples whose label is 0, "negative against
non-negative" keeps all. Both are here, each under its own name.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

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

NAMES = {suite: tuple(names) for suite, names in MMSA_NAMES.items()} | {"accuracy": ("accuracy", "f1_macro")}


def metric_collection(suite: str, num_classes: int | None = None, **options: Any) -> MetricCollection:
    """A suite as a collection: ``update(predictions, labels)`` any number of times, then ``compute()``.

    Predictions and labels are (batch,) tensors, finite for "mosi" and "sims" (leave unlabelled samples out), class
    numbers for "accuracy" (-100 = unlabelled). What is undefined is NaN. Several processes may each update with their
    own samples: ``compute()`` then joins them.

    Args:
        suite: "mosi" (labels in [-3, 3]), "sims" (labels in [-1, 1]) or "accuracy".
        num_classes: of "accuracy".
        options: of every torchmetrics metric, such as ``sync_on_compute=False``.

    Raises:
        ValueError: an unknown suite, or "accuracy" without ``num_classes``.

    Example:
        >>> metrics = metric_collection("sims")
        >>> metrics.update(torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.5]))
        >>> metrics.compute()["mae"].item(), metrics.compute()["acc2_nonpos_pos"].item()
        (0.75, 0.5)
    """
    # Not at the top: torchmetrics takes seconds to import, and neither a wrong option nor the first step waits for it.
    from torchmetrics import MeanAbsoluteError, MetricCollection

    from .metric_parts import (
        Correlation,
        accuracy,
        applied,
        binned,
        clipped,
        double,
        f1,
        is_nonnegative,
        is_positive,
        is_positive_or_ignored,
        rounded,
    )

    if suite == "accuracy":
        if num_classes is None:
            raise ValueError("metric_collection needs num_classes for 'accuracy', got None")
        metrics = {"accuracy": accuracy(num_classes, options), "f1_macro": f1(num_classes, "macro", options)}
    elif suite == "mosi":
        neg_pos, neg_nonneg = (is_positive, is_positive_or_ignored), (is_nonnegative, is_nonnegative)
        metrics = {
            "mae": applied(MeanAbsoluteError(**options), double),
            "corr": applied(Correlation(**options), double),
            "acc2_neg_pos": applied(accuracy(2, options), *neg_pos),
            "acc2_neg_nonneg": applied(accuracy(2, options), *neg_nonneg),
            "f1_neg_pos": applied(f1(2, "weighted", options), *neg_pos),
            "f1_neg_nonneg": applied(f1(2, "weighted", options), *neg_nonneg),
        }
        for limit in (1, 2, 3):
            name, to_classes = f"acc{2 * limit + 1}", partial(rounded, limit=limit)
            metrics[name] = applied(accuracy(2 * limit + 1, options), to_classes)
    elif suite == "sims":
        metrics = {
            "mae": applied(MeanAbsoluteError(**options), clipped),
            "corr": applied(Correlation(**options), clipped),
            "acc2_nonpos_pos": applied(accuracy(2, options), is_positive),
            "f1_nonpos_pos": applied(f1(2, "weighted", options), is_positive),
            "acc3": applied(accuracy(3, options), partial(binned, edges=(-0.1, 0.1))),
            "acc5": applied(accuracy(5, options), partial(binned, edges=(-0.7, -0.1, 0.1, 0.7))),
        }
    else:
        raise ValueError(f"suite must be 'mosi', 'sims' or 'accuracy', got {suite!r}")
    # Groups would merge metrics whose counts happen to agree after the first batch, such as the two binary tasks.
    return MetricCollection(metrics, compute_groups=False)  # pyright: ignore[reportArgumentType]


def best_epoch(history: Sequence[Mapping[str, Any]], metrics: str) -> Mapping[str, Any]:
    """Of the epochs of history.json the one with the best validation metric; the earlier of equals."""
    metric, mode = SELECTION[metrics]
    sign = 1 if mode == "min" else -1

    def rank(row: Mapping[str, Any]) -> float:
        value = row["valid"][metric]
        return math.inf if math.isnan(value) else sign * value

    return min(history, key=rank)


def compute_metrics(predictions: np.ndarray, labels: np.ndarray, suite: str) -> dict[str, float]:
    """Every metric of a suite on one split; unlabelled samples are skipped.

    What is undefined is NaN: `corr` when predictions or labels are constant, `acc2_neg_pos` and `f1_neg_pos` when no
    label differs from 0. Works on the arrays given alone, also where several processes run.

    Args:
        predictions: (N,) numbers, or class numbers for "accuracy"; flattened.
        labels: (N,) numbers with NaN = unlabelled, or class numbers with -100 = unlabelled; flattened.
        suite: "mosi" (labels in [-3, 3]), "sims" (labels in [-1, 1]) or "accuracy".

    Returns:
        Metric name -> value.

    Raises:
        ValueError: an unknown suite, sizes that differ, no labelled sample, a prediction that is not finite, or a class
            below 0.

    Example:
        >>> compute_metrics(np.array([0, 1, 1]), np.array([0, 1, 0]), "accuracy")["accuracy"]
        0.6666666666666666
    """
    if suite not in NAMES:
        raise ValueError(f"suite must be 'mosi', 'sims' or 'accuracy', got {suite!r}")
    predictions, labels = np.asarray(predictions).ravel(), np.asarray(labels).ravel()
    if len(predictions) != len(labels):
        raise ValueError(f"predictions and labels must have the same size, got {len(predictions)} and {len(labels)}")
    is_labelled = labels >= 0 if suite == "accuracy" else ~np.isnan(labels)
    if not is_labelled.any():
        raise ValueError(f"metrics need at least one labelled sample, got none among {len(labels)}")
    predictions, labels = predictions[is_labelled], labels[is_labelled]
    if not np.isfinite(predictions).all():
        raise ValueError(f"predictions must be finite, got {(~np.isfinite(predictions)).sum()} that are not")
    if suite == "accuracy" and predictions.min() < 0:
        raise ValueError(f"predictions must be class numbers from 0 on, got {predictions.min()}")
    p, y = (_tensor(values, suite) for values in (predictions, labels))
    num_classes = max(2, int(max(p.max(), y.max())) + 1) if suite == "accuracy" else None
    with _lock:
        metrics = _local_collection(suite, num_classes)
        metrics.reset()
        metrics.update(p, y)
        values = metrics.compute()
    return {name: float(values[name]) for name in NAMES[suite]}  # a collection sorts by name


_lock = threading.Lock()


@lru_cache(maxsize=8)
def _local_collection(suite: str, num_classes: int | None) -> MetricCollection:
    """The collection of :func:`compute_metrics`: to build one takes longer than to use it."""
    return metric_collection(suite, num_classes, sync_on_compute=False)


def _tensor(values: np.ndarray, suite: str) -> Tensor:
    """A tensor of classes, or of numbers in their own precision: a float32 label of 0.1 is to equal the edge 0.1."""
    is_known = values.dtype.type in (np.float16, np.float32, np.float64)
    return torch.tensor(values.astype(np.int64 if suite == "accuracy" else values.dtype.type if is_known else float))
