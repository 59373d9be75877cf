"""A tile of a narrow matrix as a tuple of its columns, each a vector over the rows: the width is unrolled."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_columns(pointer, row, stride, count, WIDTH: tl.constexpr, WHOLE: tl.constexpr):
    """A tile's rows (rows, width) as one vector for each column; zeros past ``count`` unless the tile is whole."""
    columns = ()
    for column in tl.static_range(WIDTH):
        place = pointer + row * stride + column
        values = tl.load(place) if WHOLE else tl.load(place, mask=row < count, other=0.0)
        columns = columns + (values.to(tl.float32),)
    return columns


@triton.jit
def store_columns(pointer, row, stride, count, columns, factor, WIDTH: tl.constexpr):
    """Writes what :func:`load_columns` reads, times a factor (one, or one for each row)."""
    for column in tl.static_range(WIDTH):
        tl.store(pointer + row * stride + column, (columns[column] * factor).to(pointer.dtype.element_ty), row < count)


@triton.jit
def zero_columns(SHAPE: tl.constexpr, WIDTH: tl.constexpr):
    columns = ()
    for _ in tl.static_range(WIDTH):
        columns = columns + (tl.zeros(SHAPE, tl.float32),)
    return columns


@triton.jit
def scale_columns(columns, factor, WIDTH: tl.constexpr):
    scaled = ()
    for column in tl.static_range(WIDTH):
        scaled = scaled + (columns[column] * factor,)
    return scaled


@triton.jit
def outer(start, a, b, WIDTH: tl.constexpr):
    """Start + a b^T, a product of columns at a time: a starting value costs nothing."""
    for column in tl.static_range(WIDTH):
        start = start + a[column][:, None] * b[column][None, :]
    return start


@triton.jit
def inner(a, b, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """The product of each row of a with the same row of b."""
    total = tl.zeros([ROWS], tl.float32)
    for column in tl.static_range(WIDTH):
        total += a[column] * b[column]
    return total


@triton.jit
def add_sums(total, decay, weights, columns, WIDTH: tl.constexpr):
    """Total * decay + weights^T columns: sums over the first axis, which lies within a thread."""
    result = ()
    for column in tl.static_range(WIDTH):
        result = result + (total[column] * decay + tl.sum(weights * columns[column][:, None], 0),)
    return result


@triton.jit
def add_products(total, weights, columns, WIDTH: tl.constexpr):
    """Each of the sums (key, query), plus weights times a column of the queries."""
    result = ()
    for column in tl.static_range(WIDTH):
        result = result + (total[column] + weights * columns[column][None, :],)
    return result


@triton.jit
def load_queries(
    row, query, query_step, result, result_step, grad, grad_step, log_sums, num_queries, scale, gain,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Of a tile of queries: themselves, their gradients, what the softmax takes from each row, and its log sum."""
    queries = scale_columns(load_columns(query, row, query_step, num_queries, WIDTH, False), scale, WIDTH)
    grads = load_columns(grad, row, grad_step, num_queries, WIDTH, False)
    taken = inner(grads, load_columns(result, row, result_step, num_queries, WIDTH, False), ROWS, WIDTH)
    log_sum = tl.load(log_sums + row, mask=row < num_queries, other=float("inf"))
    return queries, scale_columns(grads, gain, WIDTH), taken, log_sum


@triton.jit
def key_scores(start, column, keys, key_mask, num_keys, queries, row, band, WIDTH: tl.constexpr, EDGE: tl.constexpr):
    """Start + the scores (key, query) of a tile, minus infinity where a key is hidden."""
    if key_mask is not None:
        real = tl.load(key_mask + column, mask=column < num_keys, other=0) != 0
        start = start + tl.where(real, 0.0, float("-inf"))[:, None]
    scores = outer(start, keys, queries, WIDTH)
    if EDGE:
        shown = (column < num_keys)[:, None] & (column[:, None] - row[None, :] <= band)
        scores = tl.where(shown, scores, float("-inf"))
    return scores
