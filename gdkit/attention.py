"""The one attention function of the library, and which backend computes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gdkit import _check
from gdkit._chunked_attention import chunked_attention

BACKENDS = ("auto", "sdpa", "chunked", "reference")

# With fewer scores PyTorch's kernel is faster although it holds all of them (batch 16, 4 heads, 50 by 50 steps, two of
# the widths 5 to 64: equal; ten heads: 1.3 times slower; 400 by 400 steps: 2.8 times).
_CHUNKED_FROM = 2**17
# The CPU kernel is about three times slower at a head width of 5 than at the same head padded with zeros to 16; CUDA's
# memory-efficient kernel needs multiples of 8. Zeros change neither a score nor a sum.
_WIDTH_MULTIPLE = {"cpu": 16, "cuda": 8}


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    band: int | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    r"""Scaled dot-product attention (Eq. 10) through fused kernels, which never hold all weights in memory.

    .. math:: Z = \operatorname{softmax}(Q K^\top / \sqrt{d})\, V \tag{10}

    Args:
        query, key, value: the heads; :math:`d` is their width before any padding.
        key_mask: True where the key is real; what stands elsewhere must still be finite.
        query_mask: True where the query is real; other rows of the result are zero.
        band: hide key :math:`j` from query :math:`i` where :math:`j - i` is above it, counted in positions, real
            or not; None hides nothing.
        dropout: chance in [0, 1) of dropping an attention weight; "chunked" rounds it to 1 in 65,536.
        backend: "sdpa", PyTorch's kernels (with dropout, that of a CPU holds all weights); "chunked", any device:
            dropout with few weights in memory at a time, differentiable once, not for ``torch.compile``; "reference",
            plain products, all weights in memory; "auto", "chunked" for dropout of many weights on a CPU, in 32 or 64
            bits and outside ``torch.compile``, else "sdpa". Each draws its own dropout from the same seed.

    Shape:
        - query: (batch, heads, query, head_dim); key, value: (batch, heads, key, head_dim)
        - key_mask: (batch, key); query_mask: (batch, query)

    Returns:
        (batch, heads, query, head_dim); a query that sees no key gives zeros, with zero gradients.

    Raises:
        TypeError: if a mask is not boolean.
        ValueError: if a shape disagrees, ``dropout`` is out of range, or there is no such ``backend``.

    Example:
        >>> heads = torch.randn(2, 4, 7, 5)
        >>> attention(heads, heads, heads, key_mask=torch.ones(2, 7, dtype=torch.bool)).shape
        torch.Size([2, 4, 7, 5])

    References:
        Attention Is All You Need, arXiv 1706.03762.
    """
    _check.check_choice("attention", "backend", backend, BACKENDS)
    if backend == "reference":
        masks = {"key_mask": key_mask, "query_mask": query_mask}
        return attention_with_weights(query, key, value, **masks, band=band, dropout=dropout)[0]
    visible, any_visible = _visible(query, key, value, key_mask, query_mask, band)
    _check.check_fraction("attention", "dropout", dropout)
    if key.shape[-2] == 0:  # a sum over no key: zeros that are still on the graph
        return query @ key.transpose(-2, -1) @ value
    if _resolve(backend, query, key, dropout) == "chunked":
        result = _chunked(query, key, value, visible, band, dropout)
    else:
        result = _sdpa(query, key, value, visible, dropout)
    return result if any_visible is None else torch.where(any_visible, result, 0.0)


def _resolve(backend: str, query: Tensor, key: Tensor, dropout: float) -> str:
    """The backend that "auto" stands for."""
    if backend != "auto":
        return backend
    batch, heads, num_queries, _ = query.shape
    is_large = batch * heads * num_queries * key.shape[2] >= _CHUNKED_FROM
    is_exact = query.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(query.device.type)
    on_cpu = query.device.type == "cpu" and not torch.compiler.is_compiling()
    return "chunked" if dropout > 0 and on_cpu and is_exact and is_large else "sdpa"


def _sdpa(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    width = query.shape[-1]
    missing = -width % _WIDTH_MULTIPLE.get(query.device.type, 1)
    heads = [F.pad(x, (0, missing)) if missing else x for x in (query, key, value)]
    return F.scaled_dot_product_attention(
        heads[0], heads[1], heads[2], attn_mask=visible, dropout_p=dropout, scale=width**-0.5
    )[..., :width]


def _chunked(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, band: int | None, dropout: float
) -> Tensor:
    if visible is not None:
        visible = visible[None] if visible.dim() == 2 else visible[:, 0]  # the same for all heads
    rows = [x.flatten(0, 1) for x in (query, key, value)]  # the heads of all samples
    result = chunked_attention(rows[0], rows[1], rows[2], visible, band, query.shape[-1] ** -0.5, dropout)
    return result.view(query.shape)


def attention_with_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    band: int | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """:func:`attention` on the plain path, with its weights (batch, heads, query, key) before dropout as well."""
    visible, any_visible = _visible(query, key, value, key_mask, query_mask, band)
    _check.check_fraction("attention", "dropout", dropout)
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (batch, heads, query, key)
    if visible is not None:
        scores = torch.where(visible, scores, -torch.inf)
    weights = scores.softmax(dim=-1)
    if any_visible is not None:
        weights = torch.where(any_visible, weights, 0.0)
    return F.dropout(weights, dropout) @ value, weights


def _visible(
    query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, query_mask: Tensor | None, band: int | None
) -> tuple[Tensor | None, Tensor | None]:
    """Which keys each query sees, and which queries see any; both broadcast over (batch, heads, query, key).

    A query that sees nothing is shown everything, and its result is zeroed afterwards: a softmax over nothing is NaN on
    some backends.
    """
    _check.check_shape("attention", "query", query, ["batch", "heads", "query", "head_dim"])
    batch, heads, num_queries, width = query.shape
    num_keys = _check.check_shape("attention", "key", key, [batch, heads, "key", width]).shape[2]
    _check.check_shape("attention", "value", value, [batch, heads, num_keys, width])
    visible = any_visible = None
    if key_mask is not None:
        visible = _check.check_mask("attention", "key_mask", key_mask, [batch, num_keys])[:, None, None, :]
    if band is not None:
        _check.check_integer("attention", "band", band)
        step = torch.arange(max(num_queries, num_keys), device=query.device)
        inside = step[None, :num_keys] - step[:num_queries, None] <= band  # (query, key)
        visible = inside if visible is None else visible & inside
    if visible is not None:
        any_visible = visible.any(dim=-1, keepdim=True)
        visible = visible | ~any_visible
    if query_mask is not None:
        real = _check.check_mask("attention", "query_mask", query_mask, [batch, num_queries])[:, None, :, None]
        any_visible = real if any_visible is None else real & any_visible
    return visible, any_visible
