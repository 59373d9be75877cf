"""Train DMD: `python examples/dmd/train.py --data smartwatch`; `--help` lists every option."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

from dmd.checkpoint import default_folder, read_config, saved_processes
from dmd.command import one_line_errors, option_value, with_underscores
from dmd.config import RunConfig, config_parser, flat_fields, parse_run
from dmd.data import load
from dmd.ending import told
from dmd.page import write_seeds
from dmd.runs import finish, prepare_runs, saved_seeds, summarise
from dmd.training_state import checkpoints_of


def resume_defaults(resumed: str) -> dict[str, object]:
    """What the run in a folder was started with; a run without a checkpoint has nothing to go on from.

    Raises:
        FileNotFoundError: there is no such folder, or no run in it.
    """
    root = Path(resumed)
    if not root.is_dir():
        raise FileNotFoundError(f"--resume {resumed}: there is no such folder")
    folders = [root, *sorted(root.glob("seed-*"))]
    started = [folder for folder in folders if (folder / "config.json").is_file()]
    if not started:
        raise FileNotFoundError(f"--resume {resumed}: no run has begun there (no config.json); start it with --out")
    if not any(map(checkpoints_of, folders)):
        warnings.warn(f"{resumed} has no checkpoint; training starts over", stacklevel=2)
    config, _ = read_config(started[0])
    # With another number of processes, batches stay as large as they were in all processes together.
    size, left_over = divmod(config.batch_size * saved_processes(started[0]), int(os.environ.get("WORLD_SIZE", 1)))
    same_size = {} if left_over or not size else {"batch_size": size}
    return flat_fields(asdict(config)) | same_size | {"out": resumed, "seeds": saved_seeds(root)}


def parse(arguments: list[str]) -> tuple[RunConfig, list[int], bool]:
    """The configuration, the seeds, and whether to resume.

    Raises:
        ValueError, OSError: what is wrong with the arguments.
    """
    arguments = with_underscores(arguments)
    parser = config_parser(prog="train.py", description="Train the DMD emotion-recognition model on one data set.")
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="run each of these seeds, into OUT/seed-N")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    resumed = option_value(arguments, "--resume")
    if resumed is not None:
        parser.set_defaults(resume_defaults(resumed))
    parsed, config = parse_run(parser, arguments)
    if resumed is not None and Path(config.out or "").resolve() != Path(resumed).resolve():
        raise ValueError(f"--resume {resumed} goes on in its own folder, but --out is {config.out}")
    if resumed is not None and (before := saved_seeds(Path(resumed))) and parsed.seeds != before:
        raise ValueError(f"{resumed} holds runs of other seeds: seeds is {before} there, {parsed.seeds} here")
    if len(set(parsed.seeds)) < len(parsed.seeds):
        raise ValueError(f"--seeds must all differ, got {parsed.seeds}")
    return replace(config, out=config.out or str(default_folder(config.data))), parsed.seeds, resumed is not None


def main(arguments: list[str]) -> None:
    """Check everything, then train, then show the results."""
    with one_line_errors():
        config, seeds, resume = parse(arguments)
        recordings = load(config.data, task=config.task, metrics=config.metrics)
        runs = prepare_runs(config, seeds, recordings, resume=resume)
    with told(Path(config.out or "")):
        results = [finish(run) for run in runs]
        if seeds and runs[0].accelerator.is_main_process:
            print(f"\n{summarise(Path(config.out or ''), results)}")
            if config.pictures:
                write_seeds(Path(config.out or ""))


if __name__ == "__main__":
    main(sys.argv[1:])
