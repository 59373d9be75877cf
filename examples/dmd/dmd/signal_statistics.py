"""What can be said of a signal without learning anything: its moments, and how strongly it swings how fast."""

from __future__ import annotations

import torch
from torch import Tensor

from .layers import masked_mean

NUM_FREQUENCIES = 8  # swings in the whole sample: 1, 2, ... of them
SMALLEST = 1e-3  # below this, a deviation or an amplitude in standardised units is none


def statistics_width(kind: str, dim: int) -> int:
    """Width of :func:`masked_statistics`."""
    return 2 * dim if kind == "moments" else (2 + NUM_FREQUENCIES) * dim + dim * (dim - 1) // 2


def masked_statistics(x: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Statistics of every column over the real steps; zeros where no step is real.

    "moments": mean and standard deviation. "signal": mean, logarithm of the deviation, correlation of every two
    columns, and logarithms of the amplitudes of the slowest oscillations. Padding behind them changes nothing.

    Shape:
        - x: (batch, time, dim); mask: (batch, time), real steps first; returns (batch, statistics).
    """
    mean = masked_mean(x, mask)
    centred = torch.where(mask[..., None], x - mean[:, None], 0.0)  # (batch, time, dim)
    variance = masked_mean(centred.square(), mask)
    deviation = torch.where(variance > 0, variance.clamp(min=SMALLEST**4).sqrt(), 0.0)  # (batch, dim)
    if kind == "moments":
        return torch.cat([mean, deviation], dim=-1)
    length = mask.sum(dim=1).clamp(min=1)  # (batch,)
    units = centred / (deviation + SMALLEST)[:, None]
    row, column = torch.triu_indices(x.shape[2], x.shape[2], offset=1, device=x.device)
    correlation = (units.transpose(1, 2) @ units / length[:, None, None])[:, row, column]  # (batch, pair)
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    step = torch.arange(x.shape[1], device=x.device, dtype=exact)
    swings = torch.arange(1, NUM_FREQUENCIES + 1, device=x.device)
    angle = 2 * torch.pi * step[:, None] * swings / length[:, None, None]  # (batch, time, frequency)
    parts = [torch.einsum("btd,btf->bdf", centred, wave) for wave in (angle.cos(), angle.sin())]
    power = sum(part.square() for part in parts) / length[:, None, None] ** 2  # (batch, dim, frequency)
    amplitude = 0.5 * (power + SMALLEST**2).log()
    found = torch.cat([mean, (deviation + SMALLEST).log(), correlation, amplitude.flatten(1)], dim=-1)
    return torch.where(mask.any(dim=1, keepdim=True), found, 0.0)
