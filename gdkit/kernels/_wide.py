"""Attention of heads up to 64 wide, or in fewer bits, on the matrix unit: the width is padded to a power of two.

The padding is masked loads: it moves no memory. ``PRECISION`` says how float32 is multiplied: "ieee" or "tf32".
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdkit.kernels._tiles import (
    INTEGERS,
    LN2,
    LOWEST,
    at,
    kept,
    keys_end,
    limits,
    offset,
    place,
    queries_start,
    shown_keys,
)


@triton.jit
def load_rows(pointer, row, stride, count, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """A tile's rows (rows, padded width); zeros past ``count`` and past the width."""
    column = tl.arange(0, PADDED)
    inside = (row < count)[:, None] & (column < WIDTH)[None, :]
    return tl.load(pointer + row[:, None] * stride + column[None, :], mask=inside, other=0.0)


@triton.jit
def store_rows(pointer, row, stride, count, values, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Writes what :func:`load_rows` reads."""
    column = tl.arange(0, PADDED)
    inside = (row < count)[:, None] & (column < WIDTH)[None, :]
    tl.store(pointer + row[:, None] * stride + column[None, :], values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=INTEGERS)
def forward(
    query, key, value, result, log_sums, key_lengths, query_lengths, key_mask, bands, pairs, seeds,
    query_sample, query_head, query_step, key_sample, key_head, key_step, value_sample, value_head, value_step,
    result_sample, result_head, result_step,
    num_heads, num_pairs, num_queries, num_keys, total_queries, total_keys, band, threshold, gain, scale,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    DROPOUT: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    """Results of ROWS queries of one head, and the base-2 logarithm of each one's sum of weights."""
    sample, head = tl.program_id(0) // num_heads, tl.program_id(0) % num_heads
    pair, first, query_start, num_queries, key_start, num_keys, band = place(
        tl.program_id(1), pairs, num_pairs, num_queries, num_keys, band, ROWS, False, MANY
    )
    rows = num_queries  # to be written; those that are real may be fewer
    num_queries, num_keys, band = limits(
        sample, pair, num_pairs, key_lengths, query_lengths, bands, num_queries, num_keys, band
    )
    if key_mask is not None:
        key_mask += sample.to(tl.int64) * total_keys + key_start
    query = at(query, sample, query_sample, head, query_head, query_start, query_step)
    key = at(key, sample, key_sample, head, key_head, key_start, key_step)
    value = at(value, sample, value_sample, head, value_head, key_start, value_step)
    seed = tl.load(seeds) if DROPOUT else 0
    stream = sample * num_pairs + pair

    row = first + tl.arange(0, ROWS)
    queries = load_rows(query, row, query_step, num_queries, WIDTH, PADDED)
    highest, total = tl.full([ROWS], LOWEST, tl.float32), tl.zeros([ROWS], tl.float32)
    summed = tl.zeros([ROWS, PADDED], tl.float32)
    last = keys_end(first, num_queries, num_keys, band, ROWS)
    for first_key in range(0, last, KEYS):
        column = first_key + tl.arange(0, KEYS)
        keys = load_rows(key, column, key_step, num_keys, WIDTH, PADDED)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale  # (query, key)
        shown = shown_keys(column, num_keys, key_mask)[None, :] & (column[None, :] - row[:, None] <= band)
        scores = tl.where(shown, scores, float("-inf"))
        raised = tl.maximum(highest, tl.max(scores, 1))
        decay = tl.exp2(highest - raised)
        weights = tl.exp2(scores - raised[:, None])
        total = total * decay + tl.sum(weights, 1)
        if DROPOUT:
            weights = tl.where(kept(seed, row, first_key, head, stream, threshold, KEYS, False), weights, 0.0)
        values = load_rows(value, column, value_step, num_keys, WIDTH, PADDED)
        summed = tl.dot(weights.to(values.dtype), values, summed * decay[:, None], input_precision=PRECISION)
        highest = raised
    result = at(result, sample, result_sample, head, result_head, query_start, result_step)
    log_sums += tl.program_id(0).to(tl.int64) * total_queries + query_start
    sees = (total > 0) & (row < num_queries)
    store_rows(result, row, result_step, rows, summed * tl.where(sees, gain / total, 0.0)[:, None], WIDTH, PADDED)
    tl.store(log_sums + row, tl.where(sees, highest + tl.log2(total), float("inf")), mask=row < rows)


@triton.jit
def load_queries(
    row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries,
    WIDTH: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Of a tile of queries: themselves, their gradients, what the softmax takes from each row, and its log sum."""
    queries = load_rows(query, row, query_step, num_queries, WIDTH, PADDED)
    grads = load_rows(grad, row, grad_step, num_queries, WIDTH, PADDED)
    results = load_rows(result, row, result_step, num_queries, WIDTH, PADDED)
    taken = tl.sum(grads.to(tl.float32) * results.to(tl.float32), 1)
    return queries, grads, taken, tl.load(log_sums + row, mask=row < num_queries, other=float("inf"))


@triton.jit(do_not_specialize=[*INTEGERS, "query_tiles"])
def backward(
    query, key, value, result, log_sums, grad, query_grad, key_grad, value_grad,
    key_lengths, query_lengths, key_mask, bands, pairs, seeds,
    query_sample, query_head, query_step, key_sample, key_head, key_step, value_sample, value_head, value_step,
    result_sample, result_head, result_step, grad_sample, grad_head, grad_step,
    query_grad_sample, query_grad_head, query_grad_step, key_grad_sample, key_grad_head, key_grad_step,
    num_heads, num_pairs, num_queries, num_keys, total_queries, total_keys, band, threshold, gain, scale, query_tiles,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    DROPOUT: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    """The first ``query_tiles`` programs write the gradient of ROWS queries each, the others those of ROWS keys.

    Each computes the weights anew: nothing is added up between programs, so that the result is the same every time.
    """
    sample, head = tl.program_id(0) // num_heads, tl.program_id(0) % num_heads
    over_keys = tl.program_id(1) >= query_tiles
    if over_keys:
        pair, first, query_start, num_queries, key_start, num_keys, band = place(
            tl.program_id(1) - query_tiles, pairs, num_pairs, num_queries, num_keys, band, ROWS, True, MANY
        )
    else:
        pair, first, query_start, num_queries, key_start, num_keys, band = place(
            tl.program_id(1), pairs, num_pairs, num_queries, num_keys, band, ROWS, False, MANY
        )
    rows = tl.where(over_keys, num_keys, num_queries)
    num_queries, num_keys, band = limits(
        sample, pair, num_pairs, key_lengths, query_lengths, bands, num_queries, num_keys, band
    )
    if key_mask is not None:
        key_mask += sample.to(tl.int64) * total_keys + key_start
    query = at(query, sample, query_sample, head, query_head, query_start, query_step)
    key = at(key, sample, key_sample, head, key_head, key_start, key_step)
    value = at(value, sample, value_sample, head, value_head, key_start, value_step)
    result = at(result, sample, result_sample, head, result_head, query_start, result_step)
    grad = at(grad, sample, grad_sample, head, grad_head, query_start, grad_step)
    log_sums += tl.program_id(0).to(tl.int64) * total_queries + query_start
    seed = tl.load(seeds) if DROPOUT else 0
    stream = sample * num_pairs + pair
    own = first + tl.arange(0, ROWS)

    if over_keys:
        keys = load_rows(key, own, key_step, num_keys, WIDTH, PADDED)
        values = load_rows(value, own, value_step, num_keys, WIDTH, PADDED)
        real = shown_keys(own, num_keys, key_mask)
        of_keys, of_values = tl.zeros([ROWS, PADDED], tl.float32), tl.zeros([ROWS, PADDED], tl.float32)
        start = queries_start(first, num_queries, num_keys, band)
        for first_row in range(start, num_queries, KEYS):
            row = first_row + tl.arange(0, KEYS)
            queries, grads, taken, log_sum = load_queries(
                row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries, WIDTH, PADDED
            )
            scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale - log_sum[None, :]
            shown = real[:, None] & (own[:, None] - row[None, :] <= band)  # (key, query)
            weights = tl.exp2(tl.where(shown, scores, float("-inf")))
            of_weights = tl.dot(values, tl.trans(grads), input_precision=PRECISION) * gain
            dropped = weights
            if DROPOUT:
                keep = kept(seed, row, first, head, stream, threshold, ROWS, True)
                of_weights = tl.where(keep, of_weights, 0.0)
                dropped = tl.where(keep, weights, 0.0)
            of_values = tl.dot(dropped.to(grads.dtype), grads, of_values, input_precision=PRECISION)
            of_scores = weights * (of_weights - taken[None, :])
            of_keys = tl.dot(of_scores.to(queries.dtype), queries, of_keys, input_precision=PRECISION)
        shift = offset(sample, key_grad_sample, head, key_grad_head, key_start, key_grad_step)  # of both alike
        store_rows(key_grad + shift, own, key_grad_step, rows, of_keys * (scale * LN2), WIDTH, PADDED)
        store_rows(value_grad + shift, own, key_grad_step, rows, of_values * gain, WIDTH, PADDED)
    else:
        queries, grads, taken, log_sum = load_queries(
            own, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries, WIDTH, PADDED
        )
        of_queries = tl.zeros([ROWS, PADDED], tl.float32)
        last = keys_end(first, num_queries, num_keys, band, ROWS)
        for first_key in range(0, last, KEYS):
            column = first_key + tl.arange(0, KEYS)
            keys = load_rows(key, column, key_step, num_keys, WIDTH, PADDED)
            values = load_rows(value, column, value_step, num_keys, WIDTH, PADDED)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale - log_sum[:, None]
            shown = shown_keys(column, num_keys, key_mask)[None, :] & (column[None, :] - own[:, None] <= band)
            weights = tl.exp2(tl.where(shown, scores, float("-inf")))  # (query, key)
            of_weights = tl.dot(grads, tl.trans(values), input_precision=PRECISION) * gain
            if DROPOUT:
                keep = kept(seed, own, first_key, head, stream, threshold, KEYS, False)
                of_weights = tl.where(keep, of_weights, 0.0)
            of_scores = weights * (of_weights - taken[:, None])
            of_queries = tl.dot(of_scores.to(keys.dtype), keys, of_queries, input_precision=PRECISION)
        query_grad = at(query_grad, sample, query_grad_sample, head, query_grad_head, query_start, query_grad_step)
        store_rows(query_grad, own, query_grad_step, rows, of_queries * (scale * LN2), WIDTH, PADDED)
