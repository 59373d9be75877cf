"""What one process and several find with the same global batch: `python benchmarks/processes.py` prints the table.

Trains the DMD example on synthetic data, on the CPU, without dropout, whose draws differ from process to process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).parents[1] / "examples" / "dmd" / "train.py"
# 192 samples in batches of 22: the last one of an epoch has 16.
OPTIONS = "--data synthetic --device cpu --pictures false --model.dropout 0 --model.dim 16 --model.num_heads 4"
GLOBAL_BATCH = 22


def train(folder: Path, processes: int, epochs: int, global_losses: bool) -> list[dict[str, Any]]:
    """The epochs of a run."""
    out = folder / f"{processes}-{global_losses}"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(TRAIN), *OPTIONS.split()]
    command += ["--batch_size", str(GLOBAL_BATCH // processes), "--epochs", str(epochs), "--out", str(out)]
    command += ["--global_losses", str(global_losses).lower()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return json.loads((out / "history.json").read_text(encoding="utf-8"))


def largest(got: list[dict[str, Any]], wanted: list[dict[str, Any]], split: str, names: list[str]) -> float:
    """Difference of these numbers in any epoch."""
    pairs = zip(got, wanted, strict=True)
    return max(abs(ours[split][name] - theirs[split][name]) for ours, theirs in pairs for name in names)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="must divide 22")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone = train(Path(folder), 1, arguments.epochs, global_losses=False)
        terms = list(alone[0]["train"])
        metrics = [name for name in alone[0]["valid"] if name not in terms]
        print("| losses see | validation metrics | mae | loss and its terms, in training |\n|---|---:|---:|---:|")
        for global_losses in (True, False):
            found = train(Path(folder), arguments.processes, arguments.epochs, global_losses)
            numbers = (largest(found, alone, *of) for of in (("valid", metrics), ("valid", ["mae"]), ("train", terms)))
            what = "the global batch" if global_losses else "each process's part"
            print(f"| {what} | {' | '.join(f'{number:.1e}' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
