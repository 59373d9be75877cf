"""What each process of test_training_processes.py does: `train.py` on small data, under a watch.

`torchrun --nproc_per_node 2 trained_processes.py FOLDER TASK...` with tasks `NAME`, trained from the start, `NAME+`,
gone on with, and `NAME!`, in which the second process kills itself after some steps. What each process opens for
writing under FOLDER is in FOLDER-rank.json.
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import train
from dmd.data import synthetic
from dmd.finite import FiniteWatch

from tests.example.small_runs import STEPS

GLOBAL_BATCH, EPOCHS = 10, 2
# The last batch of an epoch has one sample, so that one of two processes has none. No batch divides the other splits.
RECORDINGS = synthetic((41, 17, 13), steps=STEPS, absent=0.1, unlabelled=0.1, seed=1)
OPTIONS = {
    "data": "synthetic",
    "device": "cpu",
    "global_losses": "true",
    "epochs": EPOCHS,
    "checkpoint_every": 2,
    "pictures": "false",
    "model.dim": 8,
    "model.num_heads": 2,
    "model.num_layers": 1,
    "model.dropout": 0,
    "objective.distillation.prior_weight": 1,
    "objective.distillation.prior": [0.2, 0.3, 0.1, 0.1, 0.2, 0.1],
    "objective.lambda_distillation": 0.5,
    "objective.gamma": 1,
}
KILLED_AFTER = 7  # steps: in the second epoch of five


def run(folder, task, processes):
    """One run of the command."""
    name = task.rstrip("+!")
    options = {"resume": folder / name} if task.endswith("+") else OPTIONS | {"out": folder / name}
    if not task.endswith("+"):
        options["batch_size"] = GLOBAL_BATCH // processes
    if task.endswith("!"):
        kill_after(KILLED_AFTER)
    with mock.patch.object(train, "load", return_value=RECORDINGS):
        train.main([f"--{option}={value}" for option, value in options.items()])


def kill_after(steps):
    """End this process, unless it is the first, as a lack of memory would."""
    whole = FiniteWatch.remember

    def remember(self, step, *arguments):
        whole(self, step, *arguments)
        if step == steps and os.environ["RANK"] != "0":
            os.kill(os.getpid(), signal.SIGKILL)

    FiniteWatch.remember = remember


def watch(folder):
    """The list in which every path under the folder that is opened for writing, made, renamed or removed will be."""
    found = []

    def hook(event, arguments):
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
        if event == "open":
            mode, flags = arguments[1:]
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
                x in (mode or "") for x in "wax+"
            )
        if writes and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder)):
            found.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)
    return found


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    found = watch(folder)
    for task in sys.argv[2:]:
        run(folder, task, int(os.environ["WORLD_SIZE"]))
    Path(f"{folder}-{rank}.json").write_text(json.dumps(found))
