"""Random changes of whole samples in training: other speeds, missing modalities."""

from __future__ import annotations

import torch
from torch import Tensor


def stretch(x: Tensor, mask: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample slower (above 1) or faster by its factor, by linear interpolation between its steps.

    The number of steps of the batch stays, so the longest samples become no longer.

    Args:
        x: (batch, time, dim), real steps first.
        mask: (batch, time).
        factor: (batch,), above 0.

    Returns:
        The changed sequences and their masks, of the same shapes; a sample without a real step stays so.
    """
    if x.shape[1] == 0:
        return x, mask
    length = mask.sum(dim=1)  # (batch,)
    stretched = (length * factor).round().long().clamp(min=1, max=x.shape[1])
    stretched = torch.where(length > 0, stretched, 0)
    last = (length - 1).clamp(min=0)[:, None]  # (batch, 1)
    step = torch.arange(x.shape[1], device=x.device)
    place = step * (last / (stretched - 1).clamp(min=1)[:, None])  # (batch, time), where each new step was
    before = place.floor().long().minimum(last)
    after = (before + 1).minimum(last)
    share = (place - before).clamp(0, 1)[..., None].to(x.dtype)

    def at(index: Tensor) -> Tensor:
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))

    real = step < stretched[:, None]
    return torch.where(real[..., None], at(before) * (1 - share) + at(after) * share, 0.0), real


def drop_modalities(present: Tensor, chances: Tensor) -> Tensor:
    """Hide each present modality with its chance, (batch, modality) and (modality,) to (batch, modality).

    A sample that would lose all keeps the one with the highest draw, so that none is favoured.
    """
    draws = torch.where(present, torch.rand(present.shape, device=present.device), -1.0)
    kept = draws >= chances
    highest = draws == draws.amax(dim=1, keepdim=True)
    return present & (kept | (highest & ~kept.any(dim=1, keepdim=True)))
