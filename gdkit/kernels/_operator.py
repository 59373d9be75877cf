"""The fused kernels as PyTorch operators, so that compile, autograd, CUDA graphs and fake tensors know them."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gdkit._attention_choice import compute_dtype
from gdkit._hidden import NO_BAND
from gdkit._once import differentiable_once


class Options(NamedTuple):
    """All that the operators take beside the heads, in their order."""

    key_lengths: Tensor | None  # (batch, pair)
    query_lengths: Tensor | None  # (batch, pair)
    key_mask: Tensor | None  # (batch, all keys)
    sample_bands: Tensor | None  # (batch,)
    seed: Tensor | None  # (1,)
    num_queries: list[int]  # of each pair
    num_keys: list[int]
    bands: list[int]
    dropout: float


_OPTIONS = (
    "Tensor? key_lengths, Tensor? query_lengths, Tensor? key_mask, Tensor? sample_bands, Tensor? seed, "
    "SymInt[] num_queries, SymInt[] num_keys, SymInt[] bands, float dropout"
)
_LIBRARY = torch.library.Library("gdkit", "DEF")
_LIBRARY.define(f"attention(Tensor query, Tensor key, Tensor value, {_OPTIONS}) -> (Tensor, Tensor)")
_LIBRARY.define(
    "attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor result, Tensor log_sums, "
    f"{_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    bands: int | Tensor | Sequence[int | None] | None,
    dropout: float,
    num_queries: Sequence[int] | None = None,
    num_keys: Sequence[int] | None = None,
) -> Tensor:
    """:func:`gdkit.attention.attention`, or, with the numbers of steps, :func:`gdkit.attention.packed_attention`."""
    sample_bands = bands if isinstance(bands, Tensor) else None
    of_pairs = bands if isinstance(bands, Sequence) else [None if sample_bands is not None else cast(int | None, bands)]
    # On the device: a replayed CUDA graph draws another seed each time, and nothing waits for it.
    seed = torch.randint(2**62, (1,), device=query.device) if dropout > 0 else None
    options = Options(
        key_lengths,
        query_lengths,
        key_mask,
        sample_bands,
        seed,
        [query.shape[2]] if num_queries is None else list(num_queries),
        [key.shape[2]] if num_keys is None else list(num_keys),
        [NO_BAND if band is None else band for band in of_pairs],
        dropout,
    )
    dtype = compute_dtype(query)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if torch.compiler.is_compiling():  # which refuses one tensor as two inputs, such as self-attention's
        key, value = key.view_as(key), value.view_as(value)
    return cast(Tensor, _Attention.apply(query, key, value, options))  # pyright: ignore


def empty_heads(like: Tensor) -> Tensor:
    """(batch, heads, time, width), laid out as (batch, time, heads, width): merging the heads then copies nothing."""
    batch, heads, time, width = like.shape
    return like.new_empty(batch, time, heads, width).transpose(1, 2)


def _forward(query: Tensor, key: Tensor, value: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    from gdkit.kernels import _launch

    return _launch.forward(query, key, value, Options(*options))


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, result: Tensor, log_sums: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    from gdkit.kernels import _launch

    return _launch.backward(grad, query, key, value, result, log_sums, Options(*options))


def _forward_shapes(query: Tensor, key: Tensor, value: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return empty_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


def _backward_shapes(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return empty_heads(query), empty_heads(key), empty_heads(value)


class _Attention(torch.autograd.Function):
    """Around the operators, not registered with them: a call forward and backward takes 100 us so, 165 us otherwise."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        result, log_sums = torch.ops.gdkit.attention(query, key, value, *options)
        ctx.save_for_backward(query, key, value, result, log_sums, *options[:5])
        ctx.rest = options[5:]
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            gradients = torch.ops.gdkit.attention_backward(grad, *ctx.saved_tensors, *ctx.rest)
        return *differentiable_once("attention with backend 'triton'", gradients, grad, *ctx.saved_tensors[:3]), None


for _device in ("CUDA", "CPU"):  # CPU: in Triton's interpreter, by which the kernels are tested
    _LIBRARY.impl("attention", _forward, _device)
    _LIBRARY.impl("attention_backward", _backward, _device)
torch.library.register_fake("gdkit::attention", _forward_shapes, lib=_LIBRARY)
torch.library.register_fake("gdkit::attention_backward", _backward_shapes, lib=_LIBRARY)
