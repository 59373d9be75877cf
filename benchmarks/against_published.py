"""How near is this project's rebuilt network to the published DMD program, and what does a training step cost?

Runs a clone of the published program (github mdswyz/DMD, commit 516d4e1), which is no part of this project, beside
`dmd.released` in one process: same weights, same input, batch 16, sizes of MOSI. benchmarks/published_program.py says
how. Writes a CSV and a Markdown table. The published unaligned step takes half a minute and 8 GB.

    git clone https://github.com/mdswyz/DMD published
    python benchmarks/against_published.py --published published --setting both
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from published_program import import_published, published_models, published_step, published_trainer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.data import Batch
from dmd.released import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.released_weights import STEPS, UNIT_KEYS, to_network

KEYS = {"language": "text", "vision": "vision", "acoustic": "audio"}
NO_DROPOUT = {f"{name}_dropout": 0.0 for name in ("text", "embedding", "residual", "output")} | {
    "attention_dropout": dict.fromkeys((*NAMES, "memory"), 0.0)
}


def our_step(task: ReleasedTask, batch: Batch) -> Tensor:
    """The same work here; returns the loss."""
    task.zero_grad()
    loss = task(batch)["loss"]
    loss.backward()
    nn.utils.clip_grad_value_(task.parameters(), 0.6)
    return loss


def our_task(models: Any, config: ReleasedConfig) -> ReleasedTask:
    """The rebuilt network and GD-Units with the published ones' weights."""
    task = ReleasedTask(ReleasedNetwork(config), ReleasedObjective())
    task.model.load_state_dict(to_network(models[0].state_dict(), config))
    for unit, model in zip(task.units.values(), models[1:], strict=True):
        state = model.state_dict()
        unit.load_state_dict({ours: state[key] for key, ours in UNIT_KEYS.items()}, strict=False)
    return task


def draw(config: ReleasedConfig, batch_size: int, device: str) -> tuple[dict[str, Any], Batch]:
    """A random batch in both programs' forms; the last fifth of each sequence is padding."""
    inputs: dict[str, Tensor] = {}
    for name in NAMES:
        inputs[name] = torch.randn(batch_size, config.steps[name], config.input_dims[name], device=device)
        inputs[name][:, int(0.8 * config.steps[name]) :] = 0.0
    labels = (torch.randint(-15, 16, (batch_size,), device=device) / 5).float()
    masks = {name: torch.ones(x.shape[:2], dtype=torch.bool, device=device) for name, x in inputs.items()}
    published = {KEYS[name]: x for name, x in inputs.items()} | {"labels": {"M": labels}}
    return published, Batch(inputs, masks, labels, torch.arange(batch_size, device=device))


def largest_differences(published: dict[str, ModuleType], config: ReleasedConfig, device: str) -> dict[str, float]:
    """Of the outputs and of all gradients, without dropout, each over the largest value there is."""
    config = replace(config, **NO_DROPOUT)
    models = published_models(published, config, device)
    theirs, batch = draw(config, 16, device)
    task = our_task(models, config).to(device).train()
    with torch.no_grad():
        output = models[0](theirs["text"], theirs["audio"], theirs["vision"])["output_logit"][:, 0]
        own_output = task(batch)["output"]
    published_step(published, published_trainer(published, device), models, theirs, device)
    our_step(task, batch)
    wanted = {key: 0 * x if x.grad is None else x.grad for key, x in models[0].named_parameters()}
    wanted = to_network(wanted, config)
    own = {key: 0 * x if x.grad is None else x.grad for key, x in task.model.named_parameters()}
    gap = max((wanted[key] - x).abs().max().item() for key, x in own.items())
    return {
        "output difference": ((output - own_output).abs().max() / output.abs().max()).item(),
        "gradient difference": gap / max(x.abs().max().item() for x in wanted.values()),
    }


def resident(field: str) -> float:
    """A field of /proc/self/status in MB; NaN where there is no such file."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return float("nan")


def measure(step: Callable[[], Any], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of a step, by the clock and of all threads, and the most memory it holds above before, in MB."""
    if repeats > 1:  # a single step is one so long that it needs no warming up
        step()
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, peak = torch.cuda.memory_allocated() / 2**20, lambda: torch.cuda.max_memory_allocated() / 2**20
    else:
        with contextlib.suppress(OSError, AttributeError):  # Linux: give back what is free, and forget the last peak
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        before, peak = resident("VmRSS"), lambda: resident("VmHWM")
    seconds: list[float] = []
    work: list[float] = []
    for _ in range(repeats):
        started, worked = time.perf_counter(), time.process_time()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
    return {
        "seconds": statistics.median(seconds),
        "CPU seconds": statistics.median(work),
        "megabytes": peak() - before,
    }


def compare(published: dict[str, ModuleType], setting: str, quick: bool, device: str) -> list[dict[str, Any]]:
    """One row a program."""
    config = ReleasedConfig(steps=STEPS["mosi", setting])
    if quick:
        sizes = {"dim": 10, "num_heads": 2, "num_layers": 3, "memory_layers": 3}
        config = replace(config, steps={"language": 9, "vision": 20, "acoustic": 14}, **sizes)
    torch.manual_seed(0)
    found = largest_differences(published, config, device)
    models, trainer = published_models(published, config, device), published_trainer(published, device)
    own = our_task(models, config).to(device).train()
    fused = our_task(models, replace(config, attention_dropout=NO_DROPOUT["attention_dropout"])).to(device).train()
    theirs, batch = draw(config, 16, device)
    programs: dict[str, Callable[[], Any]] = {
        "published": lambda: published_step(published, trainer, models, theirs, device),
        "ours": lambda: our_step(own, batch),
        "ours, no attention dropout": lambda: our_step(fused, batch),
    }
    rows: list[dict[str, Any]] = []
    for name, step in programs.items():
        repeats = 1 if quick else {"aligned": 7, "unaligned": 3}[setting]
        once = name == "published" and setting == "unaligned"
        row: dict[str, Any] = {"setting": setting, "program": name} | measure(step, 1 if once else repeats, device)
        first = rows[0] if rows else row
        for title, column in (("times faster", "seconds"), ("times less work", "CPU seconds")):
            row[title] = first[column] / row[column]
        row["memory share"] = row["megabytes"] / first["megabytes"]
        rows.append(row | (found if name == "ours" else dict.fromkeys(found, None)))
    return rows


def write(rows: list[dict[str, Any]], out: Path) -> str:
    """A CSV, and a Markdown table, which is returned."""
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(map(cell, row.values())) + " |" for row in rows]
    table = "\n".join(["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|", *lines])
    out.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    return table


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="folder of the clone")
    parser.add_argument("--setting", choices=("aligned", "unaligned", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one step: does it run?")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/against_published"), help="of the CSV and Markdown files"
    )
    arguments = parser.parse_args()
    try:
        published = import_published(arguments.published)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    settings = ("aligned", "unaligned") if arguments.setting == "both" else (arguments.setting,)
    rows = [row for setting in settings for row in compare(published, setting, arguments.quick, arguments.device)]
    print(write(rows, arguments.out))


if __name__ == "__main__":
    main()
