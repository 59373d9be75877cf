"""Dropout of the fused kernels, written out: Philox 4x32 with seven rounds, eight draws of 16 bits a call."""

import math

import numpy as np
import torch

WORD = 2**32 - 1


def philox(counter, key):
    """Four random words for four words of counter (Salmon et al., Parallel random numbers, 2011); numbers or arrays."""
    a, b, c, d = (np.asarray(word, dtype=np.uint64) for word in counter)
    low, high = key
    for _ in range(7):
        first, second = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(low), second & np.uint64(WORD)
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(high), first & np.uint64(WORD)
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    return a, b, c, d


def kept(seed, batch, heads, num_queries, num_keys, dropout, first_stream=0, streams=1):
    """True where a weight (batch, head, query, key) is kept, and the factor of those: eight keys share a counter."""
    b, h, i, group = np.indices((batch, heads, num_queries, math.ceil(num_keys / 8)))
    words = philox((group, i, h, b * streams + first_stream), (seed & WORD, seed >> 32 & WORD))
    draws = np.stack([word >> np.uint64(16 * half) & np.uint64(0xFFFF) for word in words for half in (0, 1)], axis=-1)
    threshold = min(round(dropout * 65536), 65535)
    keep = draws.reshape(batch, heads, num_queries, -1)[..., :num_keys] >= threshold
    return torch.from_numpy(keep), 65536 / (65536 - threshold)


def kept_one_by_one(seed, batch, heads, num_queries, num_keys, dropout):
    """:func:`kept` in plain loops, as its definition reads."""
    threshold = min(round(dropout * 65536), 65535)
    keep = torch.empty(batch, heads, num_queries, num_keys, dtype=torch.bool)
    for b, h, i, j in np.ndindex(*keep.shape):
        words = philox((j // 8, i, h, b), (seed & WORD, seed >> 32 & WORD))
        keep[b, h, i, j] = (int(words[j % 8 // 2]) >> (16 * (j % 2))) & 0xFFFF >= threshold
    return keep, 65536 / (65536 - threshold)
