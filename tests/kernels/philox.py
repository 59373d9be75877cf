"""Dropout of the fused kernels, written out: Philox 4x32 with seven rounds, in plain integers."""

import torch

WORD = 2**32 - 1


def philox(counter, seed):
    """Four random words for four words of counter (Salmon et al., Parallel random numbers, 2011)."""
    a, b, c, d = counter
    low, high = seed & WORD, seed >> 32
    for _ in range(7):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (second >> 32) ^ b ^ low, second & WORD, (first >> 32) ^ d ^ high, first & WORD
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    return a, b, c, d


def kept(seed, batch, heads, num_queries, num_keys, dropout, first_stream=0, streams=1):
    """True where the weight of (batch, head, query, key) is kept: eight keys share a counter."""
    threshold = min(round(dropout * 65536), 65535)
    keep = torch.empty(batch, heads, num_queries, num_keys, dtype=torch.bool)
    for b in range(batch):
        for h in range(heads):
            for i in range(num_queries):
                for j in range(num_keys):
                    if j % 8 == 0:
                        words = philox((j // 8, i, h, b * streams + first_stream), seed)
                    keep[b, h, i, j] = (words[j % 8 // 2] >> (16 * (j % 2))) & 0xFFFF >= threshold
    return keep, 65536 / (65536 - threshold)


def kept_at(seed, batch, heads, num_queries, num_keys, dropout):
    """:func:`kept`, all counters at once, for sizes that loops are too slow for."""
    threshold = min(round(dropout * 65536), 65535)
    axes = [torch.arange(n, dtype=torch.int64) for n in (batch, heads, num_queries, -(-num_keys // 8))]
    b, h, i, group = torch.meshgrid(*axes, indexing="ij")
    low, high = seed & WORD, seed >> 32
    state = group, i, h, b
    for _ in range(7):
        first, second = product(0xD2511F53, state[0]), product(0xCD9E8D57, state[2])
        state = second[0] ^ state[1] ^ low, second[1], first[0] ^ state[3] ^ high, first[1]
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    halves = [half for word in state for half in (word & 0xFFFF, word >> 16)]
    draws = torch.stack(halves, dim=-1).flatten(-2)[..., :num_keys]
    return draws >= threshold, 65536 / (65536 - threshold)


def product(a, b):
    """High and low word of a product of words: 64 bits hold no sign and product at once, so by halves of b."""
    low, high = a * (b & 0xFFFF), a * (b >> 16)
    middle = high + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)
