"""The fused kernels as one PyTorch operator, so that compile, autograd, CUDA graphs and fake tensors know it."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

NO_BAND = 2**30  # a band that no pair of positions exceeds: hides nothing

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
    result, _ = torch.ops.gdkit.attention(
        query,
        key,
        value,
        key_lengths,
        query_lengths,
        key_mask,
        sample_bands,
        seed,
        [query.shape[2]] if num_queries is None else list(num_queries),
        [key.shape[2]] if num_keys is None else list(num_keys),
        [NO_BAND if band is None else max(-NO_BAND, min(band, NO_BAND)) for band in of_pairs],
        dropout,
    )
    return cast(Tensor, result)


def empty_heads(like: Tensor) -> Tensor:
    """(batch, heads, time, width), laid out as (batch, time, heads, width): merging the heads then copies nothing."""
    batch, heads, time, width = like.shape
    return like.new_empty(batch, time, heads, width).transpose(1, 2)


def _forward(query: Tensor, key: Tensor, value: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    from gdkit.kernels import _launch

    return _launch.forward(query, key, value, *options)


def _backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from gdkit.kernels import _launch

    return _launch.backward(grad, *arguments)


def _forward_shapes(query: Tensor, key: Tensor, value: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return empty_heads(query), query.new_empty(query.shape[:3], dtype=torch.float32)


def _backward_shapes(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return empty_heads(query), empty_heads(key), empty_heads(value)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:3], *output, *inputs[3:8])
    ctx.rest = inputs[8:]


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, result, log_sums, *tensors = ctx.saved_tensors
    grads = torch.ops.gdkit.attention_backward(grad, query, key, value, result, log_sums, *tensors, *ctx.rest)
    return *grads, *[None] * 9


for _device in ("CUDA", "CPU"):  # CPU: in Triton's interpreter, by which the kernels are tested
    _LIBRARY.impl("attention", _forward, _device)
    _LIBRARY.impl("attention_backward", _backward, _device)
torch.library.register_fake("gdkit::attention", _forward_shapes, lib=_LIBRARY)
torch.library.register_fake("gdkit::attention_backward", _backward_shapes, lib=_LIBRARY)
torch.library.register_autograd("gdkit::attention", _gradients, setup_context=_save, lib=_LIBRARY)
