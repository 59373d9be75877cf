"""Runs a clone of the published DMD program, which the user points at, without changing a file of it.

What its training loop computes of one batch is taken where that batch's gradients are complete. Patched in memory
alone: calls to CUDA on a machine without it, a cosine of three axes and an option of a scheduler that newer PyTorch
refuses, and the progress bar.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.released import ReleasedConfig
from dmd.released_weights import LETTERS

PRIORS = {"homo": [0.0, 0, 1, 0, 1, 0], "hetero": [0.0, 0, 1, 0, 1, 1]}


class GradientsComplete(Exception):
    """Raised inside the published loop after a batch's backward pass and clipping."""


def import_published(folder: Path) -> dict[str, ModuleType]:
    """The published modules that make up network, GD-Units and training loop.

    Raises:
        ValueError: the folder holds something else.
    """
    if importlib.util.find_spec("pynvml") is None:  # asked only for the number of GPUs, which nothing here does
        sys.modules["pynvml"] = ModuleType("pynvml")
    sys.path.insert(0, str(folder))
    names = {"network": "model.dmd", "training": "DMD", "misc": "misc"}
    names |= {"homo": "distillnets.get_distillation_kernel_homo", "hetero": "distillnets.get_distillation_kernel"}
    try:
        return {name: importlib.import_module(f"trains.singleTask.{path}") for name, path in names.items()}
    except ImportError as error:
        raise ValueError(f"{folder} is not a clone of the published program, or lacks a package: {error}") from error
    finally:
        sys.path.remove(str(folder))


class _BatchCosine(nn.Module):
    """What PyTorch 1.9 computed for inputs of three axes: the hinge of the cosine over axis 1."""

    def forward(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        if x.dim() == 2:
            return nn.functional.cosine_embedding_loss(x, y, target)
        lengths = ((x.square().sum(1) + 1e-12) * (y.square().sum(1) + 1e-12)).sqrt()
        return ((x * y).sum(1) / lengths).clamp(min=0).mean()


@contextlib.contextmanager
def patched(published: Mapping[str, ModuleType], device: str) -> Iterator[None]:
    """The published program's environment; see the head of this file."""

    def clip_and_stop(parameters: Any, value: float) -> None:
        clip(parameters, value)
        raise GradientsComplete

    clip, training = nn.utils.clip_grad_value_, published["training"]
    changes: list[tuple[Any, str, Any]] = [
        (training, "tqdm", contextlib.nullcontext),
        (training, "ReduceLROnPlateau", lambda *_, **__: None),
        (nn, "CosineEmbeddingLoss", _BatchCosine),
        (nn.utils, "clip_grad_value_", clip_and_stop),
    ]
    if device == "cpu":
        changes.append((torch.Tensor, "cuda", lambda self, *_, **__: self))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def published_models(published: Mapping[str, ModuleType], config: ReleasedConfig, device: str = "cpu") -> list[Any]:
    """Network, homogeneous and heterogeneous GD-Unit of the sizes in ``config``."""
    network, dropout = published["network"].DMD, config.attention_dropout
    # The lengths are fixed by the data set's name; under a name that it does not know, those of the class are read.
    network.len_l, network.len_v, network.len_a = (config.steps[name] for name in LETTERS)
    arguments = SimpleNamespace(
        use_bert=False,
        dst_feature_dim_nheads=(config.dim, config.num_heads),
        dataset_name="",
        need_data_aligned=len(set(config.steps.values())) == 1,
        feature_dims=[config.input_dims[name] for name in ("language", "acoustic", "vision")],
        nlevels=config.num_layers,
        attn_dropout=dropout["language"],
        attn_dropout_a=dropout["acoustic"],
        attn_dropout_v=dropout["vision"],
        relu_dropout=config.residual_dropout,
        res_dropout=config.residual_dropout,
        embed_dropout=config.embedding_dropout,
        output_dropout=config.output_dropout,
        text_dropout=config.text_dropout,
        attn_mask=config.band,
        **{f"conv1d_kernel_size_{letter}": config.kernel_size[name] for name, letter in LETTERS.items()},
    )
    models, order = [network(arguments)], [0, 1, 2]
    units = {"homo": (config.dim, config.homogeneous_dim), "hetero": (2 * config.dim, config.heterogeneous_dim)}
    for unit, (width, hidden) in units.items():
        prior = published["misc"].softmax(PRIORS[unit], 0.25)
        kernel = published[unit].DistillationKernel
        with patched(published, device):
            models.append(kernel(1, width, hidden, order, order, prior, 10, [1, 10], "l1", 1 / 8, arguments))
    return [model.to(device) for model in models]


def published_trainer(published: Mapping[str, ModuleType], device: str = "cpu") -> Any:
    """The published trainer with its settings."""
    options = {"train_mode": "regression", "dataset_name": "mosi", "learning_rate": 1e-4, "patience": 5}
    options |= {"KeyEval": "Loss", "update_epochs": 10, "device": device, "grad_clip": 0.6}
    with patched(published, device):
        return published["training"].DMD(SimpleNamespace(**options))


def published_step(
    published: Mapping[str, ModuleType], trainer: Any, models: list[Any], batch: Mapping[str, Any], device: str = "cpu"
) -> None:
    """One batch through the published training loop, which ends after its clipping; gradients are left in place."""
    with patched(published, device), contextlib.suppress(GradientsComplete):
        trainer.do_train(models, {"train": [batch]})
