"""The crossmodal transformer as one would build it of nn.MultiheadAttention, with the weights of one of gdkit's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import CrossmodalTransformer, MultimodalTransformer

LONGEST = 2048


class StockLayer(nn.Module):
    """A pre-norm block like nn.TransformerEncoderLayer's, except that keys and values come from another sequence."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        keys = self.attention_norm(source)
        attended, _ = self.attention(self.attention_norm(x), keys, keys, attn_mask=mask, need_weights=False)
        x = x + attended
        return x + self.contract(F.relu(self.expand(self.feedforward_norm(x))))


class StockTransformer(nn.Module):
    """A stack of them; positions are a buffer, and the band's mask is built once a forward pass."""

    positions: Tensor

    def __init__(self, dim: int, num_heads: int, num_layers: int, dropout: float, band: int | None) -> None:
        super().__init__()
        self.dim, self.band = dim, band
        half = dim // 2
        frequency = torch.exp(torch.arange(half) * (-math.log(10000.0) / max(half - 1, 1)))
        angle = torch.arange(1, LONGEST + 1)[:, None] * frequency
        table = F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, dim - 2 * half))
        self.register_buffer("positions", table, persistent=False)  # (time, dim)
        self.layers = nn.ModuleList(StockLayer(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        x, keys = (math.sqrt(self.dim) * y + self.positions[: y.shape[1]] for y in (target, source))
        mask = None
        if self.band is not None:  # True hides here
            mask = torch.ones(x.shape[1], keys.shape[1], dtype=torch.bool, device=x.device).triu(self.band + 1)
        for layer in self.layers:
            x = layer(x, keys, mask)
        return self.norm(x)


def stock_copy(ours: CrossmodalTransformer) -> StockTransformer:
    """The same transformer, so that both give the same numbers."""
    dropout = ours.layers[0].attention_dropout
    stock = StockTransformer(ours.dim, ours.num_heads, ours.num_layers, dropout, ours.band)
    own = {
        key.replace("in_projection.", "attention.in_proj_").replace("out_projection", "attention.out_proj"): value
        for key, value in ours.state_dict().items()
    }
    stock.load_state_dict(own)
    return stock.to(next(ours.parameters()).device)


class StockMultimodal(nn.Module):
    """Six of them for three nodes, one after the other."""

    def __init__(self, ours: MultimodalTransformer) -> None:
        super().__init__()
        self.pairs = nn.ModuleDict(
            {
                target: nn.ModuleDict({source: stock_copy(each) for source, each in sources.items()})
                for target, sources in ours.reinforce.items()
            }
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            target: torch.cat([pair(features[target], features[source]) for source, pair in sources.items()], dim=-1)
            for target, sources in self.pairs.items()
        }
