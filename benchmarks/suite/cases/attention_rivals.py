"""Attention as PyTorch offers it, and as it is written by hand."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.suite.point import Call, Provider, Settings, Skipped, differentiable, skipped

MULTIPLES = {"cpu": 16, "cuda": 8}  # of the width, from which PyTorch's fused kernels take it


class Options(NamedTuple):
    """Chance of dropping a weight, and the key furthest ahead of a query that it sees; None: it sees all."""

    dropout: float
    band: int | None


def rival_providers(
    query: Tensor, key: Tensor, value: Tensor, options: Options, settings: Settings
) -> dict[str, Provider]:
    """Every rival for these heads."""
    heads = (query, key, value)
    multiple = MULTIPLES[settings.device]
    padded = f"SDPA, width padded to {multiple}" + (", mem-efficient" if settings.device == "cuda" else "")
    found = {
        "bmm, built mask": differentiable(partial(plain, options=options), [time_first(x) for x in heads]),
        "nn.MultiheadAttention": multihead_provider(query, key, value, options),
        "SDPA": differentiable(partial(fused, options=options), heads),
    }
    if settings.device == "cpu" and query.shape[-1] % multiple == 0:
        found[padded] = skipped(f"the width is a multiple of {multiple} already, so it would be SDPA again")
    else:
        found[padded] = differentiable(partial(padded_fused, options=options, multiple=multiple), heads)
    return found | {"FlexAttention": flex_provider(query, key, value, options, settings)}


def time_first(x: Tensor) -> Tensor:
    """The same heads as (time, batch, heads, width) in memory, the layout of nn.MultiheadAttention and its like."""
    return x.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)


def visible(query: Tensor, key: Tensor, band: int | None) -> Tensor | None:
    """(query, key), True where the query sees the key."""
    if band is None:
        return None
    return torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril(band)


def plain(query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
    """Scores, mask, softmax and sum one after the other, as before there were fused kernels."""
    batch, heads, num_queries, width = query.shape
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))  # (batch * heads, time, width)
    scores = torch.bmm(q * width**-0.5, k.transpose(1, 2))
    if options.band is not None:
        hidden = scores.new_full(scores.shape[1:], -torch.inf).triu(options.band + 1)
        scores = scores + hidden
    weights = F.dropout(scores.softmax(dim=-1), options.dropout)
    return torch.bmm(weights, v).view(batch, heads, num_queries, width)


def fused(query: Tensor, key: Tensor, value: Tensor, options: Options, scale: float | None = None) -> Tensor:
    """What a user writes today."""
    mask = visible(query, key, options.band)
    return F.scaled_dot_product_attention(query, key, value, mask, options.dropout, scale=scale)


def padded_fused(query: Tensor, key: Tensor, value: Tensor, options: Options, multiple: int) -> Tensor:
    """The same at a width that the fused kernels take; zeros change neither a score nor a sum."""
    width = query.shape[-1]
    heads = [F.pad(x, (0, -width % multiple)) for x in (query, key, value)]
    if not query.is_cuda:
        return fused(*heads, options, scale=width**-0.5)[..., :width]
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        return fused(*heads, options, scale=width**-0.5)[..., :width]


def multihead_provider(query: Tensor, key: Tensor, value: Tensor, options: Options) -> Provider:
    """The function inside nn.MultiheadAttention, with identities for its projections, which it cannot do without.

    They are four products of (time, heads * width) with a square matrix and count in its time. It asks for no weights,
    so that it may take the fused kernels, and gets heads in the layout that it works in.
    """
    batch, heads, _, width = query.shape
    identity = torch.eye(heads * width, device=query.device)

    def attend(*of_heads: Tensor) -> Tensor:
        q, k, v = (x.permute(2, 0, 1, 3).flatten(2) for x in of_heads)  # (time, batch, heads * width), views
        mask = None
        if options.band is not None:  # True hides here
            mask = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).triu(options.band + 1)
        output, _ = F.multi_head_attention_forward(
            q,
            k,
            v,
            heads * width,
            heads,
            None,
            None,
            None,
            None,
            False,
            options.dropout,
            identity,
            None,
            need_weights=False,
            attn_mask=mask,
            use_separate_proj_weight=True,
            q_proj_weight=identity,
            k_proj_weight=identity,
            v_proj_weight=identity,
        )
        return output.view(len(q), batch, heads, width).permute(1, 2, 0, 3)  # (batch, heads, time, width)

    return differentiable(attend, [time_first(x) for x in (query, key, value)])


def flex_provider(query: Tensor, key: Tensor, value: Tensor, options: Options, settings: Settings) -> Provider:
    """FlexAttention, compiled for these shapes; its block mask is built once, as its makers advise."""

    def provider(mode: str) -> Call:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if settings.quick:
            raise Skipped("--quick compiles nothing")
        if options.dropout:
            raise Skipped("it has no dropout")
        if mode != "forward" and settings.device == "cpu":
            raise Skipped("it has no backward pass on a CPU")
        blocks, band = None, options.band
        if band is not None:

            def seen(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
                return column - row <= band

            blocks = create_block_mask(seen, None, None, query.shape[2], key.shape[2], device=settings.device)
        torch.compiler.reset()  # or after a few shapes it would give up compiling and run uncompiled
        compiled = torch.compile(flex_attention, dynamic=False, fullgraph=True)
        return differentiable(partial(compiled, block_mask=blocks), (query, key, value))(mode)

    return provider
