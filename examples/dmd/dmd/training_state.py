"""Checkpoints of a run in progress: all that going on needs, with checksums, the last two kept.

A checkpoint is a folder ``checkpoints/epoch-0002-step-00000117`` (two epochs finished, 117 steps in all)::

    model.safetensors      weights after that step
    best.safetensors       weights of the best finished epoch, where these are others
    optimizer.safetensors  what AdamW remembers
    training.json          how far the run is, and what its epochs have found
    SHA256SUMS             of these files; ``sha256sum --check SHA256SUMS`` reads it too
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .durable import replacing, sha256_of, sync

KEPT = 2
FORMAT = 1  # of training.json
_NAME = re.compile(r"epoch-(\d{4,})-step-(\d{8,})")
_FILES = {"model.safetensors", "best.safetensors", "optimizer.safetensors", "training.json"}
_FIELDS = {"format", "epoch", "step", "history", "edges", "seconds", "skipped", "watch"}
_FIELDS |= {"seen", "bucket", "totals", "terms", "rate", "spent"}  # of the epoch that was not finished


class Checkpoint(NamedTuple):
    """What a checkpoint holds besides the weights; ``best`` is None before the first epoch is finished."""

    path: Path
    state: dict[str, Any]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor] | None


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, oldest first; whether they are whole is yet to be seen."""
    found = {path: _NAME.fullmatch(path.name) for path in (folder / "checkpoints").glob("epoch-*")}
    numbers = {path: tuple(map(int, match.groups())) for path, match in found.items() if match}
    return sorted(numbers, key=numbers.__getitem__)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a state dict, on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}


def write_checkpoint(
    folder: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best: Mapping[str, Tensor] | None,
    *,
    unusable: list[Path],
    newest: Path | None,
) -> Path:
    """Write a checkpoint, then drop the ones before the last two.

    Args:
        folder: of the run.
        task, optimizer: as they are now.
        state: :data:`_FIELDS` and, with fp16, "scaler".
        best: weights of the best epoch, if the task's are not.
        newest: the last one that is whole; if it is of this very step, nothing is written.
        unusable: checkpoints that are not whole; they are dropped, and the list is empty afterwards.

    Raises:
        OSError: it cannot be written; the ones before are still there.
    """
    target = folder / "checkpoints" / f"epoch-{state['epoch']:04d}-step-{state['step']:08d}"
    if target == newest:
        return target
    tensors: dict[str, Mapping[str, Tensor]] = {
        "model.safetensors": weights_of(task),
        "optimizer.safetensors": {
            f"{number}.{key}": value.cpu()
            for number, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
        },
    }
    if best is not None:
        tensors["best.safetensors"] = best
    text = json.dumps({"format": FORMAT, **state}, indent=1)
    size = len(text) + sum(tensor.nbytes for part in tensors.values() for tensor in part.values())
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(folder)
    with replacing(target, size) as temporary:
        temporary.mkdir()
        for name, content in tensors.items():
            save_file(dict(content), temporary / name)
        (temporary / "training.json").write_text(text, encoding="utf-8")
        sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
        (temporary / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    worthless = {path for path in unusable if path != target}
    unusable.clear()  # what is written later under one of their names is whole
    kept = [path for path in checkpoints_of(folder) if path not in worthless][-KEPT:]
    for path in checkpoints_of(folder):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return target


def load_checkpoint(folder: Path, task: nn.Module) -> tuple[Checkpoint | None, list[Path]]:
    """Read the newest checkpoint that is whole into ``task``; a warning names each that is not.

    Returns:
        The checkpoint, None where a run has none; and those that were passed over.

    Raises:
        ValueError: there are checkpoints, and none is whole; or the newest whole one is of another network.
    """
    passed: dict[Path, str] = {}
    for path in reversed(checkpoints_of(folder)):
        try:
            checkpoint = read_checkpoint(path)
        except FileNotFoundError as error:
            passed[path] = f"it has no {Path(error.filename).name}"
            continue
        except (OSError, ValueError) as error:
            passed[path] = str(error)
            continue
        for bad, reason in passed.items():
            warnings.warn(f"{bad} is damaged and passed over: {reason}", stacklevel=2)
        try:
            task.load_state_dict(load_file(path / "model.safetensors"))
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise ValueError(f"{path} is a checkpoint of another config: {first[0].strip()}") from error
        return checkpoint, list(passed)
    if passed:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in passed.items())
        raise ValueError(f"no checkpoint of {folder} is whole ({reasons}); remove {folder} to start over")
    return None, []


def read_checkpoint(path: Path) -> Checkpoint:
    """Check every sum, and read all but the weights.

    Raises:
        OSError, ValueError: a file is missing or damaged, or no run has written it.
    """
    lines = (path / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not {"model.safetensors", "optimizer.safetensors", "training.json"} <= sums.keys() <= _FILES:
        raise ValueError(f"SHA256SUMS names {sorted(sums)}")
    for name, digest in sums.items():
        if sha256_of(path / name) != digest:
            raise ValueError(f"the checksum of {name} is another one")
    try:
        state = json.loads((path / "training.json").read_text(encoding="utf-8"))
        optimizer = load_file(path / "optimizer.safetensors")
        best = load_file(path / "best.safetensors") if "best.safetensors" in sums else None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or _FIELDS - state.keys():
        raise ValueError(f"training.json must have format {FORMAT} and the fields {', '.join(sorted(_FIELDS))}")
    if best is None and state["history"]:
        best = load_file(path / "model.safetensors")
    return Checkpoint(path, state, optimizer, best)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a new optimiser of the same parameters what a checkpoint remembers."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
