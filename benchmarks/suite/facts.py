"""What every row says of where its figures come from."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "triton", "gdkit", "numpy")


def device_name(device: str) -> str:
    """As its maker calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def slug(device: str) -> str:
    """The device in a file's name: "cpu", or the GPU's name in lower case with hyphens."""
    return "cpu" if device == "cpu" else re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")


def revision() -> str:
    """The commit, with "-dirty" where files differ from it; "unknown" outside a git repository."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def facts(device: str) -> dict[str, object]:
    """Columns of every row."""
    found: dict[str, object] = {"device": device, "device_name": device_name(device)}
    found |= {"threads": torch.get_num_threads(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found | {"revision": revision(), "date": datetime.now(UTC).isoformat(timespec="minutes")}
