"""Attention alone: lengths at the width of the published heads, widths at its longest pair, dropout and band.

Every provider gets heads (batch, heads, time, width), as a projection leaves them in memory, and builds what mask it
needs within the call.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from benchmarks.suite.cases.attention_ours import our_providers
from benchmarks.suite.cases.attention_rivals import Options, rival_providers
from benchmarks.suite.point import Point, Settings, Work, by_mode

HEADS, BATCH = 10, 16
LENGTHS = ((16, 16), (50, 50), (128, 128), (371, 496), (496, 371), (496, 496), (1000, 1000), (2000, 2000))
WIDTHS = (4, 5, 8, 10, 16, 32, 64)
LONG, NARROW = (371, 496), 5
# (dropout, is there a band): nothing, what the published program trains with, and each alone.
NEITHER, BOTH = (0.0, False), (0.1, True)
EITHER = ((0.0, True), (0.1, False))
EITHER_NAME = f"{LONG[0]}x{LONG[1]} at width {NARROW}, dropout or band alone"
CPU_SCORES = 6_000_000  # at most so many a call, or a single sample: about 0.3 s in the slowest provider


def visible_scores(num_queries: int, num_keys: int, band: int | None) -> int:
    """How many keys all queries see together."""
    if band is None:
        return num_queries * num_keys
    return sum(max(0, min(num_keys, query + band + 1)) for query in range(num_queries))


def attention_work(
    batch: int, heads: int, num_queries: int, num_keys: int, width: int, band: int | None
) -> dict[str, Work]:
    """Two products of every visible score forward, five and its exponential again backward; tensors moved once."""
    scores = batch * heads * visible_scores(num_queries, num_keys, band)
    queries, keys = (4 * batch * heads * time * width for time in (num_queries, num_keys))  # bytes of each tensor
    forward = Work(4 * width * scores, scores, 2 * queries + 2 * keys)
    backward = Work(10 * width * scores, scores, 4 * queries + 4 * keys)
    return by_mode(forward, backward)


def combinations(settings: Settings) -> Iterator[tuple[str, tuple[int, int], int, tuple[float, bool]]]:
    """(sweep, lengths, width, (dropout, is there a band)) of every point."""
    if settings.quick:
        yield from (("length", (9, 12), 5, BOTH), ("width", (9, 12), 16, NEITHER))
        return
    lines = {"no dropout, no band": NEITHER, "dropout 0.1, band": BOTH}
    for name, line in lines.items():
        if settings.device == "cuda":
            for width, lengths in itertools.product(WIDTHS, LENGTHS):
                yield f"length at width {width}, {name}", lengths, width, line
        else:
            for lengths in LENGTHS:
                yield f"length at width {NARROW}, {name}", lengths, NARROW, line
            for width in WIDTHS if line == NEITHER else ():
                yield f"width, {name}", LONG, width, line
    for line in EITHER:
        yield EITHER_NAME, LONG, NARROW, line


def points(settings: Settings) -> Iterator[Point]:
    """The sweeps above; on a CPU the batch shrinks with the lengths, as the rows say."""
    for sweep, (num_queries, num_keys), width, (dropout, has_band) in combinations(settings):
        batch = 2 if settings.quick else BATCH
        if settings.device == "cpu":
            batch = max(1, min(batch, CPU_SCORES // (HEADS * num_queries * num_keys)))
        options = Options(dropout, abs(num_keys - num_queries) if has_band else None)
        generator = torch.Generator().manual_seed(0)
        query, key, value = (
            torch.randn(batch, time, HEADS, width, generator=generator).transpose(1, 2).to(settings.device)
            for time in (num_queries, num_keys, num_keys)
        )
        providers = rival_providers(query, key, value, options, settings)
        providers |= our_providers(query, key, value, options)
        lengths = str(num_queries) if num_queries == num_keys else f"{num_queries}x{num_keys}"
        x = str(width) if sweep.startswith("width") else "" if sweep == EITHER_NAME else lengths
        sizes = {"batch": batch, "heads": HEADS, "queries": num_queries, "keys": num_keys, "width": width}
        sizes |= {"dropout": dropout, "band": "none" if options.band is None else options.band}
        work = attention_work(batch, HEADS, num_queries, num_keys, width, options.band)
        counted, compiled = work, frozenset({"FlexAttention"})
        yield Point(sweep, x, sizes, providers, "bmm, built mask", counted, compiled=compiled)
