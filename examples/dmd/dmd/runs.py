"""The runs of one command: one, or one a seed with a summary over them; new, resumed or already finished."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .checkpoint import default_folder, describe, holds_run, read_config, saved_processes, write_config
from .command import writable_folder
from .config import RunConfig
from .data import Recordings
from .report import results_table, summary_table, write_json, write_text
from .text import with_text
from .training import Run


def prepare_runs(config: RunConfig, seeds: Sequence[int], recordings: Recordings, *, resume: bool) -> list[Run]:
    """Check everything that can be checked before training starts.

    Raises:
        ValueError, OSError: as :class:`Run` does, for any of the seeds.
    """
    recordings = with_text(recordings, config)
    root = Path(config.out or default_folder(config.data))
    configs = [replace(config, seed=seed, out=str(root / f"seed-{seed}")) for seed in seeds]
    if seeds and holds_run(root):
        raise ValueError(f"{root} holds a single run; runs over seeds need another --out")
    if seeds and not resume and any(map(holds_run, root.glob("seed-*"))):
        raise ValueError(f"{root} already holds runs; --resume {root} goes on, another --out starts anew")
    if not seeds and (root / "seeds.json").is_file():
        raise ValueError(f"{root} holds runs over seeds {saved_seeds(root)}; a single run needs another --out")
    runs = [Run(one, recordings, resume=resume) for one in configs or [replace(config, out=str(root))]]
    if seeds and runs[0].accelerator.is_main_process:
        # First: without this list, a kill in what follows would leave something that looks like a single run.
        write_json(writable_folder(root) / "seeds.json", list(seeds))
    for run in runs:
        writable_folder(run.out)
        if resume:
            _warn_about_batches(run)
        if run.accelerator.is_main_process:
            write_config(run.out, run.config, describe(run.recordings), run.accelerator.num_processes)
    return runs


def _warn_about_batches(run: Run) -> None:
    """Going on with batches of another size, in all processes together, is allowed, and not the same run."""
    if (run.out / "config.json").is_file():
        before = read_config(run.out)[0].batch_size * saved_processes(run.out)
        now = run.config.batch_size * run.accelerator.num_processes
        if before != now:
            text = f"{run.out}: a step had {before} samples of all processes until now, and has {now} from here on"
            warnings.warn(text, stacklevel=2)


def saved_seeds(root: Path) -> list[int]:
    """The seeds that a run over several was started with; none where there is no such run.

    Raises:
        ValueError: seeds.json is damaged.
    """
    path = root / "seeds.json"
    if not path.is_file():
        return []
    try:
        return [int(seed) for seed in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: it must be a list of whole numbers") from error


def run_folders(root: Path) -> list[Path]:
    """The folders of the runs in `root`: one a seed, as train.py or reproduce.py leaves them, or `root` itself.

    Raises:
        ValueError: seeds.json is damaged.
    """
    seeds = saved_seeds(root)
    if not seeds:  # reproduce.py has no list of them
        found = (folder.name.removeprefix("seed-") for folder in root.glob("seed-*") if holds_run(folder))
        seeds = sorted(int(seed) for seed in found if seed.isdecimal())
    return [root / f"seed-{seed}" for seed in seeds] or [root]


def finish(run: Run) -> dict[str, Any]:
    """Train to the end where that is not done, show the result, and return it."""
    if run.is_finished:
        run.accelerator.print(f"{run.out} is finished; nothing to do")
        results = json.loads((run.out / "results.json").read_text(encoding="utf-8"))
    else:
        results = run.train()
    page = run.out / "report.html"
    report = f"; look at {page} first" if page.is_file() else ""
    run.accelerator.print(f"\n{results_table(results)}\n\nEverything is in {run.out}{report}")
    return results


def summarise(root: Path, results: Sequence[dict[str, Any]]) -> str:
    """Write mean and standard deviation over the seeds as summary.json and summary.md, and return the table."""
    table, summary = summary_table(results)
    write_json(root / "summary.json", summary)
    write_text(root / "summary.md", table + "\n")
    return table
