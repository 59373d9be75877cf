"""Errors of :mod:`gdkit.attention`."""

import torch

from gdkit._triton import why_no_kernels
from gdkit.attention import attention, attention_with_weights, packed_attention

# Where Triton is not installed, that is what lacks.
WHY_NOT = why_no_kernels(torch.device("cpu")) or "needs tensors on a CUDA device, got cpu"
HEADS = torch.zeros(2, 4, 7, 5)
packed = {"num_queries": [3, 4], "num_keys": [3, 4]}

CASES = [
    (
        lambda: attention(HEADS, HEADS, HEADS, backend="flash"),
        "attention: backend must be one of 'auto', 'triton', 'sdpa', 'chunked', 'reference', got 'flash'",
    ),
    (
        lambda: attention(HEADS[0], HEADS, HEADS),
        "attention: query must have shape (batch, heads, query, head_dim), got (4, 7, 5)",
    ),
    (lambda: attention(HEADS, HEADS[:, :2], HEADS), "attention: key must have shape (2, 4, key, 5), got (2, 2, 7, 5)"),
    (
        lambda: attention(HEADS, HEADS, HEADS[:, :, :6]),
        "attention: value must have shape (2, 4, 7, 5), got (2, 4, 6, 5)",
    ),
    (
        lambda: attention(HEADS[..., :0], HEADS, HEADS),
        "attention: query must have a head_dim above 0, got shape (2, 4, 7, 0)",
    ),
    (
        lambda: attention(HEADS.long(), HEADS.long(), HEADS.long()),
        "attention: query must be floating point, got torch.int64",
    ),
    (
        lambda: attention(HEADS, HEADS.double(), HEADS),
        "attention: key must be torch.float32 as query is, got torch.float64",
    ),
    (
        lambda: attention_with_weights(HEADS, HEADS, HEADS.half()),
        "attention_with_weights: value must be torch.float32 as query is, got torch.float16",
    ),
    (lambda: attention(HEADS, HEADS, HEADS, dropout=1.0), "attention: dropout must be in [0, 1), got 1.0"),
    (
        lambda: attention_with_weights(HEADS, HEADS, HEADS, dropout=1.0),
        "attention_with_weights: dropout must be in [0, 1), got 1.0",
    ),
    (lambda: attention(HEADS, HEADS, HEADS, band=1.5), "attention: band must be an integer, got 1.5"),
    (
        lambda: attention(HEADS, HEADS, HEADS, band=torch.ones(2)),
        "attention: band must hold integers, got torch.float32",
    ),
    (
        lambda: attention(HEADS, HEADS, HEADS, key_lengths=torch.ones(3, dtype=torch.int64)),
        "attention: key_lengths must have shape (2,), got (3,)",
    ),
    (
        lambda: attention(HEADS, HEADS, HEADS, key_mask=torch.ones(2, 7)),
        "attention: key_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: attention(HEADS.double(), HEADS.double(), HEADS.double(), backend="triton"),
        f"attention: backend 'triton' {WHY_NOT}",
    ),
    (
        lambda: packed_attention(HEADS, HEADS, HEADS, [3, 3], [3, 4]),
        "packed_attention: num_queries must hold a number for each of 2 pairs that add up to 7 steps, got [3, 3]",
    ),
    (
        lambda: packed_attention(HEADS, HEADS, HEADS, **packed, bands=torch.ones(2)),
        "packed_attention: bands must be a sequence of integers or None, one a pair, got a Tensor",
    ),
    (
        lambda: packed_attention(HEADS, HEADS, HEADS, **packed, bands=[1]),
        "packed_attention: bands must hold one for each of 2 pairs, got [1]",
    ),
    (
        lambda: packed_attention(HEADS, HEADS, HEADS, **packed, bands=[1, "2"]),
        "packed_attention: bands[1] must be an integer, got '2'",
    ),
]
