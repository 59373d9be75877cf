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
