"""The most bytes that a call holds at once, above what was held before it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.suite.point import Call

KINDS = {
    "cpu": "PyTorch's CPU allocator, by torch.profiler",
    "cuda": "torch.cuda.max_memory_allocated",
    "host": "PyTorch's CPU allocator, by torch.profiler, and numpy's arrays, by tracemalloc: the sum of both peaks",
    "command": "not measured: a process of its own",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the profiler's C++ code prints on each start and stop; no option of it does that."""
    with tempfile.TemporaryFile() as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def peak_cpu(call: Call) -> tuple[int, Any]:
    """Bytes, and what the call returns.

    Every allocation of PyTorch's CPU allocator counts, also inside an operation; scratch space that a library such as
    oneDNN takes for itself does not.
    """
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with quiet():
        profiler.__enter__()
    try:
        result = call()
    finally:
        with quiet():
            profiler.__exit__(None, None, None)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, result


def peak_cuda(call: Call) -> tuple[int, Any]:
    """Bytes, and what the call returns."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, result


def peak_host(call: Call) -> tuple[int, Any]:
    """Bytes with those of numpy, and what the call returns; the two peaks need not fall together, so at most that."""
    of_torch, _ = peak_cpu(call)
    tracemalloc.start()
    try:
        result = call()
        return of_torch + tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()
