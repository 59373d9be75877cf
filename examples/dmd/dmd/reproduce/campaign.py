"""The runs behind tables and figures: which are there already, and the others, one after another or side by side."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import torch
from tqdm import tqdm

from ..checkpoint import check_same_run, describe, holds_run, write_config
from ..command import writable_folder
from ..config import RunConfig, without_modalities
from ..data import Recordings, load
from ..stopping import Stopped
from ..text import with_text
from ..training import Run
from .variants import Variant, changed, folder_name

# Where a run computes changes none of what it is to find.
FREE_FIELDS = ("out", "device", "num_workers", "graph", "trackers", "pictures", "max_skipped_steps", "checkpoint_every")


def run_folder(root: Path, base: RunConfig, variant: Variant, seed: int) -> Path:
    """Where a variant's run with this seed is."""
    return root / "runs" / folder_name(base, variant) / f"seed-{seed}"


def plan_runs(root: Path, base: RunConfig, variants: Iterable[Variant], seeds: Sequence[int]) -> list[RunConfig]:
    """One configuration a run, each run once; all variants of the first seed come first."""
    runs: dict[Path, RunConfig] = {}
    variants = list(variants)
    for seed in seeds:
        for variant in variants:
            folder = run_folder(root, base, variant, seed)
            runs[folder] = replace(changed(base, variant.changes), seed=seed, out=str(folder), pictures=False)
    return list(runs.values())


def unfinished(runs: Sequence[RunConfig], recordings: Recordings) -> list[RunConfig]:
    """The runs that have no results yet.

    Raises:
        ValueError: a folder holds a run of another configuration or other data.
    """
    missing = []
    for config in runs:
        folder = Path(config.out or "")
        if holds_run(folder):
            same = without_modalities(config, recordings.names)
            check_same_run(folder, same, recordings, free=FREE_FIELDS, hint="; choose another --out")
        if not (folder / "results.json").is_file():
            missing.append(config)
    return missing


def check(runs: Sequence[RunConfig]) -> None:
    """Build every kind of run once, so that what is wrong with a configuration is said before any starts.

    Raises:
        ValueError, OSError: as :class:`dmd.training.Run` does.
    """
    kinds = {Path(config.out or "").parent: config for config in runs}
    for config in kinds.values():
        Run(config, recordings_for(config), resume=holds_run(Path(config.out or "")))
        writable_folder(Path(config.out or ""))


def train_all(runs: Sequence[RunConfig], jobs: int, total: int) -> list[str]:
    """Train, `jobs` runs at a time, and return what went wrong, a line a run; the others are trained all the same.

    Args:
        runs: that are not finished.
        jobs: processes; 1: this one.
        total: runs of the command, finished ones too: what the progress bar counts.
    """
    failures: list[str] = []
    with tqdm(total=total, initial=total - len(runs), desc="runs", disable=None, dynamic_ncols=True) as bar:

        def done(config: RunConfig, failure: str | None) -> None:
            folder = Path(config.out or "")
            label = f"{folder.parent.name}, seed {config.seed}"
            if failure is not None:
                failures.append(f"{label}: {failure}")
            bar.write(f"{label}: {failure or 'finished'}")
            bar.update()

        _spread(runs, jobs, done) if jobs > 1 else _in_turn(runs, done)
    return failures


def _in_turn(runs: Sequence[RunConfig], done: Callable[[RunConfig, str | None], None]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes below: the number of threads changes the last digits
    try:
        for config in runs:
            done(config, train_one(config))
    finally:
        torch.set_num_threads(threads)


def _spread(runs: Sequence[RunConfig], jobs: int, done: Callable[[RunConfig, str | None], None]) -> None:
    context = get_context("spawn")
    with ProcessPoolExecutor(min(jobs, max(1, len(runs))), mp_context=context, initializer=_start_worker) as pool:
        try:
            waiting = {pool.submit(train_one, config): config for config in runs}
            for future in as_completed(waiting):
                try:
                    failure = future.result()
                except BrokenProcessPool:
                    failure = "a process ended abruptly, perhaps for want of memory"
                done(waiting[future], failure)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a traceback; the command says what happened
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is shared between processes, and would outlive one that is ended
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A command that was killed is given again: then no run may have two processes."""
    if parent := parent_process():
        wait([parent.sentinel])
        os._exit(1)


def train_one(config: RunConfig) -> str | None:
    """Train one run to its end, going on where it stopped; what it says goes to log.txt. Returns what went wrong."""
    folder = Path(config.out or "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            try:
                run = Run(config, recordings_for(config), resume=holds_run(folder))
                write_config(folder, run.config, describe(run.recordings))
                run.train()
            except Stopped as stopped:
                if parent_process() is None:
                    raise
                os._exit(stopped.status)  # the checkpoint is written; the next run in the queue must not begin
            except Exception:
                traceback.print_exc(file=log)
                raise
    except Exception as error:  # whatever it is, the other runs go on
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


_loaded: dict[tuple[object, ...], Recordings] = {}


def recordings_for(config: RunConfig) -> Recordings:
    """The recordings of a run, read once a process: the runs of a command differ in what they take of them."""
    key = (config.data, config.task, config.metrics, config.text, config.text_encoder)
    if key not in _loaded:
        _loaded[key] = with_text(load(config.data, task=config.task, metrics=config.metrics), config)
    return _loaded[key]
