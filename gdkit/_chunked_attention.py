"""Attention in chunks of heads and queries: dropout without ever holding all weights, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gdkit._dropout import LEVELS, gain, levels
from gdkit._hidden import Hidden
from gdkit._masking import real_lengths

CHUNK = 2**20  # scores that are held at once: 4 MB of float32, which stay in a core's cache
BAND_ROWS = 64  # rows at a time under a band: fewer would skip more hidden keys, in smaller products

Chunk = tuple[slice, slice, slice]


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, hidden: Hidden, dropout: float) -> Tensor:
    """:func:`gdkit.attention.attention` in chunks; a row that sees nothing is not zeroed.

    Backward draws the dropout again. Keys that no row of a chunk can see, by the band or, on a CPU, by their sample's
    length, are left out.
    """
    shown = hidden.shown_keys(key.shape[2])
    rows = [x.flatten(0, 1) for x in (query, key, value)]  # the heads of all samples
    with torch.autocast(query.device.type, enabled=False):  # backward, which computes the weights again, has none
        result = _ChunkedAttention.apply(*rows, shown, hidden.band, query.shape[-1] ** -0.5, dropout)  # pyright: ignore
    return cast(Tensor, result).view(query.shape)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shown: Tensor | None,
        band: int | Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Scores, softmax, dropout and sum of one chunk after the other."""
        # From PyTorch's own stream, so that torch.manual_seed fixes it; on the CPU, where reading it waits for nothing.
        seed = int(torch.randint(2**62, (), device="cpu")) if dropout > 0 else 0
        ctx.band, ctx.scale, ctx.dropout, ctx.seed = band, scale, dropout, seed
        result = torch.empty_like(query)
        for number, chunk in enumerate(_chunks(query, key, shown, band)):
            weights = _weights(query, key, shown, band, chunk, scale)
            if dropout > 0:
                weights *= _kept(weights, dropout, seed + number)
            heads, rows, keys = chunk
            result[heads, rows] = weights @ value[heads, keys]
        result *= gain(dropout)
        ctx.save_for_backward(query, key, value, shown, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of query, key and value; the weights are computed again."""
        with torch.autocast(grad.device.type, enabled=False):  # the caller's may be on, and forward had none
            return _ChunkedAttention._gradients(ctx, grad)

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shown, result = ctx.saved_tensors
        grads = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        # What the softmax takes from every row: with dropout too, it is the gradient times the result.
        taken = (grad * result).sum(dim=-1, keepdim=True)
        grad = grad * gain(ctx.dropout)
        for number, chunk in enumerate(_chunks(query, key, shown, ctx.band)):
            heads, rows, keys = chunk
            weights = _weights(query, key, shown, ctx.band, chunk, ctx.scale)
            of_weights = grad[heads, rows] @ value[heads, keys].transpose(1, 2)
            dropped = weights
            if ctx.dropout > 0:
                kept = _kept(weights, ctx.dropout, ctx.seed + number)
                of_weights *= kept
                dropped = kept.mul_(weights)
            grads[2][heads, keys] += dropped.transpose(1, 2) @ grad[heads, rows]
            of_scores = of_weights.sub_(taken[heads, rows]).mul_(weights)
            grads[0][heads, rows] = of_scores @ key[heads, keys] * ctx.scale
            grads[1][heads, keys] += of_scores.transpose(1, 2) @ query[heads, rows] * ctx.scale
        return *grads, None, None, None, None


def _chunks(query: Tensor, key: Tensor, shown: Tensor | None, band: int | Tensor | None) -> Iterator[Chunk]:
    """Heads, rows of queries, and the keys that these may see: at most CHUNK scores, unless a single row has more."""
    num_heads, num_queries, num_keys = len(query), query.shape[1], key.shape[1]
    ends = [num_keys] if shown is None or shown.is_cuda else _ends(shown)  # of each sample; on a GPU, asking would wait
    rows = max(1, min(BAND_ROWS if isinstance(band, int) else num_queries, num_queries, CHUNK // num_keys))
    heads = max(1, CHUNK // (rows * num_keys))
    per_sample = max(1, num_heads // max(1, len(ends)))
    for head in range(0, num_heads, heads):
        stop = min(head + heads, num_heads)
        longest = max(ends[head // per_sample : (stop - 1) // per_sample + 1])
        for row in range(0, num_queries, rows):
            end = min(row + rows, num_queries)
            # A row that sees nothing is shown a key, as a softmax over none is NaN; its result is zeroed later.
            last = max(1, min(longest, end + band) if isinstance(band, int) else longest)
            yield slice(head, stop), slice(row, end), slice(0, last)


def _ends(shown: Tensor) -> list[int]:
    """The number of each sample's last real key, counted from 1; 0 without any."""
    return cast(list[int], real_lengths(shown).tolist())  # pyright: ignore[reportUnknownMemberType]


def _weights(
    query: Tensor, key: Tensor, shown: Tensor | None, band: int | Tensor | None, chunk: Chunk, scale: float
) -> Tensor:
    """The softmax of one chunk's scores, (head, query, key)."""
    heads, rows, keys = chunk
    scores = (query[heads, rows] * scale) @ key[heads, keys].transpose(1, 2)
    lowest = torch.finfo(scores.dtype).min  # not minus infinity: a row of nothing else would be NaN
    head = torch.arange(heads.start, heads.stop, device=query.device)
    if shown is not None:
        scores.masked_fill_(~shown[head // (len(query) // len(shown)), None, keys], lowest)
    if band is not None:
        # Every row of the chunk sees the keys before the first that the band hides from any.
        first = max(0, min(keys.stop, rows.start + band + 1)) if isinstance(band, int) else 0
        step = torch.arange(max(rows.stop, keys.stop), device=query.device)
        limit = band if isinstance(band, int) else band[head // (len(query) // len(band)), None, None]
        hidden = step[first : keys.stop] - step[rows, None] > limit
        scores[..., first:].masked_fill_(hidden, lowest)
    return scores.softmax(dim=-1)


def _kept(weights: Tensor, dropout: float, seed: int) -> Tensor:
    """1 where a chunk's weight is kept, 0 where it is dropped; the same for the same seed."""
    generator = torch.Generator(weights.device).manual_seed(seed)
    drawn = torch.empty(-(-weights.numel() // 4), dtype=torch.int64, device=weights.device)
    drawn = drawn.random_(-(2**63), None, generator=generator).view(torch.int16)[: weights.numel()].view(weights.shape)
    # As numbers, not booleans: a product with booleans takes three times as long.
    return torch.ge(drawn, levels(dropout) - LEVELS // 2, out=torch.empty_like(weights))
