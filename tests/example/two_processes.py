"""What each of two processes does for test_evaluation.py: `torchrun --nproc_per_node 2 two_processes.py OUT`."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from dmd.data import make_loader
from dmd.evaluation import evaluate
from dmd.metrics import compute_metrics, metric_collection
from dmd.model import DMD
from dmd.task import DMDTask, TaskConfig

from tests.example.small_runs import MODEL, RECORDINGS

# (split, batch size): what two processes repeat is none, the end of a batch, whole batches, or all of the second's.
CASES = [("train", 8), ("train", 7), ("valid", 5), ("valid", 16), ("test", 24)]


def evaluations():
    """What evaluate gives in each case, by all processes there are."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    module = accelerator.prepare(DMDTask(DMD(MODEL, RECORDINGS.dims, 1), TaskConfig()))
    return [
        evaluate(
            module, accelerator.prepare(make_loader(RECORDINGS.splits[split], size)), RECORDINGS, split, accelerator
        )
        for split, size in CASES
    ]


def collections(rank, world_size):
    """Each suite over samples that the processes share unevenly; of the last, the second process has none."""
    generator = torch.Generator().manual_seed(0)
    p, y = torch.randn(30, generator=generator), torch.randn(30, generator=generator)
    values = {}
    for name, first in (("uneven", 11), ("empty", 30)):
        for suite in ("mosi", "sims", "accuracy"):
            a, b = ((x.abs().clamp(max=2).round().long() if suite == "accuracy" else x) for x in (p, y))
            mine = slice(first) if rank == 0 else slice(first, None)
            metrics = metric_collection(suite, num_classes=3 if suite == "accuracy" else None)
            metrics.update(*((a[mine], b[mine]) if world_size > 1 else (a, b)))
            values[name, suite] = {key: float(value) for key, value in metrics.compute().items()}
    return values


if __name__ == "__main__":
    found = evaluations()
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = {"evaluations": found, "collections": collections(rank, world_size), "processes": world_size}
    if rank == 0:  # alone: this waits for nobody
        found["alone"] = compute_metrics([1.0, -1.0], [1.0, 2.0], "mosi")["mae"]
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
