"""Names and layout of the published program's weights, and which sizes they imply."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .released_network import NAMES, SOURCES, ReleasedConfig, ReleasedNetwork

LETTERS = {"language": "l", "vision": "v", "acoustic": "a"}
TEXT_PREFIX = "text_model."
UNIT_KEYS = {
    f"{published}.{kind}": f"scorer.{ours}.{kind}"
    for published, ours in (
        ("W_logit", "logit_projection"),
        ("W_repr", "feature_projection"),
        ("W_edge", "edge_score"),
    )
    for kind in ("weight", "bias")
}
# Buffers of the published transformers that hold nothing.
_EMPTY = re.compile(r"(self_attentions|trans)_.*\.(version|embed_positions\._float_tensor)")
_LAYER = {
    "self_attn.in_proj_weight": "in_projection.weight",
    "self_attn.in_proj_bias": "in_projection.bias",
    "self_attn.out_proj.": "out_projection.",
    "layer_norms.0.": "attention_norm.",
    "layer_norms.1.": "feedforward_norm.",
    "fc1.": "expand.",
    "fc2.": "contract.",
}
# What a data set's settings fix and its weights do not show: heads and dropout.
DATASETS: dict[str, dict[str, Any]] = {
    "mosi": {},
    "mosei": {
        "num_heads": 6,
        "text_dropout": 0.3,
        "embedding_dropout": 0.0,
        "attention_dropout": {"language": 0.4, "vision": 0.0, "acoustic": 0.0, "memory": 0.4},
    },
}
DIMS = {"mosi": 50, "mosei": 30}
STEPS = {
    ("mosi", "aligned"): {"language": 50, "vision": 50, "acoustic": 50},
    ("mosi", "unaligned"): {"language": 50, "vision": 500, "acoustic": 375},
    ("mosei", "aligned"): {"language": 50, "vision": 50, "acoustic": 50},
    ("mosei", "unaligned"): {"language": 50, "vision": 500, "acoustic": 500},
}


def published_keys(config: ReleasedConfig) -> dict[str, str]:
    """Published name of every parameter -> its name in :class:`ReleasedNetwork`."""
    keys = {"encoder_c.weight": "encoder.shared.weight"}

    def linear(published: str, ours: str) -> None:
        keys.update({f"{published}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")})

    def head(prefix: str, suffix: str, ours: str) -> None:
        linear(f"{prefix}1{suffix}", f"{ours}.expand")
        linear(f"{prefix}2{suffix}", f"{ours}.contract")
        linear(f"out_layer{suffix}", f"{ours}.output")

    def transformer(published: str, ours: str, layers: int) -> None:
        linear(f"{published}.layer_norm", f"{ours}.norm")
        for layer in range(layers):
            for name, own in _LAYER.items():
                for kind in ("weight", "bias") if name.endswith(".") else ("",):
                    keys[f"{published}.layers.{layer}.{name}{kind}"] = f"{ours}.layers.{layer}.{own}{kind}"

    for name, letter in LETTERS.items():
        keys[f"proj_{letter}.weight"] = f"encoder.projection.{name}.weight"
        keys[f"encoder_s_{letter}.weight"] = f"encoder.private.{name}.weight"
        keys[f"decoder_{letter}.weight"] = f"encoder.decoder.{name}.weight"
        linear(f"align_c_{letter}", f"aligning.{name}")
        linear(f"proj_cosine_{letter}", f"unused.{name}")
        linear(f"weight_{letter}", f"gates.{name}")
        head("proj", f"_{letter}_low", f"shared_heads.{name}")
        head("proj", f"_{letter}_high", f"private_heads.{name}")
        transformer(f"self_attentions_c_{letter}", f"joint.{name}", config.num_layers)
        transformer(f"trans_{letter}_mem", f"memory.{name}", config.memory_layers)
        for source in SOURCES[name]:
            published = f"trans_{letter}_with_{LETTERS[source]}"
            transformer(published, f"reinforce.{name}.{source}", config.num_layers)
    linear("weight_c", "joint_gate")
    head("proj", "_c", "joint_head")
    head("proj", "", "fusion")
    return keys


def infer_config(shapes: Mapping[str, Iterable[int]], **options: Any) -> ReleasedConfig:
    """The sizes that published weights imply; ``options`` are those that they do not show, or that are known.

    A size that several weights show is the one that most of them show, so that a misshapen weight stands out. What no
    weight shows is as published for MOSI.
    """
    shown = {key: tuple(shape) for key, shape in shapes.items()}

    def most(votes: Iterable[tuple[str, int]], default: int, divisor: int = 1) -> int:
        sizes = [shown[key][axis] for key, axis in votes if len(shown.get(key, ())) > axis]
        common = Counter(size // divisor for size in sizes if size >= divisor).most_common(1)
        return common[0][0] if common else default

    defaults = ReleasedConfig()
    letters = LETTERS.values()
    dim = most(
        [("encoder_c.weight", 0)]
        + [(f"{key}_{letter}.weight", 0) for key in ("encoder_s", "decoder", "align_c") for letter in letters],
        defaults.dim,
    )
    sizes: dict[str, Any] = {"input_dims": {}, "kernel_size": {}, "steps": {}}
    for name, letter in LETTERS.items():
        width = most([(f"proj_{letter}.weight", 1)], defaults.input_dims[name])
        kernel = most([(f"proj_{letter}.weight", 2)], defaults.kernel_size[name])
        flattened = (f"align_c_{letter}", f"proj_cosine_{letter}", f"proj1_{letter}_low", f"out_layer_{letter}_low")
        kept = defaults.steps[name] - kernel + 1
        kept = most([(f"{key}.weight", 1) for key in flattened], kept, dim)
        sizes["input_dims"][name], sizes["kernel_size"][name] = width, kernel
        sizes["steps"][name] = kept + kernel - 1
    numbers = [re.match(r"(?:self_attentions|trans)_(.*)\.layers\.(\d+)\.", key) for key in shown]
    # Distinct numbers, not the largest: one absurd number in a foreign file must not build as many layers.
    layers: dict[str, set[str]] = {"memory": set(), "other": set()}
    for match in filter(None, numbers):
        layers["memory" if match[1].endswith("_mem") else "other"].add(match[2])
    sizes["num_layers"] = len(layers["other"]) or defaults.num_layers
    sizes["memory_layers"] = len(layers["memory"]) or max(sizes["num_layers"], 3)
    return ReleasedConfig(**({"dim": dim} | sizes | options))


def check_keys(shapes: Mapping[str, Iterable[int]], config: ReleasedConfig) -> None:
    """Compare published weights with what a network of this size has.

    Raises:
        ValueError: naming every missing, extra and misshapen key.
    """
    network = _on_meta(config)
    wanted = {key: _published_shape(key, config, network) for key in published_keys(config)}
    own = {key: tuple(shape) for key, shape in shapes.items() if not key.startswith(TEXT_PREFIX)}
    missing = [key for key in wanted if key not in own]
    extra = [key for key in own if key not in wanted and not _EMPTY.fullmatch(key)]
    misshapen = [
        f"{key} {own[key]} (wanted {shape})" for key, shape in wanted.items() if key in own and own[key] != shape
    ]
    found = {"missing": missing, "not of this network": extra, "of another shape": misshapen}
    if any(found.values()):
        text = "; ".join(f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in found.items() if keys)
        raise ValueError(f"the weights are not those of the published network: {text}")


def to_network(state: Mapping[str, Tensor], config: ReleasedConfig) -> dict[str, Tensor]:
    """Published weights as a state dict of :class:`ReleasedNetwork`; check them first."""
    own = _on_meta(config).state_dict()
    converted: dict[str, Tensor] = {}
    for key, ours in published_keys(config).items():
        if ours not in own:
            continue  # the convolution of a modality that is not convolved
        weight = state[key].detach().to(torch.float32)
        if ours.startswith("encoder.decoder."):
            weight = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)  # [private, shared] -> [shared, private]
        elif ours.startswith("aligning.") and weight.dim() == 2:
            channels = weight.unflatten(1, (config.dim, -1))  # published: channel first, here: step first
            weight = channels.transpose(1, 2).flatten(1)
        converted[ours] = weight.reshape(own[ours].shape).contiguous().clone()
    return converted


def _on_meta(config: ReleasedConfig) -> ReleasedNetwork:
    with torch.device("meta"):
        return ReleasedNetwork(config)


def _published_shape(key: str, config: ReleasedConfig, network: ReleasedNetwork) -> tuple[int, ...]:
    ours = published_keys(config)[key]
    if ours.startswith("encoder.projection."):
        name = next(name for name in NAMES if f".{name}." in ours)
        return config.dim, config.input_dims[name], config.kernel_size[name]
    shape = tuple(network.get_parameter(ours).shape)
    return (*shape, 1) if ours.startswith("encoder.") else shape
