"""From a sequence to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import MaskedBatchNorm, masked_mean


class Readout(nn.Module):
    """A sequence to one vector over its real steps; zeros where no step is real.

    Args:
        dim: width of a step.
        kind: "mean"; "mean_max": mean and maximum side by side; "attention": a weighted mean, its weights a softmax
            over one learned score a step.
        normalize: normalise each column over the batch's real steps and rectify it, before it is read.
    """

    def __init__(self, dim: int, kind: str, *, normalize: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.width = 2 * dim if kind == "mean_max" else dim
        if kind == "attention":
            self.score = nn.Linear(dim, 1)
        self.norm = MaskedBatchNorm(dim) if normalize else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) to (batch, width)."""
        if self.norm is not None:
            x = F.relu(self.norm(x, mask))
        if self.kind == "attention":
            scores = torch.where(mask, self.score(x)[..., 0], torch.finfo(x.dtype).min)  # (batch, time)
            weights = torch.where(mask, scores.softmax(dim=1), 0.0)
            return (weights[..., None] * torch.where(mask[..., None], x, 0.0)).sum(dim=1)
        mean = masked_mean(x, mask)
        if self.kind == "mean":
            return mean
        highest = torch.where(mask[..., None], x, torch.finfo(x.dtype).min).amax(dim=1)  # (batch, dim)
        return torch.cat([mean, torch.where(mask.any(dim=1, keepdim=True), highest, 0.0)], dim=-1)
