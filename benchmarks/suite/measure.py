"""Every provider of a point, in every mode: what a call costs, and how long it takes beside the others."""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.suite.clock import Clock, clock_of
from benchmarks.suite.counters import count_cpu, count_cuda, tensors
from benchmarks.suite.floors import Rates, floor
from benchmarks.suite.memory import KINDS, peak_cpu, peak_cuda, peak_host
from benchmarks.suite.point import Call, Point, Skipped

SHORTEST = 2e-3  # seconds of one reading on a CPU: shorter calls are read several at a time
SLOW = 5.0  # seconds for finding the costs of a call, from which it is timed once alone
MANY = 100_000  # operations from which the profiler's record of them would take gigabytes


class Effort(NamedTuple):
    """How many rounds: at least ``least``, then on to ``most`` while the seconds of ``budget`` last."""

    least: int = 3
    most: int = 25
    budget: float = 2.0


class Cost(NamedTuple):
    """Of one call: peak bytes, operations or kernels, waits; and what it returned."""

    memory: int | None
    launches: int | None
    syncs: int | None
    returned: list[torch.Tensor]
    seconds: float


def cost_of(call: Call, device: str, is_compiled: bool = False) -> Cost:
    """Costs, in runs of their own, which are slower than the timed ones and warm them up."""
    started = time.perf_counter()
    if device == "cuda":
        call()  # caches of plans and workspaces fill here
        launches, syncs, _ = count_cuda(call)
        memory, result = peak_cuda(call)
    elif device == "command":
        memory = launches = syncs = None
        result = call()
    elif device == "host":
        launches = syncs = None
        memory, result = peak_host(call)
    elif is_compiled:
        call()  # compiles
        launches = syncs = None
        started = time.perf_counter()
        memory, result = peak_cpu(call)
    else:
        launches, syncs, result = count_cpu(call)
        memory, _ = (None, None) if launches > MANY else peak_cpu(call)
    return Cost(memory, launches, syncs, tensors(result), time.perf_counter() - started)


def interleave(
    calls: Mapping[str, Call], clock: Clock, counts: Mapping[str, int], once: set[str], effort: Effort, seed: int = 0
) -> dict[str, list[float]]:
    """Seconds a call in each round; a round has every provider once, in an order of its own.

    So whatever else the machine does in a round falls on all of them. Those in ``once`` sit out after the first round.
    """
    order, generator = list(calls), random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for done in itertools.count():
            if done >= effort.most or (done >= effort.least and time.perf_counter() - started > effort.budget):
                return seconds
            generator.shuffle(order)
            for name in order:
                sits_out = done > 0 and name in once
                seconds[name].append(math.nan if sits_out else clock(calls[name], counts[name]))
            if len(once) == len(calls):
                return seconds
    finally:
        gc.enable()
    raise AssertionError("unreachable")


def difference(values: list[torch.Tensor], wanted: list[torch.Tensor]) -> float | None:
    """Largest difference of two results over the largest value; of tensors of different layouts, none is taken."""
    pairs = [(a.double(), b.double()) for a, b in zip(values, wanted) if a.shape == b.shape and b.numel()]
    if not pairs:
        return None
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item() for a, b in pairs)


def quantiles(values: list[float]) -> list[float]:
    """The 20 %, 50 % and 80 % quantiles of what is no NaN."""
    return np.nanquantile(np.array(values), [0.2, 0.5, 0.8]).tolist()


def prepare(point: Point, mode: str, device: str) -> tuple[dict[str, Call], dict[str, Cost], dict[str, str]]:
    """The calls that work, what they cost, and why the others do not."""
    calls: dict[str, Call] = {}
    costs: dict[str, Cost] = {}
    reasons: dict[str, str] = {}
    for name, provider in point.providers.items():
        try:
            torch.manual_seed(0)
            call = provider(mode)
            costs[name] = cost_of(call, device, name in point.compiled)
            calls[name] = call
        except Skipped as reason:
            reasons[name] = str(reason)
        except Exception as error:  # whatever a rival cannot do must not end the run, and is said in its row
            reasons[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return calls, costs, reasons


def measure_point(case: str, point: Point, device: str, rates: Rates, effort: Effort) -> Iterator[dict[str, Any]]:
    """A row for every mode and provider; the clock's columns come in seconds."""
    device = "command" if point.is_command else "host" if point.on_host else device
    clock = clock_of(device)
    for mode, work in point.work.items():
        calls, costs, reasons = prepare(point, mode, device)
        once = {name for name, cost in costs.items() if cost.seconds > SLOW}
        counts = dict.fromkeys(calls, 1)
        if device != "cuda":
            for name in set(calls) - once:
                counts[name] = min(1000, math.ceil(SHORTEST / max(clock(calls[name], 1), 1e-9)))
        timed = interleave(calls, clock, counts, once, effort)
        least, term = (None, None) if work is None else floor(work, rates)
        for name in point.providers:
            row: dict[str, Any] = {"case": case, "sweep": point.sweep, "x": point.x, "mode": mode, "provider": name}
            row["sizes"] = ", ".join(f"{key}={value}" for key, value in point.sizes.items())
            row |= {"baseline": point.baseline, "floor_seconds": least, "floor_term": term, "memory_by": KINDS[device]}
            if name in reasons:
                yield row | {"skipped": reasons[name]}
                continue
            cost, low_mid_high = costs[name], quantiles(timed[name])
            row |= dict(zip(("seconds_20", "seconds", "seconds_80"), low_mid_high))
            row |= {"runs": int(np.isfinite(timed[name]).sum()), "calls_a_run": counts[name]}
            row |= {"memory_bytes": cost.memory, "launches": cost.launches, "syncs": cost.syncs}
            if least is not None:
                row["floor_percent"] = 100 * least / row["seconds"]
            if point.samples:
                row["samples_per_second"] = point.samples / row["seconds"]
            if point.baseline in timed:
                ratios = [a / b for a, b in zip(timed[point.baseline], timed[name])]
                row |= dict(zip(("times_faster_20", "times_faster", "times_faster_80"), quantiles(ratios)))
                if not point.sizes.get("dropout"):  # else each draws its own
                    row["difference"] = difference(cost.returned, costs[point.baseline].returned)
            yield row
        del calls, costs
