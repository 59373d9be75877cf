"""What a run needs of the machine, and what its figures depend on besides its configuration."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs

from .config import RunConfig
from .trackers import check_trackers, make_trackers

PACKAGES = ("gdkit", "torch", "torch-geometric", "numpy", "accelerate")


def check_device(device: str | torch.device) -> None:
    """Check that PyTorch finds a device.

    Raises:
        ValueError: it is a CUDA device, and there is none here.
    """
    if str(device).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is '{device}', but PyTorch finds no CUDA device here; take 'cpu'")


def check_machine(device: str, trackers: Sequence[str] = ()) -> None:
    """Check before training what would fail in it or after it.

    Raises:
        ValueError: there is no CUDA device where one is asked for, or a package for pictures or trackers is missing.
    """
    check_trackers(trackers)
    check_device(device)
    check_pictures()


def check_pictures() -> None:
    """Check that pictures and pages can be made.

    Raises:
        ValueError: naming the package that is missing.
    """
    for package in ("matplotlib", "sklearn", "plotly", "jinja2"):
        if find_spec(package) is None:
            raise ValueError(f"the run's pictures and page need {package}: install the 'train' and 'plot' extras")


def make_accelerator(config: RunConfig, out: Path, epoch: int) -> Accelerator:
    """What a run computes with, after so many epochs.

    Raises:
        ValueError: fp16 on a CPU, or what names the run to its trackers is damaged.
    """
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulation,
        log_with=make_trackers(config.trackers, out, epoch) or None,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        # A scorer that no distance moves has no gradient to wait for.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=config.objective.distillation.detach_weights)
        ],
    )
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; a CPU computes in 'no' (float32) or 'bf16'")
    return accelerator


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide over numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def peak_memory_mb() -> float:
    """Most memory the process has held so far: on the GPU where one is used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
