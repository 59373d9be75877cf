"""Attention of heads up to 8 wide in exact float32: one thread holds a query (or a key), its width is unrolled.

A matrix unit wants a width of 16 and rounds float32 to 19 bits; here width 5 costs five multiply-adds, exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdkit.kernels._columns import (
    add_products,
    add_sums,
    key_scores,
    load_columns,
    load_queries,
    outer,
    scale_columns,
    store_columns,
    zero_columns,
)
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
def attend(
    state, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, row, band,
    seed, sample, head, threshold,
    WIDTH: tl.constexpr, KEYS: tl.constexpr, EDGE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """A tile of keys more: every query's highest score, sum of weights, and weighted sum of values."""
    highest, total, summed = state
    column = first_key + tl.arange(0, KEYS)
    keys = load_columns(key, column, key_step, num_keys, WIDTH, not EDGE)
    start = tl.zeros([KEYS, row.shape[0]], tl.float32)
    scores = key_scores(start, column, keys, key_mask, num_keys, queries, row, band, WIDTH, EDGE)
    raised = tl.maximum(highest, tl.max(scores, 0))
    decay = tl.exp2(highest - raised)
    weights = tl.exp2(scores - raised[None, :])  # (key, query)
    total = total * decay + tl.sum(weights, 0)
    if DROPOUT:
        weights = tl.where(kept(seed, row, first_key, head, sample, threshold, KEYS, True), weights, 0.0)
    values = load_columns(value, column, value_step, num_keys, WIDTH, not EDGE)
    return raised, total, add_sums(summed, decay, weights, values, WIDTH)


@triton.jit(do_not_specialize=INTEGERS)
def forward(
    query, key, value, result, log_sums, key_lengths, query_lengths, key_mask, bands, pairs, seeds,
    query_sample, query_head, query_step, key_sample, key_head, key_step, value_sample, value_head, value_step,
    result_sample, result_head, result_step,
    num_heads, num_pairs, num_queries, num_keys, total_queries, total_keys, band, threshold, gain, scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, DROPOUT: tl.constexpr, MANY: tl.constexpr,
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
    queries = scale_columns(load_columns(query, row, query_step, num_queries, WIDTH, False), scale, WIDTH)
    state = (tl.full([ROWS], LOWEST, tl.float32), tl.zeros([ROWS], tl.float32), zero_columns([ROWS], WIDTH))
    last = keys_end(first, num_queries, num_keys, band, ROWS)
    whole = tl.minimum(tl.maximum(first + band + 1, 0), last) // KEYS * KEYS  # up to here every row sees every key
    for first_key in range(0, whole, KEYS):
        state = attend(
            state, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, row, band,
            seed, stream, head, threshold, WIDTH, KEYS, False, DROPOUT,
        )  # fmt: skip
    for first_key in range(whole, last, KEYS):
        state = attend(
            state, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, row, band,
            seed, stream, head, threshold, WIDTH, KEYS, True, DROPOUT,
        )  # fmt: skip
    highest, total, summed = state
    result = at(result, sample, result_sample, head, result_head, query_start, result_step)
    log_sums += tl.program_id(0).to(tl.int64) * total_queries + query_start
    sees = (total > 0) & (row < num_queries)
    store_columns(result, row, result_step, rows, summed, tl.where(sees, gain / total, 0.0), WIDTH)
    tl.store(log_sums + row, tl.where(sees, highest + tl.log2(total), float("inf")), mask=row < rows)


@triton.jit
def query_gradient(
    total, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, grads, log_sum, taken, row, band,
    seed, sample, head, threshold,
    WIDTH: tl.constexpr, KEYS: tl.constexpr, EDGE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """A tile of keys more in the gradient of the queries."""
    column = first_key + tl.arange(0, KEYS)
    keys = load_columns(key, column, key_step, num_keys, WIDTH, not EDGE)
    start = tl.broadcast_to(-log_sum[None, :], (KEYS, row.shape[0]))
    scores = key_scores(start, column, keys, key_mask, num_keys, queries, row, band, WIDTH, EDGE)
    values = load_columns(value, column, value_step, num_keys, WIDTH, not EDGE)
    of_weights = outer(tl.broadcast_to(-taken[None, :], (KEYS, row.shape[0])), values, grads, WIDTH)
    if DROPOUT:
        keep = kept(seed, row, first_key, head, sample, threshold, KEYS, True)
        of_weights = tl.where(keep, of_weights, -taken[None, :])
    return add_sums(total, 1.0, tl.exp2(scores) * of_weights, keys, WIDTH)


@triton.jit
def key_gradient(
    state, first_row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries, keys, values,
    column, first_key, band, scale, gain, seed, sample, head, threshold,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, EDGE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """A tile of queries more in the gradients of the keys and the values, whose sums over queries come at the end."""
    of_keys, of_values = state
    row = first_row + tl.arange(0, ROWS)
    queries, grads, taken, log_sum = load_queries(
        row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries, scale, gain, ROWS, WIDTH
    )
    scores = outer(tl.broadcast_to(-log_sum[None, :], (KEYS, ROWS)), keys, queries, WIDTH)  # (key, query)
    if EDGE:
        scores = tl.where(column[:, None] - row[None, :] <= band, scores, float("-inf"))
    weights = tl.exp2(scores)
    of_weights = outer(tl.broadcast_to(-taken[None, :], (KEYS, ROWS)), values, grads, WIDTH)
    dropped = weights
    if DROPOUT:
        keep = kept(seed, row, first_key, head, sample, threshold, KEYS, True)
        of_weights = tl.where(keep, of_weights, -taken[None, :])
        dropped = tl.where(keep, weights, 0.0)
    of_values = add_products(of_values, dropped, grads, WIDTH)
    return add_products(of_keys, weights * of_weights, queries, WIDTH), of_values


@triton.jit(do_not_specialize=[*INTEGERS, "query_tiles"])
def backward(
    query, key, value, result, log_sums, grad, query_grad, key_grad, value_grad,
    key_lengths, query_lengths, key_mask, bands, pairs, seeds,
    query_sample, query_head, query_step, key_sample, key_head, key_step, value_sample, value_head, value_step,
    result_sample, result_head, result_step, grad_sample, grad_head, grad_step,
    query_grad_sample, query_grad_head, query_grad_step, key_grad_sample, key_grad_head, key_grad_step,
    num_heads, num_pairs, num_queries, num_keys, total_queries, total_keys, band, threshold, gain, scale, query_tiles,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, OWN_KEYS: tl.constexpr, LANES: tl.constexpr,
    DROPOUT: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    """The first ``query_tiles`` programs write the gradient of ROWS queries each, the others those of OWN_KEYS keys.

    Each computes the weights anew: nothing is added up between programs, so that the result is the same every time.
    """
    sample, head = tl.program_id(0) // num_heads, tl.program_id(0) % num_heads
    over_keys = tl.program_id(1) >= query_tiles
    if over_keys:
        pair, first, query_start, num_queries, key_start, num_keys, band = place(
            tl.program_id(1) - query_tiles, pairs, num_pairs, num_queries, num_keys, band, OWN_KEYS, True, MANY
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

    if over_keys:
        column = first + tl.arange(0, OWN_KEYS)
        keys = load_columns(key, column, key_step, num_keys, WIDTH, False)
        values = load_columns(value, column, value_step, num_keys, WIDTH, False)
        state = (zero_columns([OWN_KEYS, LANES], WIDTH), zero_columns([OWN_KEYS, LANES], WIDTH))
        start = queries_start(first, num_queries, num_keys, band)
        edge = tl.maximum(first + OWN_KEYS - 1 - band - start, 0)  # from here on every query sees every key
        whole = tl.minimum(start + tl.cdiv(edge, LANES) * LANES, num_queries)
        for first_row in range(start, whole, LANES):
            state = key_gradient(
                state, first_row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries,
                keys, values, column, first, band, scale, gain, seed, stream, head, threshold,
                WIDTH, LANES, OWN_KEYS, True, DROPOUT,
            )  # fmt: skip
        for first_row in range(whole, num_queries, LANES):
            state = key_gradient(
                state, first_row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries,
                keys, values, column, first, band, scale, gain, seed, stream, head, threshold,
                WIDTH, LANES, OWN_KEYS, False, DROPOUT,
            )  # fmt: skip
        real = shown_keys(column, num_keys, key_mask)
        of_keys, of_values = state
        shift = offset(sample, key_grad_sample, head, key_grad_head, key_start, key_grad_step)  # of both alike
        for number in tl.static_range(WIDTH):
            target = shift + column * key_grad_step + number
            of_key, of_value = tl.sum(of_keys[number], 1) * LN2, tl.sum(of_values[number], 1)
            tl.store(key_grad + target, tl.where(real, of_key, 0.0), mask=column < rows)
            tl.store(value_grad + target, tl.where(real, of_value, 0.0), mask=column < rows)
    else:
        row = first + tl.arange(0, ROWS)
        queries, grads, taken, log_sum = load_queries(
            row,
            query,
            query_step,
            result,
            result_step,
            grad,
            grad_step,
            log_sums,
            num_queries,
            scale,
            gain,
            ROWS,
            WIDTH,
        )
        total = zero_columns([ROWS], WIDTH)
        last = keys_end(first, num_queries, num_keys, band, ROWS)
        whole = tl.minimum(tl.maximum(first + band + 1, 0), last) // KEYS * KEYS
        for first_key in range(0, whole, KEYS):
            total = query_gradient(
                total, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, grads, log_sum, taken,
                row, band, seed, stream, head, threshold, WIDTH, KEYS, False, DROPOUT,
            )  # fmt: skip
        for first_key in range(whole, last, KEYS):
            total = query_gradient(
                total, first_key, key, key_step, value, value_step, key_mask, num_keys, queries, grads, log_sum, taken,
                row, band, seed, stream, head, threshold, WIDTH, KEYS, True, DROPOUT,
            )  # fmt: skip
        query_grad = at(query_grad, sample, query_grad_sample, head, query_grad_head, query_start, query_grad_step)
        store_columns(query_grad, row, query_grad_step, rows, total, scale * LN2, WIDTH)
