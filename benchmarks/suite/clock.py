"""Seconds a call: by the host's clock on a CPU, by the device's events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.suite.point import Call

FLUSHED = 256 * 2**20  # bytes: more than any L2 cache holds

Clock = Callable[[Call, int], float]


def clock_of(device: str) -> Clock:
    """A function (call, count) -> mean seconds of that many calls in a row."""
    if device != "cuda":
        return host_seconds
    scratch = torch.empty(FLUSHED, dtype=torch.int8, device=device)

    def device_seconds(call: Call, count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        scratch.zero_()  # what the call reads is in memory, not in the cache that the call before it left
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    return device_seconds


def host_seconds(call: Call, count: int) -> float:
    """Mean seconds of ``count`` calls in a row."""
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count
