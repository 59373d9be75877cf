"""What every attention kernel needs to know of its tile: where it lies, what is real, what is dropped."""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)  # below every score: a running maximum starts here, as infinity minus itself is NaN
LN2 = tl.constexpr(0.6931471805599453)  # weights are powers of two: their derivative has this factor
INTEGERS = ["num_pairs", "num_queries", "num_keys", "band", "threshold"]  # change from call to call: no kernel for each


@triton.jit
def place(
    tile, pairs, num_pairs, num_queries, num_keys, band,
    BLOCK: tl.constexpr, OVER_KEYS: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    """The pair that a tile belongs to: its number, the tile's first row in it, and the pair's place, sizes and band.

    ``pairs`` (pair, 5) holds first query, number of queries, first key, number of keys, band; None: one pair.
    """
    if pairs is None:
        return 0, tile * BLOCK, 0, num_queries, 0, num_keys, band
    else:
        number = tl.arange(0, MANY)
        rows = tl.load(pairs + number * 5 + (3 if OVER_KEYS else 1), mask=number < num_pairs, other=0)
        tiles = tl.cdiv(rows, BLOCK)
        before = tl.cumsum(tiles, 0) <= tile
        pair = tl.sum(before.to(tl.int32), 0)
        first = (tile - tl.sum(tl.where(before, tiles, 0), 0)) * BLOCK
        row = pairs + pair * 5
        return pair, first, tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3), tl.load(row + 4)


@triton.jit
def limit(length, lengths, sample, pair, num_pairs):
    """The number of real steps: at most what the tensor of lengths (batch, pair) says, where there is one."""
    if lengths is None:
        return length
    else:
        # The minimum first: a length of 64 bits may not fit 32.
        return tl.minimum(length, tl.load(lengths + sample * num_pairs + pair)).to(tl.int32)


@triton.jit
def limits(sample, pair, num_pairs, key_lengths, query_lengths, bands, num_queries, num_keys, band):
    """Of a sample in a pair: how many queries and keys are real, and its band."""
    num_queries = limit(num_queries, query_lengths, sample, pair, num_pairs)
    num_keys = limit(num_keys, key_lengths, sample, pair, num_pairs)
    if bands is not None:
        band = tl.load(bands + sample * num_pairs + pair).to(tl.int32)
    return num_queries, num_keys, band


@triton.jit
def keys_end(first, num_queries, num_keys, band, ROWS: tl.constexpr):
    """The end of the keys that any of a tile's queries sees."""
    last = tl.minimum(num_keys, tl.minimum(first + ROWS, num_queries) + band)
    return tl.where(first < num_queries, last, 0)


@triton.jit
def queries_start(first, num_queries, num_keys, band):
    """The first query that sees any of a tile's keys."""
    start = tl.minimum(tl.maximum(first - band, 0), num_queries)
    return tl.where(first < num_keys, start, num_queries)


@triton.jit
def shown_keys(column, num_keys, key_mask):
    """True where a key is real."""
    shown = column < num_keys
    if key_mask is not None:
        shown = shown & (tl.load(key_mask + column, mask=shown, other=0) != 0)
    return shown


@triton.jit
def offset(sample, sample_stride, head, head_stride, step, step_stride):
    """Where a head of a sample begins in its tensor, from one of its steps on."""
    return sample.to(tl.int64) * sample_stride + head * head_stride + step * step_stride


@triton.jit
def at(pointer, sample, sample_stride, head, head_stride, step, step_stride):
    """A pointer moved to there."""
    return pointer + offset(sample, sample_stride, head, head_stride, step, step_stride)


@triton.jit
def kept(seed, query_number, first_key, head, sample, threshold, KEYS: tl.constexpr, KEYS_FIRST: tl.constexpr):
    """True where dropout keeps the weight: (keys, queries), or (queries, keys) without ``KEYS_FIRST``.

    A call of Philox 4x32 gives eight draws of 16 bits, one for each of eight keys in a row; its counter is (key // 8,
    query, head, sample), where a sample of one of several pairs is number sample * pairs + pair: tiles change nothing.
    """
    group = first_key // 8 + tl.arange(0, (KEYS + 7) // 8)
    counter = group[:, None] if KEYS_FIRST else group[None, :]
    query = query_number[None, :] if KEYS_FIRST else query_number[:, None]
    # Seven rounds pass every test of BigCrush (Salmon et al., 2011); ten, the usual number, cost 40 % more.
    a, b, c, d = tl.philox(seed, counter, query, head, sample, 7)
    high = threshold.to(tl.uint32) << 16
    if KEYS == 4:  # half of a group
        second = first_key % 8 != 0
        a, b = tl.where(second, c, a), tl.where(second, d, b)
        draws = tl.join(tl.join((a << 16) >= high, (b << 16) >= high), tl.join(a >= high, b >= high))
        if KEYS_FIRST:
            draws = tl.permute(draws, (0, 2, 3, 1))
    else:
        low_half = tl.join(tl.join((a << 16) >= high, (c << 16) >= high), tl.join((b << 16) >= high, (d << 16) >= high))
        high_half = tl.join(tl.join(a >= high, c >= high), tl.join(b >= high, d >= high))
        draws = tl.join(low_half, high_half)  # (.., .., word's high bit, word's low bit, half)
        if KEYS_FIRST:
            draws = tl.permute(draws, (0, 2, 3, 4, 1))
    if KEYS_FIRST:
        return tl.reshape(draws, (KEYS, query_number.shape[0]))
    else:
        return tl.reshape(draws, (query_number.shape[0], KEYS))
