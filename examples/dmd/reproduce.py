"""The paper's tables and figures on your data: `python examples/dmd/reproduce.py table3 --data FILE --seeds 1 2 3`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dmd.command import one_line_errors, writable_folder
from dmd.config import RunConfig, config_parser, parse_run
from dmd.data import only
from dmd.reproduce.campaign import check, plan_runs, recordings_for, train_all, unfinished
from dmd.reproduce.products import WHAT, Job, variants_of, write_product
from dmd.reproduce.published import recognise

OWN_FIELDS = ("data", "out", "seed", "network", "shuffle_labels", "pictures")  # of a run; set by this command


def parse(arguments: list[str]) -> argparse.Namespace:
    """What is asked for, and how.

    Raises:
        ValueError: what is wrong with the arguments.
    """
    parser = argparse.ArgumentParser(prog="reproduce.py", description=__doc__)
    parser.add_argument("what", nargs="+", choices=[*WHAT, "all"], help="tables and figures to make; all: every one")
    parser.add_argument("--data", default="smartwatch", help="smartwatch, synthetic, or a .pkl or .npz file")
    parser.add_argument("--config", help="YAML file with options of train.py: the full model")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of train.py, such as epochs=3"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="of every run")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each with one thread")
    parser.add_argument("--out", help="folder of the products and their runs; by default runs/reproduce/NAME")
    parser.add_argument("--dataset", choices=["mosi", "mosei"], help="show the paper's numbers of this data set")
    parser.add_argument("--ranking", nargs="+", metavar="MODALITY", help="from best to worst teacher: for the prior")

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = refuse  # pyright: ignore[reportAttributeAccessIssue]  (one line, as every command)
    parsed = parser.parse_args(arguments)
    if parsed.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {parsed.jobs}")
    if len(set(parsed.seeds)) < len(parsed.seeds):
        raise ValueError(f"--seeds must all differ, got {parsed.seeds}")
    return parsed


def full_model(config: str | None, data: str, settings: list[str]) -> RunConfig:
    """The configuration that every run starts from.

    Raises:
        ValueError, OSError: naming the setting.
    """
    parser = config_parser(prog="reproduce.py")
    parser.add_argument("--config", action="config")
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, got {setting!r}")
        if key in OWN_FIELDS:
            raise ValueError(f"--set {key}: this command sets it itself")
    given = [f"--config={config}"] if config else []
    _, full = parse_run(parser, [*given, *(f"--{setting}" for setting in settings)])
    own = {name: getattr(RunConfig, name) for name in OWN_FIELDS}
    return replace(full, **own | {"data": data})


def prepare(arguments: list[str]) -> tuple[list[str], Job, list[RunConfig], list[RunConfig], int]:
    """Check everything: what to make, the job, all runs, those to train, and how many at a time."""
    parsed = parse(arguments)
    base = full_model(parsed.config, parsed.data, parsed.set)
    recordings = only(recordings_for(base), base.modalities)
    out = Path(parsed.out or f"runs/reproduce/{Path(parsed.data).stem}")
    # For the record, which may be published: without the folders of this machine.
    shown = shlex.join(arguments)
    for path in filter(None, (parsed.data, parsed.config, parsed.out)):
        shown = shown.replace(path, Path(path).name)
    command = f"python examples/dmd/reproduce.py {shown}"
    dataset = parsed.dataset or recognise(recordings)
    job = Job(base, recordings, parsed.seeds, out, dataset, parsed.ranking, command)
    what = list(WHAT) if "all" in parsed.what else list(dict.fromkeys(parsed.what))
    variants = [variant for name in what for variant in variants_of(name, job)]
    runs = plan_runs(out, base, variants, parsed.seeds)
    missing = unfinished(runs, recordings_for(base))
    writable_folder(out)
    check(missing)
    return what, job, runs, missing, parsed.jobs


def main(arguments: list[str]) -> None:
    """Check, train what is missing, write, print."""
    with one_line_errors():
        what, job, runs, missing, jobs = prepare(arguments)
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished; into {job.out}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops the command stops its processes too
    failures: list[str] | None = None
    with suppress(KeyboardInterrupt):
        failures = train_all(missing, jobs, len(runs))
    if failures is None:  # said here, where nothing holds on to the processes any more
        print("\ninterrupted; finished runs are kept: the same command goes on", file=sys.stderr)
        raise SystemExit(130)
    if failures:
        print(f"error: {len(failures)} of {len(runs)} runs failed; log.txt of each says more:", file=sys.stderr)
        print("\n".join(failures), file=sys.stderr)
        raise SystemExit(1)
    for name in what:
        print(f"\n{write_product(name, job)}")


if __name__ == "__main__":
    main(sys.argv[1:])
