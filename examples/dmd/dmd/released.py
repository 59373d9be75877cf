"""The published DMD program in this project's terms: its network, its objective, and its checkpoints.

How program, paper and this project differ is described in docs/released.md; every difference is an option of
:class:`ReleasedConfig` (the network) or :class:`ReleasedObjective` (the losses).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data import Batch
from .released_checkpoint import load
from .released_network import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedOutput
from .released_objective import GRAPH, PUBLISHED_ORDER, ReleasedObjective, ReleasedTask
from .released_weights import LETTERS, UNIT_KEYS, check_keys, infer_config, published_keys, to_network

__all__ = ["GRAPH", "NAMES", "ReleasedConfig", "ReleasedNetwork", "ReleasedObjective", "ReleasedTask", "load", "replay"]

INPUTS = {"language": "in.text", "vision": "in.vision", "acoustic": "in.audio"}
UNITS = {"homo": "homogeneous", "hetero": "heterogeneous"}


def replay(case: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute what a recorded evaluation of the published program holds, by our network and objective.

    Args:
        case: "config" (the repr of a dict with "heads"), "in.text", "in.audio", "in.vision" (batch, time, dim),
            "in.labels" (batch, 1), and the weights "model.state.*", "homo.state.*", "hetero.state.*".

    Returns:
        Every "out.*", "edges.*", "loss.*" and "*.gradnorm.*" that the case has and the published program computes,
        under the same keys.

    Raises:
        ValueError: the case lacks a key, its config cannot be read, or its weights are not those of the published
            network.
    """
    for key in ("config", "in.labels", *INPUTS.values()):
        if key not in case:
            raise ValueError(f"replay: the case lacks {key!r}")
    task = _task_of(case)
    inputs = {name: torch.as_tensor(np.asarray(case[key])) for name, key in INPUTS.items()}
    labels = torch.as_tensor(np.asarray(case["in.labels"])).reshape(-1)
    masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in inputs.items()}
    with torch.enable_grad():
        terms = task(Batch(inputs, masks, labels, torch.arange(len(labels))))
        terms["loss"].backward()
    with torch.no_grad():
        out = task.model(inputs)
        distilled = task.distillation_terms(out)

    found = {f"out.{key}": value for key, value in _published_outputs(task.model, out).items()}
    for short, unit in UNITS.items():
        found[f"edges.{short}"] = distilled[unit]["edges"].T[PUBLISHED_ORDER]  # (edge, batch)
        for published, term in (("logit", "logit"), ("repr", "repr"), ("reg", "prior")):
            found[f"loss.{short}_{published}"] = distilled[unit][term]
    found["loss.task"] = terms["task"] + terms["nodes"]
    found["loss.self_regression"], found["loss.total"] = terms["cycle"], terms["loss"]
    for name in ("reconstruction", "orthogonality", "margin"):
        found[f"loss.{name}"] = terms[name]
    found |= _gradient_norms(task)
    return {key: found[key].detach().numpy().astype(case[key].dtype) for key in case if key in found}


def _task_of(case: Mapping[str, np.ndarray]) -> ReleasedTask:
    """The network and objective of a case, with its weights, in evaluation mode."""
    heads = _heads(str(np.asarray(case["config"])[()]))

    def state(part: str) -> dict[str, Tensor]:
        prefix = f"{part}.state."
        return {
            key.removeprefix(prefix): torch.as_tensor(np.asarray(value))
            for key, value in case.items()
            if key.startswith(prefix)
        }

    published = {short: state(short) for short in ("model", *UNITS)}
    for short in UNITS:
        if missing := [key for key in UNIT_KEYS if key not in published[short]]:
            raise ValueError(f"replay: the case lacks {', '.join(f'{short}.state.{key}' for key in missing)}")
    shapes = {key: value.shape for key, value in published["model"].items()}
    hidden = {f"{unit}_dim": published[short]["W_logit.bias"].numel() for short, unit in UNITS.items()}
    config = infer_config(shapes, num_heads=heads, **hidden)
    if config.dim % heads:
        raise ValueError(f"replay: the weights are {config.dim} wide, which the {heads} heads of config do not divide")
    check_keys(shapes, config)
    task = ReleasedTask(ReleasedNetwork(config), ReleasedObjective())
    task.model.load_state_dict(to_network(published["model"], config))
    for short, unit in UNITS.items():
        wanted = task.units[unit].state_dict()
        for key, ours in UNIT_KEYS.items():
            shape, own = tuple(published[short][key].shape), tuple(wanted[ours].shape)
            if shape != own:
                raise ValueError(f"replay: {short}.state.{key} must be of shape {own}, got {shape}")
        weights = {ours: published[short][key] for key, ours in UNIT_KEYS.items()}
        task.units[unit].scorer.load_state_dict({key.removeprefix("scorer."): x for key, x in weights.items()})
    return task.eval()


def _heads(config: str) -> int:
    """The number of heads in a case's config."""
    try:
        written = ast.literal_eval(config)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:  # all that ast names
        raise ValueError(f"replay: 'config' must be the repr of a dict, got {config[:60]!r}") from error
    if not isinstance(written, dict) or "heads" not in written:
        raise ValueError(f"replay: 'config' must be a dict with 'heads', got {config[:60]!r}")
    heads = written["heads"]
    if not isinstance(heads, int) or heads < 1:
        raise ValueError(f"replay: 'heads' of config must be an int of at least 1, got {heads!r}")
    return heads


def _published_outputs(network: ReleasedNetwork, out: ReleasedOutput) -> dict[str, Tensor]:
    """Every output under its published name and in its published layout."""
    parts = out.decoupled
    found = {"output_logit": out.output, "logits_c": out.joint_logits}
    for name, letter in LETTERS.items():
        found |= {
            f"logits_{letter}_homo": out.shared_logits[name],
            f"repr_{letter}_homo": out.shared_features[name],
            f"logits_{letter}_hetero": out.private_logits[name],
            f"repr_{letter}_hetero": out.private_features[name],
            f"last_h_{letter}": out.last_steps[name],
            f"c_{letter}_sim": out.aligned[name],
            f"proj_s_{letter}": network.unused[name](parts.private[name].flatten(1)),
            f"s_{letter}": parts.private[name].transpose(0, 1),  # (steps, batch, dim)
            f"c_{letter}": parts.shared[name].transpose(0, 1),
            f"origin_{letter}": parts.coupled[name].transpose(1, 2),  # (batch, dim, steps)
            f"recon_{letter}": parts.reconstruction[name].transpose(1, 2),
            f"s_{letter}_r": parts.reencoded[name].transpose(1, 2),
        }
    return found


def _gradient_norms(task: ReleasedTask) -> dict[str, Tensor]:
    """Length of every parameter's gradient by its published name; 0 where nothing reaches it."""

    def norm(parameters: Mapping[str, Any], name: str) -> Tensor:
        gradient = parameters[name].grad if name in parameters else None
        return torch.zeros((), dtype=torch.float64) if gradient is None else gradient.double().norm()

    own = dict(task.model.named_parameters())
    keys = published_keys(task.model.config)
    found = {f"model.gradnorm.{key}": norm(own, ours) for key, ours in keys.items()}
    for short, unit in UNITS.items():
        own = dict(task.units[unit].named_parameters())
        found |= {f"{short}.gradnorm.{key}": norm(own, ours) for key, ours in UNIT_KEYS.items()}
    return found
