"""The folder that fetched shards are kept in: where it is, how large it may grow, and what leaves it first."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

CACHE, CACHE_GB = "DMD_CACHE", "DMD_CACHE_GB"  # environment variables
TEMPORARY = ".part"  # the suffix of a file that is being fetched
STALE_SECONDS = 86_400.0  # what a kill has left; no fetch and no lock lasts a day


def cache_folder() -> Path:
    """Where fetched shards are kept: DMD_CACHE, or `dmd-shards` in the user's cache folder."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dmd-shards"


def cache_bytes() -> int:
    """How much is kept: DMD_CACHE_GB, or 10 GB.

    Raises:
        ValueError: it is no number above 0.
    """
    text = os.environ.get(CACHE_GB, "10")
    try:
        size = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise ValueError(f"{CACHE_GB} must be a number above 0, got {text!r}")
    return size


def make_room(cache: Path, max_bytes: int, arrived: Path) -> None:
    """Remove what kills have left, then the shards whose last use is longest ago, until the rest is small enough.

    Open shards stay readable. What other processes are fetching counts, but stays.

    Args:
        cache: the folder.
        max_bytes: of all files in it.
        arrived: the temporary file that has just been fetched; it counts, and stays.
    """
    shards: list[tuple[float, int, Path]] = []
    held, oldest = 0, time.time() - STALE_SECONDS
    for path in cache.iterdir():
        if path.suffix not in (".safetensors", ".lock", TEMPORARY):
            continue  # not ours
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            found = path.lstat()
            if path.suffix == ".safetensors":
                shards.append((found.st_mtime, found.st_size, path))
            elif found.st_mtime < oldest and path != arrived:
                path.unlink()
                continue
            held += found.st_size
    for _, size, path in sorted(shards):
        if held <= max_bytes:
            break
        path.unlink(missing_ok=True)
        held -= size
