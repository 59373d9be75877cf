"""The block that both transformers repeat, and the positions they add."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import _check
from gdkit._hidden import Hidden
from gdkit._layers import check_dtype_of_layer, is_untouched
from gdkit.attention import attend, attend_with_weights


def sinusoidal_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sines, then cosines, of each step's number among the real ones, counted from 1: padding moves nothing."""
    half = x.shape[-1] // 2
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32  # 16 bits cannot count past 256 or 2048
    if mask is None:
        position = torch.arange(1, x.shape[1] + 1, dtype=dtype, device=x.device)[None]
    else:
        position = mask.cumsum(dim=1, dtype=dtype)
    index = torch.arange(half, dtype=dtype, device=x.device)
    frequency = torch.exp(index * (-math.log(10000.0) / max(half - 1, 1)))
    angle = position[..., None] * frequency  # (batch or 1, time, half)
    positions = torch.cat([angle.sin(), angle.cos()], dim=-1).to(x.dtype)
    return positions if x.shape[-1] == 2 * half else F.pad(positions, (0, 1))


def check_sequences(
    owner: str,
    dim: int,
    target: Tensor,
    source: Tensor | None,
    target_mask: Tensor | None,
    source_mask: Tensor | None,
    *,
    first: nn.Module,
    last_step: bool,
) -> None:
    """Refuse sequences that a transformer of this width and first layer cannot take.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what came.
    """
    if source is None and source_mask is not None:
        raise ValueError(f"{owner}: source_mask is given, but source is None")
    batch: str | int = "batch"
    for argument, x, mask in (("target", target, target_mask), ("source", source, source_mask)):
        if x is None:
            continue
        time = "time" if argument == "target" else "source time"
        shape = _check.check_shape(owner, argument, x, [batch, time, dim]).shape
        _check.check_not_empty(owner, argument, _check.check_floating(owner, argument, x))
        batch = shape[0]
        if mask is not None:
            _check.check_mask(owner, f"{argument}_mask", mask, shape[:2])
    if last_step and target.shape[1] == 0:
        raise ValueError(f"{owner}: last_step needs a target of at least 1 step, got none")
    if isinstance(first, CrossmodalLayer) and is_plain(first):
        for argument, x in (("target", target), ("source", target if source is None else source)):
            # The norm itself may be kept in float32 where all else has 16 bits.
            check_dtype_of_layer(owner, argument, x, first.in_projection)


def is_plain(module: nn.Module) -> bool:
    """Whether a part of a transformer is as built: not replaced, such as by an adapter, and untouched."""
    return type(module) in _PARTS and is_untouched(module)


class CrossmodalLayer(nn.Module):
    """One pre-norm block: attention from target to source, then a feed-forward network, each added to its input.

    Target and source share the layer norm, so that self-attention is the case source = target.
    """

    def __init__(
        self, dim: int, num_heads: int, feedforward_dim: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.in_projection = nn.Linear(dim, 3 * dim)
        self.out_projection = nn.Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, feedforward_dim)
        self.contract = nn.Linear(feedforward_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        source: Tensor | None,
        hidden: Hidden,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """The block's result, and the attention weights where asked for; ``hidden`` is what attention hides."""
        normed = self.attention_norm(x)
        if source is None:
            query, key, value = self.in_projection(normed).chunk(3, dim=-1)
        elif not is_plain(self.in_projection):  # called as a whole, as with an adapter or a hook only that is right
            query = self.in_projection(normed)[..., : x.shape[-1]]
            key, value = self.in_projection(self.attention_norm(source)).chunk(3, dim=-1)[1:]
        else:
            sizes = [x.shape[-1], 2 * x.shape[-1]]
            weights, biases = (
                torch.split(part, sizes) for part in (self.in_projection.weight, self.in_projection.bias)
            )
            query = F.linear(normed, weights[0], biases[0])
            key, value = F.linear(self.attention_norm(source), weights[1], biases[1]).chunk(2, dim=-1)
        split = "batch time (heads width) -> batch heads time width"
        query, key, value = (rearrange(part, split, heads=self.num_heads) for part in (query, key, value))
        dropout = self.attention_dropout if self.training else 0.0
        if need_weights:
            attended, weights = attend_with_weights(query, key, value, hidden, dropout)
        else:
            attended, weights = attend(query, key, value, hidden, dropout), None
        merged = rearrange(attended, "batch heads time width -> batch time (heads width)")
        x = x + self.dropout(self.out_projection(merged))
        inner = self.dropout(F.relu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(self.contract(inner)), weights

    def extra_repr(self) -> str:
        """What its parts do not show, for ``print(module)``."""
        return f"num_heads={self.num_heads}, attention_dropout={self.attention_dropout}"


_PARTS = (CrossmodalLayer, nn.Dropout, nn.LayerNorm, nn.Linear, nn.ModuleList)
