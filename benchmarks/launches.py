"""How many operations does a training step start where a GPU runs it, counted without one?

On the device "meta", whose tensors have no values, a step goes the way that it takes on a GPU: transformers stacked,
attention and dropout one operation each, forward and backward. Views, empty tensors and Python's numbers start nothing
and are not counted. Sizes of MOSI, batch 16; forward, losses and backward. From the repository's root:

    python benchmarks/launches.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

# In place of this folder, whose `cuda` would hide a package of that name from PyTorch.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch_geometric.utils  # noqa: F401 (gdkit imports it on first use, and the import makes a tensor)
from dmd.data import Batch
from dmd.model import DMD, ModelConfig
from dmd.task import DMDTask, TaskConfig

import gdkit.attention  # noqa: F401 (patched below)
from benchmarks.suite.cases.step import draw, released_config, released_task
from benchmarks.suite.counters import OperationCounter
from gdkit.kernels import _operator

FREE = ("aten::empty", "aten::new_empty", "aten::empty_like", "aten::empty_strided", "aten::scalar_tensor")


class Launches(OperationCounter):
    """Counts what starts a kernel."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.operations
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func.name().split(".")[0] in FREE:
            self.operations = before
        return result


def one_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout as a GPU has it; elsewhere it is several operations."""
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


@contextmanager
def as_on_a_gpu(stacked: bool) -> Iterator[None]:
    """Tensors of "meta" go the way of those of CUDA."""
    with (
        patch.object(sys.modules["gdkit.attention"], "choose_backend", lambda *_: "triton"),
        patch.object(_operator, "compute_dtype", lambda query: query.dtype),
        patch("gdkit.stacking._pays", lambda _: stacked),
        patch.object(nn.functional, "dropout", one_dropout),
    ):
        yield


def count(task: nn.Module, batch: Batch, stacked: bool) -> tuple[int, int, int]:
    """Of forward and losses, of backward, and reads and copies of both together."""
    task.zero_grad()  # a gradient that is there would be added to
    with as_on_a_gpu(stacked):
        with Launches() as forward:
            loss = task(batch)["loss"]
        with Launches() as backward:
            loss.backward()
    wrong = sum(each.reads + each.copies for each in (forward, backward))
    return forward.operations, backward.operations, wrong


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", nargs="+", choices=("aligned", "unaligned"), default=["aligned", "unaligned"])
    settings = parser.parse_args().setting
    print("| network | sizes | transformers | forward and losses | backward | together | reads and copies |")
    print("|---|---|---|---|---|---|---|")
    for setting in settings:
        config = released_config("mosi", setting)
        tasks = {
            "published": released_task(config),
            "example's": DMDTask(DMD(ModelConfig(), config.input_dims, 1), TaskConfig()),
        }
        for name, task in tasks.items():
            batch = draw(config.steps, config.input_dims, 16, "meta")
            for stacked in (False, True):
                forward, backward, wrong = count(task.to("meta").train(), batch, stacked)
                how = "stacked" if stacked else "one by one"
                row = (name, setting, how, forward, backward, forward + backward, wrong)
                print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in row) + " |")


if __name__ == "__main__":
    main()
