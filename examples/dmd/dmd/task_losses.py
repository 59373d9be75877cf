"""What a prediction is charged for, of one head or of many."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error or cross-entropy of each sample, (..., batch), of logits (..., batch, num_outputs) of one head or
    more, and which samples are labelled, (batch,)."""
    if labels.is_floating_point():
        return (logits.squeeze(-1) - labels.nan_to_num()).abs(), ~labels.isnan()
    losses = F.cross_entropy(
        logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(logits.shape[:-1]), labels != -100


@torch.no_grad()
def node_losses(logits: Mapping[str, Tensor], labels: Tensor, present: Tensor) -> Tensor:
    """Loss of each modality's own prediction, (batch, modality); 0 where the sample is unlabelled or lacks it."""
    losses, labelled = sample_losses(torch.stack([*logits.values()]), labels)
    return torch.where(labelled[:, None] & present, losses.T, 0.0)


def task_loss(logits: Tensor, labels: Tensor, real: Tensor | None = None) -> Tensor:
    """Mean absolute error or cross-entropy over the labelled samples that are real; 0 without any.

    Shape:
        - logits: (..., batch, num_outputs), of one head or more; labels: (batch,); real: (..., batch); returns (...).
    """
    losses, labelled = sample_losses(logits, labels)
    counted = labelled if real is None else labelled & real
    return torch.where(counted, losses, 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)
