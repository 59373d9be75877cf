"""A run folder from a stranger: what its config.json may say before a network is built or a file is opened by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .safe_config import read_json

if TYPE_CHECKING:
    from .config import RunConfig

MOST_LAYERS = 128
LARGEST_SIZE = 10**6  # of any width, length or vocabulary
# Where transformers finds code or weights outside the file; attention backends may be packages on the hub.
_ENCODER_REFUSED = ("auto_map", "quantization_config", "custom_pipelines", "adapter_config", "trust_remote_code")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")


def check_described(described: Any) -> None:
    """Refuse a description of the data, as config.json has it, that is not of the kinds that are written there.

    Raises:
        ValueError: naming the entry.
    """
    if not isinstance(described, Mapping):
        raise ValueError(f"data must hold entries, got a {type(described).__name__}")
    for key in ("dims", "task", "metrics", "classes", "sha256"):
        if key not in described:
            raise ValueError(f"data lacks {key!r}")
    dims = described["dims"]
    if not isinstance(dims, Mapping) or not dims or not all(_is_size(width) for width in dims.values()):
        raise ValueError(f"data.dims must be the width of each modality, 1 to {LARGEST_SIZE}, got {str(dims)[:60]}")
    kinds = {"task": ("regression", "classification"), "metrics": ("mosi", "sims", "accuracy")}
    for key, known in kinds.items():
        if described[key] not in known:
            raise ValueError(f"data.{key} must be one of {', '.join(known)}, got {str(described[key])[:60]}")
    classes = described["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"data.classes must be a list of names, got {str(classes)[:60]}")
    if not isinstance(described["sha256"], str):
        raise ValueError("data.sha256 must be text")
    for key in ("encoder", "released"):
        if not isinstance(described.get(key), Mapping | None):
            raise ValueError(f"data.{key} must hold entries, got {str(described[key])[:60]}")
    if encoder := described.get("encoder"):
        check_encoder(encoder.get("config"), "data.encoder.config")
    check_sizes(described, "data.")


def check_encoder(content: Any, where: str) -> None:
    """Refuse the configuration of a text encoder that asks for code or weights from elsewhere.

    Raises:
        ValueError: naming the entry.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("model_type"), str):
        raise ValueError(f"{where} must be the configuration of an encoder, with its model_type")
    for key, value in content.items():
        if key in _ENCODER_REFUSED and value:
            raise ValueError(f"{where}: {key} is refused: it asks for code or weights from elsewhere")
        if key in _ATTENTION and value not in (None, "eager", "sdpa"):
            raise ValueError(f"{where}: {key} must be 'eager' or 'sdpa', got {str(value)[:60]!r}")
        if isinstance(value, Mapping) and "model_type" in value:
            check_encoder(value, f"{where}.{key[:60]}")
    check_sizes(content, f"{where}.")


def check_encoder_folder(folder: Path) -> None:
    """Refuse the folder of an encoder that holds weights as a pickle, or points to code or files outside itself.

    Raises:
        ValueError: saying what is wrong.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError("adapter_config.json is refused: it asks for weights from elsewhere")
    if not (folder / "config.json").is_file():
        raise ValueError("it has no config.json")
    content = read_json(folder / "config.json")
    check_encoder(content, "config.json")
    index = folder / "model.safetensors.index.json"
    files = set(read_json(index).get("weight_map", {}).values()) if index.is_file() else {"model.safetensors"}
    if any(not isinstance(name, str) or set(name) & set("/\\") for name in files):
        raise ValueError(f"{index.name} names a file outside the folder")
    if missing := sorted(name for name in files if not (folder / name).is_file()):
        raise ValueError(f"it has no {missing[0][:80]}, and weights are read from safetensors alone")
    num_bytes = sum((folder / name).stat().st_size for name in files)
    num_values = content.get("vocab_size", 0) * content.get("hidden_size", 0)
    if num_values > num_bytes:
        raise ValueError(f"config.json describes {num_values} embeddings, in {num_bytes} bytes of weights")


def check_sizes(content: Any, where: str = "") -> None:
    """Refuse numbers that no network here has: building one would take for ever, or all of the memory.

    Raises:
        ValueError: naming the entry.
    """
    items = content.items() if isinstance(content, Mapping) else [("", x) for x in content]
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            check_sizes(value, f"{where}{key}.")
        elif isinstance(value, int):
            most = MOST_LAYERS if "layers" in str(key) else LARGEST_SIZE
            if not -LARGEST_SIZE <= value <= most:
                raise ValueError(f"{where}{str(key)[:60]} must be at most {most}, got {str(value)[:20]}")


def check_fits(path: Path, config: RunConfig, described: Mapping[str, Any], build: Callable[..., nn.Module]) -> None:
    """Refuse a configuration of a network that is larger than the file of its weights, before it is built.

    Args:
        path: the weights.
        config: of the run.
        described: what config.json says of the data.
        build: makes the network of both.

    Raises:
        ValueError: it does not fit, or no network can be built of it.
    """
    check_sizes(asdict(config)["model"], "model.")
    check_sizes(asdict(config)["objective"], "objective.")
    try:
        with torch.device("meta"):
            task = build(config, described)
    except (RuntimeError, OverflowError, KeyError, AttributeError, AssertionError) as error:
        raise ValueError(f"config.json describes no network: {type(error).__name__}: {str(error)[:200]}") from error
    size = path.stat().st_size if path.is_file() else 0
    try:
        with safe_open(path, "pt") if size else nullcontext():
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    num_values = sum(tensor.numel() for tensor in task.state_dict().values())
    if size and num_values > size:
        raise ValueError(
            f"{path} is cut short, or of another config: that has {num_values} values, and the file {size} bytes"
        )


def local_data(config: RunConfig) -> str:
    """The data that config.json names; never an address, which would tell another machine that the run is used.

    Raises:
        ValueError: it is an address.
    """
    if "://" in config.data or config.data.startswith(("//", "\\\\")):
        raise ValueError(f"config.json names the data {config.data[:80]!r} on another machine: give it with --data")
    return config.data


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value <= LARGEST_SIZE
