"""The one attention function of the library, and which backend computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gdkit import _check
from gdkit._attention_choice import BACKENDS, choose_backend
from gdkit._autocast import is_autocast_on
from gdkit._chunked_attention import chunked_attention
from gdkit._hidden import Hidden, check_band, check_hidden
from gdkit._sdpa_attention import sdpa_attention
from gdkit.kernels import fused_attention

__all__ = ["BACKENDS", "attention", "attention_with_weights", "packed_attention"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    key_mask: Tensor | None = None,
    band: int | Tensor | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    r"""Scaled dot-product attention (Eq. 10) through fused kernels, which never hold all weights in memory.

    .. math:: Z = \operatorname{softmax}(Q K^\top / \sqrt{d})\, V \tag{10}

    Args:
        query, key, value: the heads; :math:`d` is their width before any padding.
        key_lengths, query_lengths: how many of the first steps are real; a query that is not gives zeros.
        key_mask: True where the key is real, for padding that is not all at the end; together with ``key_lengths``,
            both must hold. What stands at steps that are not real must still be finite.
        band: hide key :math:`j` from query :math:`i` where :math:`j - i` is above it, counted in positions, real
            or not: one number, or one a sample; None hides nothing.
        dropout: chance in [0, 1) of dropping an attention weight, in "triton" rounded to 65,536ths.
        backend: "triton", our kernels for NVIDIA GPUs from compute capability 8.0 on, for heads up to 64 wide; "sdpa",
            PyTorch's kernels (with dropout, that of a CPU holds all weights); "chunked", some heads and queries at a
            time on any device, with few weights in memory, not for ``torch.compile``; "reference", plain products, all
            weights in memory; "auto" chooses by device, dtype, width, dropout and size, and "sdpa" for ``torch.func``.
            Each draws its own dropout from the same seed. "triton" and "chunked" are differentiable once.

    Shape:
        - query: (batch, heads, query, head_dim); key, value: (batch, heads, key, head_dim)
        - key_lengths, query_lengths: (batch,) integers; key_mask: (batch, key) boolean
        - band: an integer, or (batch,) integers

    Returns:
        (batch, heads, query, head_dim); a query that sees no key gives zeros, with zero gradients.

    Raises:
        TypeError: if the heads' dtypes differ or are not floating, a mask is not boolean, or lengths are not integers.
        ValueError: if a shape disagrees, ``dropout`` is out of range, or ``backend`` cannot compute this, with the
            reason.

    Example:
        >>> heads = torch.randn(2, 4, 7, 5)
        >>> attention(heads, heads, heads, key_lengths=torch.tensor([7, 3])).shape
        torch.Size([2, 4, 7, 5])

    References:
        Attention Is All You Need, arXiv 1706.03762.
    """
    _check.check_choice("attention", "backend", backend, BACKENDS)
    _check_heads("attention", query, key, value)
    hidden = check_hidden(query, key, key_lengths, query_lengths, key_mask, band)
    _check.check_fraction("attention", "dropout", dropout)
    return attend(query, key, value, hidden, dropout, backend)


def attend(
    query: Tensor, key: Tensor, value: Tensor, hidden: Hidden, dropout: float = 0.0, backend: str = "auto"
) -> Tensor:
    """:func:`attention` with what it hides already checked, which several layers may share."""
    chosen = choose_backend(backend, query, key, dropout, isinstance(hidden.band, int))
    if chosen == "reference":
        return attend_with_weights(query, key, value, hidden, dropout)[0]
    if key.shape[2] == 0 or query.shape[2] == 0:  # a sum over no key: zeros that are still on the graph
        return query @ key.transpose(-2, -1) @ value
    if chosen == "triton":
        hiding = (hidden.key_lengths, hidden.query_lengths, hidden.key_mask, hidden.band)
        return fused_attention(query, key, value, *hiding, dropout)
    compute = chunked_attention if chosen == "chunked" else sdpa_attention
    result = compute(query, key, value, hidden, dropout)
    sees = hidden.seeing_queries
    return result if sees is None else torch.where(sees[:, None, :, None], result, 0.0)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    key_mask: Tensor | None = None,
    bands: Sequence[int | None] | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """:func:`attention` of several pairs of sequences of different lengths that lie one after the other in time.

    With the backend "triton" all of them are one launch, such as the six directions between three modalities.

    Args:
        query, key, value: the heads of all pairs.
        num_queries, num_keys: of each pair; a pair's queries see its own keys only.
        key_lengths, query_lengths, key_mask, dropout, backend: as in :func:`attention`.
        bands: of each pair.

    Shape:
        - query: (batch, heads, all queries, head_dim); key, value: (batch, heads, all keys, head_dim)
        - key_lengths, query_lengths: (batch, pair) integers; key_mask: (batch, all keys) boolean

    Returns:
        (batch, heads, all queries, head_dim).

    Raises:
        TypeError, ValueError: as :func:`attention`, and if the numbers of steps do not add up.

    Example:
        >>> query, key = torch.randn(2, 4, 7 + 3, 5), torch.randn(2, 4, 2 + 9, 5)
        >>> packed_attention(query, key, key, num_queries=[7, 3], num_keys=[2, 9]).shape
        torch.Size([2, 4, 10, 5])
    """
    _check.check_choice("attention", "backend", backend, BACKENDS)
    _check_heads("packed_attention", query, key, value)
    batch, pairs = query.shape[0], len(num_queries)
    bands = [None] * pairs if bands is None else bands
    for argument, numbers, total in (("num_queries", num_queries, query), ("num_keys", num_keys, key)):
        if len(numbers) != pairs or sum(numbers) != total.shape[2] or min(numbers, default=0) < 0 or pairs == 0:
            raise ValueError(
                f"packed_attention: {argument} must hold a number for each of {pairs} pairs that add up to "
                f"{total.shape[2]} steps, got {list(numbers)}"
            )
    if isinstance(bands, Tensor):
        raise TypeError("packed_attention: bands must be a sequence of integers or None, one a pair, got a Tensor")
    owner = "packed_attention"
    bands = [None if band is None else check_band(owner, f"bands[{pair}]", band) for pair, band in enumerate(bands)]
    if len(bands) != pairs:
        raise ValueError(f"packed_attention: bands must hold one for each of {pairs} pairs, got {list(bands)}")
    for argument, lengths in (("key_lengths", key_lengths), ("query_lengths", query_lengths)):
        if lengths is not None:
            _check.check_whole("packed_attention", argument, lengths, [batch, pairs])
    if key_mask is not None:
        _check.check_mask("packed_attention", "key_mask", key_mask, [batch, key.shape[2]])
    _check.check_fraction("packed_attention", "dropout", dropout)
    if choose_backend(backend, query, key, dropout) == "triton" and min(*query.shape, *key.shape) > 0:
        hiding = (key_lengths, query_lengths, key_mask, bands)
        return fused_attention(query, key, value, *hiding, dropout, num_queries, num_keys)
    results: list[Tensor] = []
    queries, keys, values = (
        torch.split(x, list(numbers), dim=2)
        for x, numbers in ((query, num_queries), (key, num_keys), (value, num_keys))
    )
    key_masks = [None] * pairs if key_mask is None else torch.split(key_mask, list(num_keys), dim=1)
    for pair in range(pairs):
        result = attention(
            queries[pair],
            keys[pair],
            values[pair],
            key_lengths=None if key_lengths is None else key_lengths[:, pair],
            query_lengths=None if query_lengths is None else query_lengths[:, pair],
            key_mask=key_masks[pair],
            band=bands[pair],
            dropout=dropout,
            backend=backend,
        )
        results.append(result)
    return torch.cat(results, dim=2)


def attention_with_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    key_mask: Tensor | None = None,
    band: int | Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """:func:`attention` on the plain path, with its weights as well.

    Args, Shape and Raises are those of :func:`attention`, without ``backend``.

    Returns:
        What :func:`attention` gives, and the weights before dropout, (batch, heads, query, key).

    Example:
        >>> heads = torch.zeros(2, 4, 7, 5)
        >>> _, weights = attention_with_weights(heads, heads, heads, key_lengths=torch.tensor([2, 7]))
        >>> weights[0, 0, 0]
        tensor([0.5000, 0.5000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000])
    """
    _check_heads("attention_with_weights", query, key, value)
    hidden = check_hidden(query, key, key_lengths, query_lengths, key_mask, band)
    _check.check_fraction("attention_with_weights", "dropout", dropout)
    return attend_with_weights(query, key, value, hidden, dropout)


def attend_with_weights(
    query: Tensor, key: Tensor, value: Tensor, hidden: Hidden, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """:func:`attention_with_weights` with what it hides already checked."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (batch, heads, query, key)
    shown = None if hidden.shown_keys is None else hidden.shown_keys[:, None, None, :]
    visible = [mask for mask in (hidden.shown_pairs, shown) if mask is not None]
    for mask in visible:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    for mask in visible:  # a row that sees nothing has the same weight everywhere
        weights = torch.where(mask, weights, 0.0)
    if hidden.query_lengths is not None:
        sees = torch.arange(query.shape[2], device=query.device) < hidden.query_lengths[:, None]
        weights = torch.where(sees[:, None, :, None], weights, 0.0)
    return F.dropout(weights, dropout) @ value, weights


def _check_heads(owner: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    _check.check_shape(owner, "query", query, ["batch", "heads", "query", "head_dim"])
    batch, heads, _, width = query.shape
    if width == 0:
        raise ValueError(f"{owner}: query must have a head_dim above 0, got shape {_check.shape_text(query.shape)}")
    num_keys = _check.check_shape(owner, "key", key, [batch, heads, "key", width]).shape[2]
    _check.check_shape(owner, "value", value, [batch, heads, num_keys, width])
    _check.check_floating(owner, "query", query)
    for argument, tensor in (("key", key), ("value", value)):
        if tensor.dtype != query.dtype and not is_autocast_on(query):  # which makes them alike
            raise TypeError(f"{owner}: {argument} must be {query.dtype} as query is, got {tensor.dtype}")
