"""Attention in chunks of heads and queries: few scores in memory at a time, with dropout or without, on any device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from gdkit._autocast import without_autocast
from gdkit._hidden import Hidden
from gdkit._masking import real_lengths
from gdkit._once import differentiable_once

CHUNK = 2**18  # scores that are held at once: 1 MB of float32, which stays in a core's cache
KEPT = 2**19  # scores of a call that are few enough to be held all at once, and kept for backward
BAND_ROWS = 64  # rows at a time under a band: fewer would skip more hidden keys, in smaller products


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, hidden: Hidden, dropout: float) -> Tensor:
    """:func:`gdkit.attention.attention` in chunks; a row that sees nothing is not zeroed.

    Backward draws the dropout again and, unless they are few, computes the weights again. Keys that no row of a chunk
    can see, by the band or, on a CPU, by their sample's length, are left out.
    """
    # Time comes last: a product whose result is as narrow as a head is five times faster when it is that high instead.
    rows = [x.transpose(2, 3).flatten(0, 1) for x in (query, key, value)]  # (batch * heads, head_dim, time)
    with without_autocast(query):  # backward, which computes the weights again, has none
        result = _ChunkedAttention.apply(  # pyright: ignore
            *rows, hidden.shown_keys, hidden.band, query.shape[-1] ** -0.5, dropout
        )
    return cast(Tensor, result).view(*query.shape[:2], query.shape[3], query.shape[2]).transpose(2, 3)


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
        scaled = query * scale
        # From PyTorch's own stream, so that torch.manual_seed fixes it; on the CPU, where reading it waits for nothing.
        seed = torch.randint(2**62, (1,), device="cpu") if dropout > 0 else None
        drop = _dropping(dropout, seed)
        result = torch.empty_like(query)
        keeps = any(ctx.needs_input_grad) and len(query) * query.shape[2] * key.shape[2] <= KEPT
        remembered: list[Tensor] = []
        for heads, rows, keys, bias in _chunks(query, key, shown, band):
            weights = _weights(scaled[heads, :, rows], key[heads, :, keys], bias)
            dropped = drop(weights)
            result[heads, :, rows] = value[heads, :, keys] @ dropped.transpose(1, 2)
            if keeps:
                remembered.append(weights)
        if dropout > 0:
            result /= 1 - dropout
        ctx.save_for_backward(query, key, value, shown, result, *remembered)
        ctx.band, ctx.scale, ctx.dropout, ctx.seed = band, scale, dropout, seed
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of query, key and value."""
        saved = ctx.saved_tensors
        with torch.no_grad(), without_autocast(grad):  # the caller's may be on, and forward had none
            gradients = _ChunkedAttention._gradients(ctx, grad)
        return *differentiable_once("attention with backend 'chunked'", gradients, grad, *saved[:3]), *(None,) * 4

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, shown, result, *weights_kept = ctx.saved_tensors
        query = query * ctx.scale
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        # What the softmax takes from every row: with dropout too, it is the gradient times the result.
        taken = (grad * result).sum(dim=1)[..., None]  # (head, query, 1)
        grad = grad / (1 - ctx.dropout)
        drop = _dropping(ctx.dropout, ctx.seed)
        remembered = iter(weights_kept)
        for heads, rows, keys, bias in _chunks(query, key, shown, ctx.band):
            weights = next(remembered, None)
            if weights is None:
                weights = _weights(query[heads, :, rows], key[heads, :, keys], bias)
            dropped = drop(weights)
            of_value[heads, :, keys] += grad[heads, :, rows] @ dropped
            of_weights = grad[heads, :, rows].transpose(1, 2) @ value[heads, :, keys]
            of_scores = of_weights.mul_(dropped).addcmul_(weights, taken[heads, rows], value=-1)
            of_query[heads, :, rows] = key[heads, :, keys] @ of_scores.transpose(1, 2)
            of_key[heads, :, keys] += query[heads, :, rows] @ of_scores
        return of_query.mul_(ctx.scale), of_key, of_value


class _Chunk(NamedTuple):
    """Heads, rows of queries, the keys that these may see, and what is added to the scores of the last of these."""

    heads: slice
    rows: slice
    keys: slice
    bias: Tensor | None  # (head or 1, query or 1, the last keys)


def _chunks(query: Tensor, key: Tensor, shown: Tensor | None, band: int | Tensor | None) -> Iterator[_Chunk]:
    """At most so many scores at a time, unless a single row has more."""
    num_heads, num_queries, num_keys = len(query), query.shape[2], key.shape[2]
    # The end of each sample's keys; on a GPU, asking would wait.
    ends = [num_keys] if shown is None or shown.is_cuda else cast(list[int], real_lengths(shown).tolist())  # pyright: ignore
    most = KEPT if num_heads * num_queries * num_keys <= KEPT else CHUNK
    size = max(1, min(BAND_ROWS if isinstance(band, int) else num_queries, num_queries, most // num_keys))
    num_together = max(1, most // (size * num_keys))
    per_sample = max(1, num_heads // max(1, len(ends)))
    bias, biased = None, None
    for row in range(0, num_queries, size):
        rows = slice(row, min(row + size, num_queries))
        for head in range(0, num_heads, num_together):
            heads = slice(head, min(head + num_together, num_heads))
            longest = max(ends[head // per_sample : (heads.stop - 1) // per_sample + 1])
            # A row that sees nothing is shown a key, as a softmax over none is NaN; its result is zeroed later.
            keys = slice(0, max(1, min(longest, rows.stop + band) if isinstance(band, int) else longest))
            if shown is not None or isinstance(band, Tensor) or biased != (rows, keys):
                bias, biased = _bias(query, shown, band, heads, rows, keys), (rows, keys)
            yield _Chunk(heads, rows, keys, bias)


def _bias(
    like: Tensor, shown: Tensor | None, band: int | Tensor | None, heads: slice, rows: slice, keys: slice
) -> Tensor | None:
    """What hides keys when it is added to scores; None: nothing is hidden. Filling in by a mask takes longer."""
    # Every row of the chunk sees the keys before the first that the band hides from any.
    first = 0 if shown is not None or not isinstance(band, int) else max(0, min(keys.stop, rows.start + band + 1))
    hidden: list[Tensor] = []
    head = torch.arange(heads.start, heads.stop, device=like.device)
    if shown is not None:
        hidden.append(~shown[head // (len(like) // len(shown)), None, keys])  # (head, 1, key)
    if band is not None and first < keys.stop:
        step = torch.arange(max(rows.stop, keys.stop), device=like.device)
        limit = band if isinstance(band, int) else band[head // (len(like) // len(band)), None, None]
        hidden.append((step[first : keys.stop] - step[rows, None] > limit)[(None,) * isinstance(band, int)])
    if not hidden:
        return None
    # Not minus infinity: a row of nothing else would be NaN.
    return functools.reduce(torch.logical_or, hidden).to(like.dtype) * (torch.finfo(like.dtype).min / 4)


def _weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """The softmax of one chunk's scores, (head, query, key)."""
    scores = query.transpose(1, 2) @ key
    if bias is not None:
        scores[..., scores.shape[2] - bias.shape[2] :] += bias
    return scores.softmax(dim=-1)


def _dropping(dropout: float, seed: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Drops some of one chunk's weights after the other; without a seed, none.

    The draws are the same for the same seed. A byte decides on a weight, in half of the time of two bytes, which are
    taken for chances near 0 and 1; NumPy's generator halves it again. A chance between two numbers of those bytes is
    met by taking the one or the other for a whole chunk.
    """
    if seed is None:
        return lambda weights: weights
    generator = np.random.SFC64(seed.numpy())
    dtype = np.int8 if 0.03 <= dropout <= 0.97 else np.int16
    numbers, a_word = 256 ** np.dtype(dtype).itemsize, 8 // np.dtype(dtype).itemsize

    def drop(weights: Tensor) -> Tensor:
        words = generator.random_raw(1 - (-weights.numel() // a_word))
        level = int(numbers * dropout + words[0] / 2**64)
        if level == numbers:
            return torch.zeros_like(weights)
        drawn = torch.as_tensor(words[1:].view(dtype)[: weights.numel()], device=weights.device).view(weights.shape)
        # As numbers, not booleans: a product with booleans takes three times as long.
        return torch.ge(drawn, level - numbers // 2, out=torch.empty_like(weights)).mul_(weights)

    return drop
