"""The runs of one command: one, or one a seed with a summary over them; new, resumed or already finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config import RunConfig
from .data import Recordings
from .report import results_table, summary_table, write_json, write_text
from .training import Run


def prepare_runs(config: RunConfig, seeds: Sequence[int], recordings: Recordings, *, resume: bool) -> list[Run]:
    """Check everything that can be checked before training starts.

    Raises:
        ValueError, OSError: as :class:`Run` does, for any of the seeds.
    """
    if not seeds:
        return [Run(config, recordings, resume=resume)]
    root = Path(config.out or "")
    runs = [
        Run(replace(config, seed=seed, out=str(root / f"seed-{seed}")), recordings, resume=resume) for seed in seeds
    ]
    if runs[0].accelerator.is_main_process:
        write_json(root / "seeds.json", list(seeds))
    return runs


def saved_seeds(root: Path) -> list[int]:
    """The seeds that a run over several was started with."""
    path = root / "seeds.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def finish(run: Run) -> dict[str, Any]:
    """Train to the end where that is not done, show the result, and return it."""
    if run.is_finished:
        run.accelerator.print(f"{run.out} is finished; nothing to do")
        results = json.loads((run.out / "results.json").read_text(encoding="utf-8"))
    else:
        results = run.train()
    run.accelerator.print(f"\n{results_table(results)}\n\nEverything is in {run.out}")
    return results


def summarise(root: Path, results: Sequence[dict[str, Any]]) -> str:
    """Write mean and standard deviation over the seeds as summary.json and summary.md, and return the table."""
    table, summary = summary_table(results)
    write_json(root / "summary.json", summary)
    write_text(root / "summary.md", table + "\n")
    return table
