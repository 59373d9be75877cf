"""The wide half of a network: linear maps of each modality's statistics, added to what the deep half predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .layers import MaskedBatchNorm
from .signal_statistics import statistics_width


def wide_layers(
    kind: str, input_dims: Mapping[str, int], roles: Sequence[str], num_outputs: int
) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """A linear map a role and modality, and a normalisation a modality, of statistics of this kind."""
    widths = {name: statistics_width(kind, dim) for name, dim in input_dims.items()}
    norms = nn.ModuleDict({name: MaskedBatchNorm(width) for name, width in widths.items()})
    maps = nn.ModuleDict()
    for role in roles:
        maps[role] = nn.ModuleDict({name: nn.Linear(width, num_outputs) for name, width in widths.items()})
    return maps, norms


def wide_predictions(
    maps: Mapping[str, nn.Module] | nn.ModuleDict,
    norms: nn.ModuleDict,
    dropout: nn.Module,
    statistics: Mapping[str, Tensor],
    present: Tensor,
) -> dict[str, dict[str, Tensor]]:
    """What is added, role -> modality -> (batch, num_outputs); an absent modality adds nothing.

    Args:
        maps, norms: of :func:`wide_layers`; of the maps, those of some roles will do.
        dropout: of the normalised statistics.
        statistics: modality -> (batch, statistics).
        present: (batch, modality), in the order of ``statistics``.
    """
    normed = {}
    for i, (name, values) in enumerate(statistics.items()):
        x = norms[name](values[:, None], present[:, i, None])[:, 0]  # (batch, statistics)
        normed[name] = dropout(x)
    return {
        role: {
            name: torch.where(present[:, i, None], layers[name](normed[name]), 0.0) for i, name in enumerate(statistics)
        }
        for role, layers in maps.items()
    }
