"""The files of a run that others are made from: config.json and model.safetensors, the weights of the best epoch.

What going on with a run needs besides is in :mod:`dmd.training_state`.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .baselines import Baseline, BaselineTask
from .config import RunConfig, flat_fields, make_config
from .data import Recordings, load, only
from .data.folders import is_unlabelled_folder, read_new_samples
from .durable import replacing
from .foreign import check_described, check_fits, local_data
from .model import DMD
from .released_objective import ReleasedTask
from .report import write_json
from .safe_config import read_json
from .task import DMDTask
from .text import TextEncoder, with_text
from .training_state import checkpoints_of


def build_task(config: RunConfig, described: Mapping[str, Any]) -> DMDTask | BaselineTask | ReleasedTask:
    """The network and objective for data described by :func:`describe`.

    Raises:
        ValueError: the configuration does not fit the data, or the data has fewer than two classes.
    """
    if "released" in described:
        from .released_checkpoint import build_released  # which reads and writes run folders through this module

        return build_released(described)
    classes = described["classes"]
    if described["task"] == "classification" and len(classes) < 2:
        raise ValueError(f"classification needs at least 2 classes, got {len(classes)}: {', '.join(classes)}")
    sizes = config.model, described["dims"], len(classes) or 1
    if config.network != "dmd":
        task = BaselineTask(Baseline(config.network, *sizes), config.objective, global_losses=config.global_losses)
    else:
        task = DMDTask(DMD(*sizes), config.objective, global_losses=config.global_losses)
    if config.text == "finetune":
        task.text_encoder = TextEncoder(described["encoder"]["config"])
    return task


def describe(recordings: Recordings) -> dict[str, Any]:
    """What the network and its readers depend on in the data."""
    return {
        "dims": dict(recordings.dims),
        "task": recordings.task,
        "metrics": recordings.metrics,
        "classes": list(recordings.classes),
        "sha256": recordings.sha256,
        "encoder": recordings.encoder,
    }


def write_config(folder: Path, config: RunConfig, described: Mapping[str, Any], processes: int = 1) -> None:
    """Write config.json."""
    write_json(folder / "config.json", {"config": asdict(config), "data": described, "processes": processes})


def saved_processes(folder: Path) -> int:
    """How many processes train the run in a folder with a config.json."""
    processes = read_json(folder / "config.json").get("processes", 1)
    if not isinstance(processes, int) or processes < 1:
        raise ValueError(f"{folder / 'config.json'}: processes must be a number from 1, got {str(processes)[:60]!r}")
    return processes


def read_config(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Read config.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not what :func:`write_config` writes.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not the folder of a run: it has no config.json")
    try:
        content = read_json(path)
        if not isinstance(content, Mapping) or not {"config", "data"} <= content.keys():
            raise ValueError("it must hold 'config' and 'data'")
        fields, described = content["config"], content["data"]
        check_described(described)
        return make_config(fields), described
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{path} is not a run's configuration: {kind}{reason}") from error


def check_same_run(
    folder: Path, config: RunConfig, recordings: Recordings, *, free: Container[str], hint: str = ""
) -> None:
    """Check that the run in `folder` computes what this configuration would.

    Args:
        folder: with a config.json.
        config: wanted.
        recordings: wanted.
        free: fields that may differ.
        hint: the end of the error's text.

    Raises:
        ValueError: the first field that differs, or that the data has changed.
    """
    saved, described = read_config(folder)
    before, now = flat_fields(asdict(saved)), flat_fields(asdict(config))
    for name in sorted(before.keys() | now.keys()):
        if name not in free and before.get(name) != now.get(name):
            differs = f"{name} is {before.get(name)!r} there, {now.get(name)!r} here"
            raise ValueError(f"{folder} is a run of another config: {differs}{hint}")
    now = describe(recordings)
    for key, name in (("sha256", config.data), ("encoder", f"the text encoder {config.text_encoder}")):
        if described.get(key) != now[key]:
            raise ValueError(f"{folder} is a run on other data: {name} has changed since{hint}")


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors."""
    with replacing(path, sum(tensor.nbytes for tensor in weights.values())) as temporary:
        save_file(dict(weights), temporary)


def load_weights(path: Path, module: nn.Module) -> None:
    """Read a state dict written by :func:`save_weights` into ``module``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its tensors are not those of the configuration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: its first epoch was never finished")
    try:
        module.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"{path} is a checkpoint of another config: {first[0].strip()}") from error


def load_network(
    folder: Path, config: RunConfig, described: Mapping[str, Any]
) -> DMDTask | BaselineTask | ReleasedTask:
    """The trained network of a run, for what :func:`read_config` says of it.

    Raises:
        FileNotFoundError: the folder holds no trained network.
        ValueError: the weights are damaged, or the configuration does not fit them.
    """
    path = folder / "model.safetensors"
    check_fits(path, config, described, build_task)
    task = build_task(config, described)
    load_weights(path, task)
    return task


def load_for(
    folder: Path, data: str | None, *, unlabelled: bool = False
) -> tuple[DMDTask | BaselineTask | ReleasedTask, Recordings]:
    """The trained network of a run, and the data to use it on; by default the run's own.

    With ``unlabelled``, a folder of arrays may come without labels; its samples are then one split, "new".

    Raises:
        FileNotFoundError: the folder holds no trained network, or the data is not there.
        ValueError: a file is damaged, or the data has other modalities or widths than the network.
    """
    config, described = read_config(folder)
    task = load_network(folder, config, described)
    judged = {"task": described["task"], "metrics": described["metrics"]}
    if unlabelled and data and is_unlabelled_folder(data):
        recordings = read_new_samples(Path(data), **judged, classes=tuple(described["classes"]))
    else:
        recordings = load(data or local_data(config), **judged)
    recordings = with_text(recordings, config, described.get("encoder"))
    recordings = only(recordings, config.modalities)
    if dict(recordings.dims) != described["dims"]:
        raise ValueError(f"the model reads widths {described['dims']}, but {recordings.path} has {recordings.dims}")
    classes = list(recordings.classes)
    if classes != described["classes"]:
        raise ValueError(f"the model knows the classes {described['classes']}, but {recordings.path} has {classes}")
    if "released" in described:
        from .released_checkpoint import check_steps

        check_steps(cast(ReleasedTask, task), recordings)
    return task.eval(), recordings


def holds_run(folder: Path) -> bool:
    """Whether a folder holds something that training anew would lose."""
    return (folder / "results.json").is_file() or bool(checkpoints_of(folder))


def default_folder(data: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2, runs/NAME-3, ... that holds no run."""
    name = Path(data).stem
    folders = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(folder for folder in folders if not any(map(holds_run, (folder, *folder.glob("seed-*")))))
