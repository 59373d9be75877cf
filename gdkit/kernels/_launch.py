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

from gdkit._dropout import gain, levels
from gdkit.kernels import _narrow, _wide
from gdkit.kernels._operator import Options, empty_heads

NARROW = 8  # exact float32 heads up to this wide are unrolled; from here on padding to 16 wastes less
LOG2E = math.log2(math.e)


class Kernel(NamedTuple):
    """A kernel and its tiles."""

    function: Any
    query_tile: int
    key_tile: int  # of the programs that own keys, in backward
    constants: dict[str, Any]
    options: dict[str, int]  # of the compiler


# Tiles by (precision, padded width): chosen so that no register spills on compute
# capabilities 8.0, 9.0 and 10.0, but for 8 bytes of one (tests/test_kernels.py). Rows, keys, warps.
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


def forward(query: Tensor, key: Tensor, value: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Results (batch, heads, query, width), and base-2 logarithms of the sums of weights (batch, heads, query)."""
    query, key, value = _last_axis_dense(query, key, value)
    result = empty_heads(query)
    log_sums = query.new_empty(query.shape[:3], dtype=torch.float32)
    kernel = _kernel_for(query, options, backward=False)
    tiles = _tiles(options.num_queries, kernel.query_tile)
    _run(kernel, tiles, (query, key, value, result, log_sums), (query, key, value, result), options)
    return result, log_sums


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, result: Tensor, log_sums: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, by one launch."""
    grad, query, key, value, result = _last_axis_dense(grad, query, key, value, result)
    grads = empty_heads(query), empty_heads(key), empty_heads(value)
    kernel = _kernel_for(query, options, backward=True)
    query_tiles = _tiles(options.num_queries, kernel.query_tile)
    tiles = query_tiles + _tiles(options.num_keys, kernel.key_tile)
    tensors = (query, key, value, result, log_sums.contiguous(), grad, *grads)
    _run(kernel, tiles, tensors, (query, key, value, result, grad, *grads[:2]), options, query_tiles)
    return grads


def _kernel_for(query: Tensor, options: Options, *, backward: bool) -> Kernel:
    masked = options.key_mask is not None
    longest = max(options.num_queries)
    return choose(query.dtype, query.shape[-1], longest, masked=masked, tf32=_tf32(), backward=backward)


def _tiles(counts: Sequence[int], tile: int) -> int:
    return sum(-(-count // tile) for count in counts)


def _run(
    kernel: Kernel,
    tiles: int,
    tensors: tuple[Tensor, ...],
    strided: tuple[Tensor, ...],
    options: Options,
    *last: int,
) -> None:
    """Launches a kernel over all heads; its arguments come in the order of its signature."""
    query, key = tensors[:2]
    strides = [stride for x in strided for stride in x.stride()[:3]]
    constants = compiler_constants(kernel, dropout=options.dropout > 0, num_pairs=len(options.num_queries))
    with _device_of(query):
        kernel.function[query.shape[0] * query.shape[1], tiles](
            *tensors, *_hidden(options, query.device), *strides, *_numbers(query, key, options), *last, **constants
        )


def _last_axis_dense(*tensors: Tensor) -> list[Tensor]:
    return [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]


def _tf32() -> bool:
    """True where PyTorch may round float32 products, as ``torch.set_float32_matmul_precision`` says."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _device_of(tensor: Tensor) -> contextlib.AbstractContextManager[None]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _hidden(options: Options, device: torch.device) -> tuple[Tensor | None, ...]:
    lengths = [None if x is None else x.contiguous() for x in options[:2]]
    mask = None if options.key_mask is None else options.key_mask.contiguous().view(torch.uint8)
    bands = None if options.sample_bands is None else options.sample_bands.contiguous()
    pairs = None
    if len(options.num_queries) > 1:
        pairs = _pair_table(tuple(options.num_queries), tuple(options.num_keys), tuple(options.bands), device)
        if pairs.is_cuda and torch.cuda.is_current_stream_capturing():
            _IN_GRAPHS[pairs.data_ptr()] = pairs
    return *lengths, mask, bands, pairs, options.seed


_IN_GRAPHS: dict[int, Tensor] = {}  # tables that captured CUDA graphs read, also once the cache has dropped them


@functools.lru_cache(maxsize=256)
def _pair_table(
    num_queries: tuple[int, ...], num_keys: tuple[int, ...], bands: tuple[int, ...], device: torch.device
) -> Tensor:
    """First query, number of queries, first key, number of keys and band of each pair, copied to the device once."""
    rows: list[list[int]] = []
    for pair, (queries, keys, band) in enumerate(zip(num_queries, num_keys, bands, strict=True)):
        rows.append([sum(num_queries[:pair]), queries, sum(num_keys[:pair]), keys, band])
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _numbers(query: Tensor, key: Tensor, options: Options) -> tuple[int | float, ...]:
    heads, width = query.shape[1], query.shape[3]
    steps = (options.num_queries[0], options.num_keys[0], query.shape[2], key.shape[2], options.bands[0])
    return heads, len(options.num_queries), *steps, levels(options.dropout), gain(options.dropout), LOG2E * width**-0.5


def compiler_constants(kernel: Kernel, *, dropout: bool, num_pairs: int) -> dict[str, Any]:
    """All that a kernel is compiled for: its own constants, and the compiler's options."""
    constants = {**kernel.constants, "DROPOUT": dropout, "MANY": triton.next_power_of_2(num_pairs)}
    return {**constants, **kernel.options, "num_stages": 1, "enable_fp_fusion": True}
