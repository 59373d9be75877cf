"""The single metrics of the suites, and how numbers become the classes that they compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, PearsonCorrCoef
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.wrappers import LambdaInputTransformer

IGNORED = -100  # the class of samples that count in no metric


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


def accuracy(num_classes: int, options: dict[str, Any]) -> Metric:
    """Share of the samples whose class is right."""
    metric = _Accuracy(num_classes, average="micro", ignore_index=IGNORED, validate_args=False, **options)
    return metric.set_dtype(torch.float64)


def f1(num_classes: int, average: str, options: dict[str, Any]) -> Metric:
    """F1 over the classes: "weighted" by how often the truth has each, or the plain mean ("macro").

    A class that neither predictions nor labels have counts in no mean.
    """
    metric = _F1(num_classes, average=average, ignore_index=IGNORED, validate_args=False, **options)  # pyright: ignore
    return metric.set_dtype(torch.float64)


def applied(
    metric: Metric, of_predictions: Callable[[Tensor], Tensor], of_labels: Callable[[Tensor], Tensor] | None = None
) -> Metric:
    """A metric of functions of the predictions and labels; of the same one, where there is only one."""
    return LambdaInputTransformer(metric.set_dtype(torch.float64), of_predictions, of_labels or of_predictions)


def double(x: Tensor) -> Tensor:
    return x.double()


def clipped(x: Tensor) -> Tensor:
    return x.clamp(-1, 1).double()


def is_positive(x: Tensor) -> Tensor:
    return (x > 0).long()


def is_nonnegative(x: Tensor) -> Tensor:
    return (x >= 0).long()


def is_positive_or_ignored(x: Tensor) -> Tensor:
    return torch.where(x == 0, IGNORED, (x > 0).long())


def rounded(x: Tensor, limit: int) -> Tensor:
    """Classes 0 to 2 * limit; a half goes to the even number."""
    return x.clamp(-limit, limit).round().long() + limit


def binned(x: Tensor, edges: tuple[float, ...]) -> Tensor:
    """Bins closed on the right. Edges take the precision of x, so that a float32 0.1 equals the edge 0.1."""
    return torch.bucketize(x.contiguous(), torch.tensor(edges, dtype=x.dtype, device=x.device))
