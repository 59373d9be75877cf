"""Data larger than memory: what shards cost in memory and time, on a file as large as CMU-MOSEI, made on the fly.

Numbers are random, lengths as spoken clips have them: a text of up to 50 steps (median 22), audio and video of up to
500 (8 to 12 a word); 768, 74 and 35 columns, unaligned. Each measurement runs in a process of its own, whose resident
memory (and that of its loader's workers) is taken every 50 ms. Rows go to benchmarks/results/large_data.csv:

    import  seconds until the packages are imported, from the start of the process, under whatever load the machine has
    load    seconds until the recordings are there, from the start of the process
    start   seconds until the first training step begins, its batch in hand, likewise
    first   seconds until that step is done, likewise
    train   samples a second over the training steps after that, loading included; the real step of train.py
    loader  samples a second over a whole epoch in random order, without training
    convert peak memory of convert.py beside the size of an MMSA file (--convert-samples of the train split)

python benchmarks/large_data.py [--samples 16326 1871 4659] [--folder /tmp] [--train-steps 30]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from benchmarks.suite.spoken import DIMS, MOST, draw_lengths, make_shards

ROOT = Path(__file__).resolve().parents[1]

MMSA = {"language": "text", "vision": "vision", "acoustic": "audio"}
RESULTS = ROOT / "benchmarks" / "results" / "large_data.csv"


@contextmanager
def watched(row: dict[str, Any]) -> Iterator[None]:
    """Put the highest resident memory of this process, and of it and its children together, into a row."""
    own, is_over = psutil.Process(), threading.Event()
    row |= {"peak_bytes": 0, "peak_bytes_with_workers": 0}

    def watch() -> None:
        while not is_over.wait(0.05):
            mine = own.memory_info().rss
            others = 0
            for child in own.children(recursive=True):
                try:
                    others += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            row["peak_bytes"] = max(row["peak_bytes"], mine)
            row["peak_bytes_with_workers"] = max(row["peak_bytes_with_workers"], mine + others)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def measure_loader(data: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """An epoch in random order."""
    from dmd.data import load
    from dmd.data.batching import training_loader

    row: dict[str, Any] = {"measure": "loader", "num_workers": arguments.num_workers, "bucket": arguments.bucket}
    with watched(row):
        split = load(data).splits["train"]
        loader = training_loader(split, 32, seed=1, bucket=arguments.bucket, num_workers=arguments.num_workers)
        begun, real, padded = time.perf_counter(), 0, 0
        for batch in loader:
            real += sum(int(mask.sum()) for mask in batch.masks.values())
            padded += sum(mask.numel() for mask in batch.masks.values())
        row |= {"n": len(split), "value": len(split) / (time.perf_counter() - begun), "padding": 1 - real / padded}
    return [row]


def measure_training(data: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The first steps of a run of train.py, from the start of the process."""
    from dmd import training
    from dmd.config import RunConfig
    from dmd.data import load
    from dmd.runs import prepare_runs

    class EnoughError(Exception):
        """As many steps as were asked for."""

    born, imported = psutil.Process().create_time(), time.time()
    begins: list[float] = []
    ends: list[float] = []
    samples: list[int] = []

    class TimedStep(training.TrainingStep):
        def __call__(self, batch: Any, *given: Any, **options: Any) -> Any:
            begins.append(time.time())
            result = super().__call__(batch, *given, **options)
            ends.append(time.time())
            samples.append(len(batch.labels))
            if len(ends) > arguments.train_steps:
                raise EnoughError
            return result

    training.TrainingStep = TimedStep
    common = {"num_workers": arguments.num_workers, "bucket": arguments.bucket}
    row: dict[str, Any] = {"measure": "train"} | common
    with watched(row), tempfile.TemporaryDirectory() as out:
        recordings = load(data)
        loaded = time.time()
        config = RunConfig(data=data, out=out, device="cpu", num_workers=arguments.num_workers, bucket=arguments.bucket)
        (run,) = prepare_runs(config, [], recordings, resume=False)
        with suppress(EnoughError):
            run.train()
    seen = sum(samples[1:])
    row |= {"n": seen, "value": seen / (ends[-1] - ends[0])}
    peaks = {key: row[key] for key in ("peak_bytes", "peak_bytes_with_workers")}
    times = {"import": imported, "load": loaded, "start": begins[0], "first": ends[0]}
    return [*({"measure": name, "n": 1, "value": at - born} | common | peaks for name, at in times.items()), row]


def measure_conversion(folder: Path, size: int) -> list[dict[str, Any]]:
    """Convert an MMSA file of so many train samples, padded as such files are, and follow the memory."""
    path = folder / "file.pkl"
    content: dict[str, dict[str, Any]] = {}
    for number, (split, part) in enumerate((("train", size), ("valid", size // 10 + 1), ("test", size // 4 + 1))):
        lengths, generator = draw_lengths(part, number), np.random.default_rng(number)
        entries: dict[str, Any] = {
            "id": [f"{split}${i}" for i in range(part)],
            "regression_labels": generator.uniform(-3, 3, part),
        }
        for name, dim in DIMS.items():
            entries[MMSA[name]] = np.zeros((part, MOST[name], dim), np.float32)
            for i, steps in enumerate(lengths[name]):
                entries[MMSA[name]][i, :steps] = generator.standard_normal((steps, dim), np.float32)
        content[split] = entries
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    command = [sys.executable, str(ROOT / "examples" / "dmd" / "convert.py"), str(path), str(folder / "converted")]
    row: dict[str, Any] = {"measure": "convert", "n": size}
    process = subprocess.Popen([sys.executable, __file__, "--follow", json.dumps(command)], stdout=subprocess.PIPE)
    seconds, peak = json.loads(process.communicate()[0].splitlines()[-1])
    row |= {"value": seconds, "peak_bytes": peak, "bytes": path.stat().st_size}
    return [row]


def follow(command: list[str]) -> None:
    """Run a command, and print its seconds and the most memory it held."""
    import resource

    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps([time.perf_counter() - begun, peak]))


def main(arguments: argparse.Namespace) -> None:
    """Make the data, measure in fresh processes, and write the rows."""
    folder = Path(tempfile.mkdtemp(prefix="large-data-", dir=arguments.folder))
    try:
        need = int(2 * sum(arguments.samples) * 170_000)
        if (free := shutil.disk_usage(folder).free) < need:
            raise SystemExit(f"error: {folder} needs about {need:,} bytes, {free:,} are free")
        make_shards(folder / "shards", arguments.samples)
        num_bytes = sum(path.stat().st_size for path in (folder / "shards").iterdir())
        rows = measure_conversion(folder, arguments.convert_samples) if arguments.convert_samples else []
        jobs = [("loader", workers, bucket) for workers in (0, 1) for bucket in (False, True)]
        for kind, workers, bucket in [*jobs, ("training", 0, True), ("training", 1, True)]:
            command = [sys.executable, __file__, "--child", kind, "--data", str(folder / "shards")]
            command += ["--num-workers", str(workers), "--train-steps", str(arguments.train_steps)]
            done = subprocess.run([*command, *["--bucket"][: int(bucket)]], check=True, stdout=subprocess.PIPE)
            rows += [row | {"bytes": num_bytes} for row in json.loads(done.stdout.splitlines()[-1])]
        # What a start costs on the same machine, a moment later, where there is next to nothing to read.
        command = [sys.executable, __file__, "--child", "training", "--data", "synthetic", "--train-steps", "2"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        rows += [row | {"data": "synthetic"} for row in json.loads(done.stdout.splitlines()[-1])[:-1]]
        write_rows([{"data": "shards"} | row for row in rows])
    finally:
        shutil.rmtree(folder)


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the rows with the facts of the machine, and show them."""
    from benchmarks.suite.facts import facts

    told = facts("cpu") | {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 2),
        "memory_bytes": psutil.virtual_memory().total,
    }
    columns = [
        "measure",
        "data",
        "num_workers",
        "bucket",
        "n",
        "value",
        "peak_bytes",
        "peak_bytes_with_workers",
        "padding",
    ]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, "bytes", *told], restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
            writer.writerow(shown | told)
            print(
                "  ".join(
                    f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in shown.items()
                )
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, nargs=3, default=[16_326, 1_871, 4_659], metavar=("TRAIN", "VALID", "TEST")
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data is made")
    parser.add_argument("--train-steps", type=int, default=30)
    parser.add_argument("--convert-samples", type=int, default=2_000, help="0: leave that out")
    for hidden in ("--child", "--data", "--follow"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--num-workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--bucket", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.follow:
        follow(json.loads(given.follow))
    elif given.child:
        measure = {"loader": measure_loader, "training": measure_training}[given.child]
        print("\n" + json.dumps(measure(given.data, given)))
    else:
        main(given)
