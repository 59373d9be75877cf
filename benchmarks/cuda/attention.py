"""The kernel as a function of tensors."""

import ctypes
import math

import torch
from torch import Tensor

from benchmarks.cuda.build import load

WIDTHS = (5, 8, 10, 16)
SPLITS = (4, 8)  # how many lanes share out the keys of the same queries
NO_BAND = 2**30


class Arguments(ctypes.Structure):
    """The struct of the same name in thread.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "result", "log_sums", "seed", "key_lengths")),
        *((name, ctypes.c_int64) for name in ("query_batch", "query_head", "query_time", "key_batch", "key_head")),
        *((name, ctypes.c_int64) for name in ("value_batch", "value_head")),
        *((name, ctypes.c_int32) for name in ("key_step", "value_step", "length_stride", "batch", "heads")),
        *((name, ctypes.c_int32) for name in ("num_queries", "num_keys", "band", "threshold")),
        ("scale", ctypes.c_float),
    ]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    band: int | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    split: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention on a GPU of compute capability 9.0, or (slow, for tests) the same arithmetic on the CPU.

    Args:
        query, key, value: float32, any strides but 1 along the last axis; see :mod:`benchmarks.cuda` for the rest.
        key_lengths: how many keys of each sample are real, int32 or int64; None: all.
        band: hide key j from query i where j - i is above it; None hides nothing.
        dropout: chance in [0, 1) of dropping a weight, rounded to 1 in 65,536.
        seed: one int64 on the device, for ``dropout``.
        split: 4 or 8 lanes a query; None chooses 8 where 4 would leave multiprocessors idle.

    Shape:
        - query: (batch, heads, query, head_dim); key, value: (batch, heads, key, head_dim); key_lengths: (batch,)

    Returns:
        The result (batch, heads, query, head_dim), in memory (batch, query, heads, head_dim), and the base-2 logarithms
        of the sums of weights (batch, heads, query).

    Raises:
        TypeError, ValueError: if a tensor or number is not as above.
        RuntimeError: if there is no nvcc, the GPU is another, or the launch failed.
    """
    batch, heads, num_queries, width = query.shape
    num_keys = key.shape[2]
    _check(query, key, value, key_lengths, band, dropout, seed)
    threshold = min(round(dropout * 65536), 65535)
    result = query.new_empty(batch, num_queries, heads, width)
    log_sums = query.new_empty(batch, heads, num_queries)
    if query.numel() == 0:
        return result.transpose(1, 2), log_sums
    if split is None:  # 132 multiprocessors take 4 blocks of 128 queries each
        split = 4 if batch * heads * math.ceil(num_queries / 128) >= 528 else 8
    elif split not in SPLITS:
        raise ValueError(f"attention: split must be one of {SPLITS}, got {split}")
    arguments = Arguments(
        *(x.data_ptr() for x in (query, key, value, result, log_sums)),
        seed=seed.data_ptr() if seed is not None and threshold > 0 else None,
        key_lengths=None if key_lengths is None else key_lengths.data_ptr(),
        **{f"query_{axis}": query.stride(i) for i, axis in enumerate(("batch", "head", "time"))},
        **{f"key_{axis}": key.stride(i) for i, axis in enumerate(("batch", "head"))},
        **{f"value_{axis}": value.stride(i) for i, axis in enumerate(("batch", "head"))},
        key_step=4 * key.stride(2),
        value_step=4 * value.stride(2),
        # Of a 64-bit length the low half is read; the machine is little-endian.
        length_stride=0 if key_lengths is None else key_lengths.stride(0) * key_lengths.element_size() // 4,
        batch=batch,
        heads=heads,
        num_queries=num_queries,
        num_keys=num_keys,
        band=NO_BAND if band is None else max(-NO_BAND, min(band, NO_BAND)),
        threshold=threshold,
        scale=width**-0.5 * math.log2(math.e),
    )
    library = load()
    if query.is_cuda:
        with torch.cuda.device(query.device):
            stream = torch.cuda.current_stream().cuda_stream
            error = library.attention_forward(ctypes.byref(arguments), width, split, stream)
    else:
        error = library.attention_on_host(ctypes.byref(arguments), width, split)
    if error:
        raise RuntimeError(f"attention: the launch failed: {library.error_text(error).decode()}")
    return result.transpose(1, 2), log_sums


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_lengths: Tensor | None,
    band: int | None,
    dropout: float,
    seed: Tensor | None,
) -> None:
    batch, heads, num_queries, width = query.shape
    if width not in WIDTHS:
        raise ValueError(f"attention: query's last axis must be one of {WIDTHS}, got {width}")
    if key.shape != (batch, heads, key.shape[2], width) or value.shape != key.shape:
        wanted = f"({batch}, {heads}, key, {width})"
        raise ValueError(f"attention: key and value must be {wanted}, got {tuple(key.shape)} and {tuple(value.shape)}")
    for name, tensor in {"query": query, "key": key, "value": value}.items():
        if tensor.dtype != torch.float32:
            raise TypeError(f"attention: {name} must be float32, got {tensor.dtype}")
        if tensor.device != query.device:
            raise ValueError(f"attention: {name} must be on {query.device}, got {tensor.device}")
        if tensor.stride(3) != 1 or not 0 <= tensor.stride(2) < 2**29:
            raise ValueError(f"attention: {name} must have stride 1 along its last axis, got {tensor.stride()}")
    if max(batch, math.ceil(num_queries / 64)) > 65535 or max(num_queries, key.shape[2]) >= 2**29:
        raise ValueError(f"attention: at most 65,535 samples and 4,194,240 queries, got {batch} and {num_queries}")
    if key_lengths is not None:
        if key_lengths.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"attention: key_lengths must be int32 or int64, got {key_lengths.dtype}")
        if key_lengths.shape != (batch,) or key_lengths.device != query.device:
            raise ValueError(f"attention: key_lengths must be ({batch},), got {tuple(key_lengths.shape)}")
    if band is not None and not isinstance(band, int):
        raise TypeError(f"attention: band must be an integer, got {band!r}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"attention: dropout must be in [0, 1), got {dropout}")
    if dropout > 0.0 and (
        seed is None or seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != query.device
    ):
        raise ValueError(f"attention: dropout needs a seed, one int64 on {query.device}")
    if query.is_cuda and torch.cuda.get_device_capability(query.device) != (9, 0):
        found = torch.cuda.get_device_name(query.device)
        raise RuntimeError(
            f"attention: the kernel is compiled for compute capability 9.0 (H100, H200), not for {found}"
        )
