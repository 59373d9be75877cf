"""Whether this project's Triton kernels can run."""

from __future__ import annotations

import importlib.util

import torch

_HAS_TRITON = importlib.util.find_spec("triton") is not None  # looked for, not imported: it takes a second


def why_no_kernels(device: torch.device) -> str | None:
    """What a device or this installation lacks for them; None: nothing."""
    if not _HAS_TRITON:
        return "needs the package triton, which is not installed"
    if torch.version.hip is not None:
        return "is written for NVIDIA's GPUs"
    if device.type == "cuda" and torch.cuda.get_device_properties(device).major < 8:  # pyright: ignore
        return "needs a device of compute capability 8.0 or newer"
    return None
