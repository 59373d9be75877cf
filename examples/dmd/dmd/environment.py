"""What a run's figures depend on besides its configuration: versions and memory."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version

import torch

PACKAGES = ("gdkit", "torch", "torch-geometric", "numpy", "accelerate")


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide over numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def peak_memory_mb() -> float:
    """Most memory the process has held so far: on the GPU where one is used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
