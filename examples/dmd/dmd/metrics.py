"""The field's metrics as torchmetrics collections, with names that say what they measure.

Papers mix up two binary tasks: "negative against positive" drops the samples whose label is 0, "negative against
non-negative" keeps all. Both are here, each under its own name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, Metric, MetricCollection, PearsonCorrCoef
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.wrappers import LambdaInputTransformer

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
IGNORED = -100  # the class of samples that count in no metric


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
    if suite == "accuracy":
        if num_classes is None:
            raise ValueError("metric_collection needs num_classes for 'accuracy', got None")
        metrics = {"accuracy": _accuracy(num_classes, options), "f1_macro": _f1(num_classes, "macro", options)}
    elif suite == "mosi":
        neg_pos, neg_nonneg = (_is_positive, _is_positive_or_ignored), (_is_nonnegative, _is_nonnegative)
        metrics = {
            "mae": _of(MeanAbsoluteError(**options), _double),
            "corr": _of(Correlation(**options), _double),
            "acc2_neg_pos": _of(_accuracy(2, options), *neg_pos),
            "acc2_neg_nonneg": _of(_accuracy(2, options), *neg_nonneg),
            "f1_neg_pos": _of(_f1(2, "weighted", options), *neg_pos),
            "f1_neg_nonneg": _of(_f1(2, "weighted", options), *neg_nonneg),
        }
        for limit in (1, 2, 3):
            accuracy = _accuracy(2 * limit + 1, options)
            metrics[f"acc{2 * limit + 1}"] = _of(accuracy, partial(_rounded, limit=limit))
    elif suite == "sims":
        metrics = {
            "mae": _of(MeanAbsoluteError(**options), _clipped),
            "corr": _of(Correlation(**options), _clipped),
            "acc2_nonpos_pos": _of(_accuracy(2, options), _is_positive),
            "f1_nonpos_pos": _of(_f1(2, "weighted", options), _is_positive),
            "acc3": _of(_accuracy(3, options), partial(_binned, edges=(-0.1, 0.1))),
            "acc5": _of(_accuracy(5, options), partial(_binned, edges=(-0.7, -0.1, 0.1, 0.7))),
        }
    else:
        raise ValueError(f"suite must be 'mosi', 'sims' or 'accuracy', got {suite!r}")
    # Groups would merge metrics whose counts happen to agree after the first batch, such as the two binary tasks.
    return MetricCollection(metrics, compute_groups=False)  # pyright: ignore[reportArgumentType]


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


class Correlation(PearsonCorrCoef):
    """Pearson's correlation, NaN where predictions or labels are constant.

    The library takes the rounding of a mean of constants for a spread, and cannot join a process without samples.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("lowest", torch.full((2,), torch.inf), dist_reduce_fx="min")
        self.add_state("highest", torch.full((2,), -torch.inf), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take a batch, (batch,) each."""
        if len(preds):
            super().update(preds, target)
            lowest, highest = torch.stack([preds, target]).aminmax(dim=1)
            self.lowest, self.highest = torch.minimum(self.lowest, lowest), torch.maximum(self.highest, highest)

    def compute(self) -> Tensor:
        """The correlation of all batches, a scalar."""
        is_constant = (self.lowest >= self.highest).any()
        return torch.full((), torch.nan, device=self.lowest.device) if is_constant else super().compute()


class _OfAnyNumber:
    """Takes batches without a sample, and is NaN over no sample at all."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        if len(preds):
            super().update(preds, target)  # pyright: ignore[reportAttributeAccessIssue]

    def compute(self) -> Tensor:
        counted = (self.tp + self.fn).sum()  # pyright: ignore[reportAttributeAccessIssue]
        value = super().compute()  # pyright: ignore[reportAttributeAccessIssue]
        return torch.where(counted > 0, value, torch.nan)


class _Accuracy(_OfAnyNumber, MulticlassAccuracy):
    pass


class _F1(_OfAnyNumber, MulticlassF1Score):
    pass


def _accuracy(num_classes: int, options: dict[str, Any]) -> Metric:
    """Share of the samples whose class is right."""
    metric = _Accuracy(num_classes, average="micro", ignore_index=IGNORED, validate_args=False, **options)
    return metric.set_dtype(torch.float64)


def _f1(num_classes: int, average: str, options: dict[str, Any]) -> Metric:
    """F1 over the classes: "weighted" by how often the truth has each, or the plain mean ("macro").

    A class that neither predictions nor labels have counts in no mean.
    """
    metric = _F1(num_classes, average=average, ignore_index=IGNORED, validate_args=False, **options)  # pyright: ignore
    return metric.set_dtype(torch.float64)


def _of(
    metric: Metric, of_predictions: Callable[[Tensor], Tensor], of_labels: Callable[[Tensor], Tensor] | None = None
) -> Metric:
    """A metric of functions of the predictions and labels; of the same one, where there is only one."""
    return LambdaInputTransformer(metric.set_dtype(torch.float64), of_predictions, of_labels or of_predictions)


def _double(x: Tensor) -> Tensor:
    return x.double()


def _clipped(x: Tensor) -> Tensor:
    return x.clamp(-1, 1).double()


def _is_positive(x: Tensor) -> Tensor:
    return (x > 0).long()


def _is_nonnegative(x: Tensor) -> Tensor:
    return (x >= 0).long()


def _is_positive_or_ignored(x: Tensor) -> Tensor:
    return torch.where(x == 0, IGNORED, (x > 0).long())


def _rounded(x: Tensor, limit: int) -> Tensor:
    """Classes 0 to 2 * limit; a half goes to the even number."""
    return x.clamp(-limit, limit).round().long() + limit


def _binned(x: Tensor, edges: tuple[float, ...]) -> Tensor:
    """Bins closed on the right. Edges take the precision of x, so that a float32 0.1 equals the edge 0.1."""
    return torch.bucketize(x.contiguous(), torch.tensor(edges, dtype=x.dtype, device=x.device))
