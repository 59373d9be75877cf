"""The layers of the published DMD program that gdkit does not have in this form."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import CrossmodalTransformer


class FixedLength(nn.Module):
    """Pad a modality with zeros to its fixed number of steps; features are taken as they come."""

    def __init__(self, steps: Mapping[str, int]) -> None:
        super().__init__()
        self.steps = dict(steps)

    def fit(self, statistics: object) -> None:
        """Nothing: the published program standardises no feature."""

    def forward(self, name: str, x: Tensor) -> Tensor:
        """(batch, time, input_dim), time at most ``steps``, to (batch, steps, input_dim)."""
        missing = self.steps[name] - x.shape[1]
        if missing < 0:
            raise ValueError(
                f"released: the network reads at most {self.steps[name]} steps of {name}, got {x.shape[1]}"
            )
        return F.pad(x, (0, 0, 0, missing)) if missing else x


class ReleasedTransformer(CrossmodalTransformer):
    """A cross-modal transformer with the published rule for positions, and a dropout of its own for embeddings.

    Args:
        dim, num_heads, num_layers, attention_dropout, band: as in :class:`gdkit.CrossmodalTransformer`.
        embedding_dropout, residual_dropout, zero_positions: as in :class:`dmd.released.ReleasedConfig`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_layers: int,
        *,
        attention_dropout: float,
        embedding_dropout: float,
        residual_dropout: float,
        band: int | None,
        zero_positions: bool,
    ) -> None:
        options = {"dropout": residual_dropout, "attention_dropout": attention_dropout, "band": band}
        super().__init__(dim, num_heads, num_layers, **options)
        self.dropout = nn.Dropout(embedding_dropout)
        self.zero_positions = zero_positions
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):  # as published; elsewhere PyTorch's own draw is kept
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Sinusoids of each step's number, and zeros where the first channel is exactly 0."""
        positions = super().positions(x, mask)
        return torch.where(x[..., :1] != 0, positions, 0.0) if self.zero_positions else positions


class ReleasedHead(nn.Module):
    """A residual block and a linear output, which also shows its inside."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim)
        self.contract = nn.Linear(hidden_dim, dim)
        self.output = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, dim) to logits (batch, 1), rectified hidden layer (batch, hidden_dim) and sum (batch, dim)."""
        hidden = F.relu(self.expand(x))
        summed = x + self.contract(self.dropout(hidden))
        return self.output(summed), hidden, summed
