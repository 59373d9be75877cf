"""Sequences in which some steps are not real: what stands there is zeroed, and counts in no mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gdkit import _check
from gdkit._autocast import for_loss


def real_steps(owner: str, mask: Tensor | None, **tensors: Tensor) -> list[Tensor]:
    """Zero the steps that are not real, so that not even a NaN there reaches a sum or a gradient; for a loss.

    Raises:
        TypeError: if an argument is not a floating-point tensor, or the mask not boolean.
        ValueError: if the tensors differ in shape, or the mask does not fit them.
    """
    argument, tensor = next(iter(tensors.items()))
    shape = _check.check_tensor(owner, argument, tensor).shape
    for argument, tensor in tensors.items():
        _check.check_real(owner, argument, tensor, shape)
    given = [for_loss(tensor) for tensor in tensors.values()]
    if mask is None:
        return given
    _check.check_mask(owner, "mask", mask, shape[:-1])
    return [torch.where(mask[..., None], tensor, 0.0) for tensor in given]


def mean_of_real(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``(..., dim)`` values, zero where not real, over the elements that are; 0 on the graph without any.

    16-bit values are summed in float32: their sum, and even their number, can be above float16's largest.
    """
    if mask is None:
        return values.mean() if values.numel() else values.sum()
    count = (mask.sum() * values.shape[-1]).clamp(min=1)
    total = values.sum(dtype=torch.promote_types(values.dtype, torch.float32))
    return (total / count).to(values.dtype)


def real_lengths(mask: Tensor) -> Tensor:
    """The number of each sequence's last real step, counted from 1, (batch,): what lies behind need not be computed."""
    steps = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return F.pad(steps, (1, 0)).amax(dim=1)  # a column of zeros: of no step the maximum is 0
