"""Published checkpoints as run folders of this project, and back into a network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint import holds_run, load_weights, read_config, write_config
from .config import RunConfig
from .data import Recordings
from .data.sequences import step_counts
from .released_network import NAMES, ReleasedConfig, ReleasedNetwork
from .released_objective import ReleasedObjective, ReleasedTask
from .released_text import COUNTERS, ReleasedText, bert_config
from .released_weights import DATASETS, DIMS, STEPS, TEXT_PREFIX, check_keys, infer_config, to_network
from .safe_checkpoint import load_state_dict


def sizes_of(
    state: Mapping[str, Tensor], dataset: str | None, setting: str | None, num_heads: int | None
) -> ReleasedConfig:
    """The network that published weights belong to.

    Raises:
        ValueError: the heads cannot be told, or the lengths are not those of the data set and setting.
    """
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    dim = infer_config(shapes).dim
    if dataset is None:
        dataset = next((name for name, width in DIMS.items() if width == dim), None)
        if dataset is None and num_heads is None:
            widths = " nor ".join(f"{width} ({name})" for name, width in DIMS.items())
            raise ValueError(f"the weights are {dim} wide, neither {widths}: their heads must be given as num_heads")
    options = dict(DATASETS.get(dataset or "mosi", {}))
    if num_heads is not None:
        options["num_heads"] = num_heads
    config = infer_config(shapes, **options)
    if config.num_heads < 1 or config.dim % config.num_heads:
        raise ValueError(f"the weights are {config.dim} wide, which {config.num_heads} heads do not divide")
    check_keys(shapes, config)
    if setting is not None:
        wanted = STEPS[dataset or "mosi", setting]
        if config.steps != wanted:
            raise ValueError(
                f"the weights are of sequences of {config.steps} steps, {dataset or 'mosi'} {setting} has {wanted}"
            )
    return config


def import_published(
    path: Path, out: Path, dataset: str | None = None, setting: str | None = None, num_heads: int | None = None
) -> ReleasedConfig:
    """Write a run folder from a published checkpoint, GD-Units with equal weights: published files have none.

    Raises:
        ValueError, OSError: as :func:`load_state_dict` and :func:`sizes_of`, the folder already holds a run, or the
            checkpoint has a text encoder and transformers is not installed.
    """
    state = load_state_dict(path)
    if holds_run(out) or (out / "config.json").exists():
        raise ValueError(f"{out} already holds a run; choose another folder")
    config = sizes_of(state, dataset, setting, num_heads)
    task = ReleasedTask(ReleasedNetwork(config), ReleasedObjective())
    task.model.load_state_dict(to_network(state, config))
    for parameter in task.units.parameters():
        nn.init.zeros_(parameter)
    text = {key: value for key, value in state.items() if key.startswith(TEXT_PREFIX)}
    text = {key: value for key, value in text.items() if not key.endswith(COUNTERS)}
    prefix = f"{TEXT_PREFIX}model."
    encoder = bert_config({key.removeprefix(prefix): value.shape for key, value in text.items()}) if text else None
    if text and encoder is None:
        warnings.warn(f"the {len(text)} weights {TEXT_PREFIX}* are kept, but are no whole BERT", stacklevel=2)
    file = "aligned_50.pkl" if len(set(config.steps.values())) == 1 else "unaligned_50.pkl"
    run = RunConfig(data=file, out=str(out), text="finetune" if encoder else None, metrics="mosi")
    described: dict[str, Any] = {
        "dims": config.input_dims,
        "task": "regression",
        "metrics": "mosi",
        "classes": [],
        "sha256": "",
        "encoder": {"config": encoder} if encoder else None,
        "released": {"network": asdict(config), "objective": asdict(task.config)},
    }
    out.mkdir(parents=True, exist_ok=True)
    tensors = task.state_dict() | text
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, out / "model.safetensors")
    write_config(out, run, described)  # last: its presence says that the folder is whole
    return config


def build_released(described: Mapping[str, Any]) -> ReleasedTask:
    """The network and objective of an imported run; its weights are yet to be loaded."""
    released = described["released"]
    try:
        config = ReleasedConfig(**released["network"])
        task = ReleasedTask(ReleasedNetwork(config), ReleasedObjective(**released["objective"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"config.json has no released network that is known here: {error}") from error
    if described.get("encoder"):
        task.text_model = ReleasedText(described["encoder"]["config"], config.steps["language"])
    else:
        task.register_load_state_dict_pre_hook(_without_text)
    return task


def load(folder: str | Path) -> ReleasedTask:
    """The network and objective that :func:`import_published` wrote into a folder, ready to predict.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: a file is damaged, or another network's.
    """
    folder = Path(folder)
    _, described = read_config(folder)
    if "released" not in described:
        raise ValueError(f"{folder} is a run of this project, not an imported checkpoint")
    task = build_released(described)
    load_weights(folder / "model.safetensors", task)
    return task.eval()


def check_steps(task: ReleasedTask, recordings: Recordings) -> None:
    """Refuse recordings with a sequence longer than the network reads.

    Raises:
        ValueError: naming split, sample, modality and both lengths.
    """
    for split, samples in recordings.splits.items():
        for name in NAMES:
            longest = task.model.config.steps[name]
            for sample_id, steps in zip(samples.ids, step_counts(samples.inputs[name]), strict=True):
                if steps > longest:
                    raise ValueError(
                        f"the model reads at most {longest} steps of {name}, but {recordings.path} has {steps} "
                        f"in sample {sample_id!r} of {split}"
                    )


def _without_text(_: nn.Module, state: dict[str, Tensor], *__: Any) -> None:
    """Leave out an incomplete text encoder, and say so."""
    if keys := [key for key in state if key.startswith(TEXT_PREFIX)]:
        warnings.warn("the checkpoint's text encoder is left out: text features must come from it", stacklevel=2)
        for key in keys:
            del state[key]
