"""Launches the kernels: which one, in which tiles, over which pairs."""

# pyright: basic
from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from gdkit.kernels import _narrow, _wide
from gdkit.kernels._operator import empty_heads

NARROW = 8  # exact float32 heads up to this wide are unrolled; from here on padding to 16 wastes less
LEVELS = 2**16  # a chance of dropout is rounded to one part in this many: a draw has 16 bits
LOG2E = math.log2(math.e)


class Kernel(NamedTuple):
    """A kernel and its tiles."""

    function: Any
    query_tile: int
    key_tile: int  # of the programs that own keys, in backward
    constants: dict[str, Any]
    options: dict[str, int]  # of the compiler


# Tiles by (kernel, element bytes or precision, padded width): the largest that spill no register on compute
# capabilities 8.0, 9.0 and 10.0 (tests/test_kernels_compile.py). Rows, keys, warps.
FORWARD_TILES = {
    ("ieee", 16): (64, 32, 4),
    ("ieee", 32): (32, 32, 4),
    ("ieee", 64): (32, 16, 8),
    ("tf32", 16): (64, 32, 4),
    ("tf32", 32): (64, 32, 4),
    ("tf32", 64): (32, 32, 4),
    ("half", 16): (64, 64, 4),
    ("half", 32): (64, 64, 4),
    ("half", 64): (64, 32, 8),
}
BACKWARD_TILES = {
    ("ieee", 16): (32, 32, 4),
    ("ieee", 32): (32, 32, 8),
    ("ieee", 64): (32, 16, 8),
    ("tf32", 16): (32, 32, 4),
    ("tf32", 32): (64, 32, 4),
    ("tf32", 64): (32, 32, 4),
    ("half", 16): (64, 64, 4),
    ("half", 32): (64, 32, 4),
    ("half", 64): (32, 16, 4),
}


def choose(dtype: torch.dtype, width: int, longest: int, *, masked: bool, tf32: bool, backward: bool) -> Kernel:
    """The kernel for heads of a width, of at most ``longest`` queries, with a mask of keys or without."""
    if dtype == torch.float32 and not tf32 and width <= NARROW:
        # Two queries a thread halve the reads of keys; one where there are few, or where two would spill registers.
        rows = 64 if longest > 32 and (backward or (width <= 5 and not masked)) else 32
        constants = {"WIDTH": width, "ROWS": rows, "KEYS": 32}
        if not backward:
            return Kernel(_narrow.forward, rows, 0, constants, {"num_warps": 1, "maxnreg": 248})
        own_keys = 8 if width <= 5 else 4  # whose sums over queries stay in registers
        constants |= {"KEYS": 8, "OWN_KEYS": own_keys, "LANES": 32}
        return Kernel(_narrow.backward, rows, own_keys, constants, {"num_warps": 1})
    padded = max(16, 1 << (width - 1).bit_length())
    precision = "half" if dtype != torch.float32 else "tf32" if tf32 else "ieee"
    rows, keys, warps = (BACKWARD_TILES if backward else FORWARD_TILES)[precision, padded]
    constants: dict[str, int | str] = {"WIDTH": width, "PADDED": padded, "ROWS": rows, "KEYS": keys}
    constants["PRECISION"] = "tf32" if precision == "tf32" else "ieee"
    # All the registers there are: left alone, the compiler spills a few to fit more programs.
    options = {"num_warps": warps, "maxnreg": 255}
    return Kernel(_wide.backward if backward else _wide.forward, rows, rows, constants, options)


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    sample_bands: Tensor | None,
    seed: Tensor | None,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    bands: Sequence[int],
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Results (batch, heads, query, width), and base-2 logarithms of the sums of weights (batch, heads, query)."""
    query, key, value = _last_axis_dense(query, key, value)
    result = empty_heads(query)
    log_sums = query.new_empty(query.shape[:3], dtype=torch.float32)
    kernel = choose(
        query.dtype, query.shape[-1], max(num_queries), masked=key_mask is not None, tf32=_tf32(), backward=False
    )
    tiles = sum(triton.cdiv(count, kernel.query_tile) for count in num_queries)
    with _device_of(query):
        kernel.function[query.shape[0] * query.shape[1], tiles](
            query,
            key,
            value,
            result,
            log_sums,
            *_hidden(query, key_lengths, query_lengths, key_mask, sample_bands, seed, num_queries, num_keys, bands),
            *query.stride()[:3],
            *key.stride()[:3],
            *value.stride()[:3],
            *result.stride()[:3],
            *_numbers(query, key, num_queries, num_keys, bands, dropout),
            **_constants(kernel, dropout, num_queries),
        )
    return result, log_sums


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    result: Tensor,
    log_sums: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    sample_bands: Tensor | None,
    seed: Tensor | None,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    bands: Sequence[int],
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, by one launch."""
    grad, query, key, value, result = _last_axis_dense(grad, query, key, value, result)
    query_grad, key_grad, value_grad = empty_heads(query), empty_heads(key), empty_heads(value)
    kernel = choose(
        query.dtype, query.shape[-1], max(num_queries), masked=key_mask is not None, tf32=_tf32(), backward=True
    )
    query_tiles = sum(triton.cdiv(count, kernel.query_tile) for count in num_queries)
    key_tiles = sum(triton.cdiv(count, kernel.key_tile) for count in num_keys)
    with _device_of(query):
        kernel.function[query.shape[0] * query.shape[1], query_tiles + key_tiles](
            query,
            key,
            value,
            result,
            log_sums.contiguous(),
            grad,
            query_grad,
            key_grad,
            value_grad,
            *_hidden(query, key_lengths, query_lengths, key_mask, sample_bands, seed, num_queries, num_keys, bands),
            *query.stride()[:3],
            *key.stride()[:3],
            *value.stride()[:3],
            *result.stride()[:3],
            *grad.stride()[:3],
            *query_grad.stride()[:3],
            *key_grad.stride()[:3],
            *_numbers(query, key, num_queries, num_keys, bands, dropout),
            query_tiles,
            **_constants(kernel, dropout, num_queries),
        )
    return query_grad, key_grad, value_grad


def _last_axis_dense(*tensors: Tensor) -> list[Tensor]:
    return [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]


def _tf32() -> bool:
    """True where PyTorch may round float32 products, as ``torch.set_float32_matmul_precision`` says."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _device_of(tensor: Tensor) -> contextlib.AbstractContextManager[None]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _hidden(
    query: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    sample_bands: Tensor | None,
    seed: Tensor | None,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    bands: Sequence[int],
) -> tuple[Tensor | None, ...]:
    dense = [x if x is None else x.contiguous() for x in (key_lengths, query_lengths, key_mask, sample_bands)]
    mask = None if dense[2] is None else dense[2].view(torch.uint8)
    pairs = None
    if len(num_queries) > 1:
        pairs = _pair_table(tuple(num_queries), tuple(num_keys), tuple(bands), query.device)
    return dense[0], dense[1], mask, dense[3], pairs, seed


@functools.lru_cache(maxsize=256)
def _pair_table(
    num_queries: tuple[int, ...], num_keys: tuple[int, ...], bands: tuple[int, ...], device: torch.device
) -> Tensor:
    """First query, number of queries, first key, number of keys and band of each pair, copied to the device once."""
    rows: list[list[int]] = []
    for pair, (queries, keys, band) in enumerate(zip(num_queries, num_keys, bands, strict=True)):
        rows.append([sum(num_queries[:pair]), queries, sum(num_keys[:pair]), keys, band])
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _numbers(
    query: Tensor,
    key: Tensor,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    bands: Sequence[int],
    dropout: float,
) -> tuple[int | float, ...]:
    heads, width = query.shape[1], query.shape[3]
    threshold = min(round(dropout * LEVELS), LEVELS - 1)  # never so high that nothing is kept
    steps = (len(num_queries), num_queries[0], num_keys[0], query.shape[2], key.shape[2], bands[0])
    return heads, *steps, threshold, LEVELS / (LEVELS - threshold), LOG2E * width**-0.5


def _constants(kernel: Kernel, dropout: float, num_queries: Sequence[int]) -> dict[str, Any]:
    many = triton.next_power_of_2(len(num_queries))
    options = {"num_stages": 1, "enable_fp_fusion": True}
    return {**kernel.constants, "DROPOUT": dropout > 0, "MANY": many, **kernel.options, **options}
