"""How fast the device is at three things, and so how long a piece of work must take at the least."""

from __future__ import annotations

from typing import NamedTuple

import torch

from benchmarks.suite.clock import clock_of
from benchmarks.suite.point import Work

FIELDS = ("flops", "exponentials", "bytes")


class Rates(NamedTuple):
    """A second's worth of float32 multiplications and additions, of float32 exponentials, and of bytes moved."""

    flops: float
    exponentials: float
    bytes: float


def measure_rates(device: str, quick: bool = False) -> Rates:
    """The best of several large matrix products, exponentials and copies, with as many threads as the run has.

    Exponentials are taken of what fits a cache, over and over, or memory would bound them too.
    """
    is_cuda = device == "cuda"
    side = 256 if quick else 8192 if is_cuda else 1536
    in_cache = 2**22 if is_cuda else 2**15
    copied = 2**20 if quick else 2**28 if is_cuda else 2**24
    a, b, c = (torch.randn(side, side, device=device) for _ in range(3))
    x = torch.randn(in_cache, device=device)
    y = torch.empty_like(x)
    source = torch.randn(copied, device=device)
    target = torch.empty_like(source)
    clock = clock_of(device)

    def best(call, count: int = 1) -> float:
        repeats = 2 if quick else 7
        return min(clock(call, count) for _ in range(repeats + 1))

    return Rates(
        2 * side**3 / best(lambda: torch.mm(a, b, out=c)),
        in_cache / best(lambda: torch.exp(x, out=y), 100),
        2 * 4 * copied / best(lambda: target.copy_(source)),
    )


def floor(work: Work, rates: Rates) -> tuple[float, str]:
    """Seconds, and which of the three terms they come from: they can overlap, so the largest bounds the whole."""
    seconds = {name: getattr(work, name) / getattr(rates, name) for name in FIELDS}
    term = max(seconds, key=lambda name: seconds[name])
    return seconds[term], term
