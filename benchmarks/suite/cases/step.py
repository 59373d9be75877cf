"""A training step of DMD at the sizes of MOSI and MOSEI, batch 16: forward, losses, backward, clipping; random data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.suite.facts import ROOT
from benchmarks.suite.point import Call, Point, Provider, Settings, Skipped, Work

sys.path.insert(0, str(ROOT / "examples" / "dmd"))
from dmd.data import Batch
from dmd.graphed_step import CUDARecorder, GraphedStep
from dmd.model import DMD, ModelConfig
from dmd.released import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.released_weights import DATASETS, DIMS, STEPS
from dmd.task import DMDTask, TaskConfig

PUBLISHED, OURS, COMPILED, GRAPHED = "published program", "gdkit", "gdkit, compiled", "gdkit, CUDA graph"
KEYS = {"language": "text", "vision": "vision", "acoustic": "audio"}
QUICK_STEPS = {"language": 9, "vision": 20, "acoustic": 14}
QUICK_SIZES = {"dim": 10, "num_heads": 2, "num_layers": 3, "memory_layers": 3}
WIDTHS = {"mosi": {}, "mosei": {"language": 768, "vision": 35, "acoustic": 74}}
KERNELS = {"mosi": {}, "mosei": {"language": 5, "vision": 1, "acoustic": 3}}
# Counted for the published network: operations, exponentials of what its bands leave visible, forward and backward,
# and bytes of everything that a fused step still has to move.
COUNTED = {
    ("mosi", "aligned"): Work(13.5e9, 16.3e6, 507e6),
    ("mosi", "unaligned"): Work(138e9, 936e6, 2.6e9),
    ("mosei", "aligned"): Work(5.6e9, 11.9e6, 271e6),
    ("mosei", "unaligned"): Work(80e9, 648e6, 1.65e9),
}


def draw(steps: dict[str, int], dims: dict[str, int], batch_size: int, device: str) -> Batch:
    """A random batch; the last fifth of each sequence is padding."""
    inputs: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name in NAMES:
        real = torch.arange(steps[name], device=device) < max(1, int(0.8 * steps[name]))
        masks[name] = real.expand(batch_size, -1).clone()
        inputs[name] = torch.randn(batch_size, steps[name], dims[name], device=device) * real[:, None]
    labels = (torch.randint(-15, 16, (batch_size,), device=device) / 5).float()
    return Batch(inputs, masks, labels, torch.arange(batch_size, device=device))


def step_of(task: nn.Module, batch: Batch, form: str = OURS) -> Call:
    """What a trainer does with a batch before the optimiser's turn; the form says how."""
    forward = torch.compile(task) if form == COMPILED else task
    parameters = [*task.parameters()]

    def step(batch: Batch = batch) -> Tensor:
        loss = forward(batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_value_(parameters, 0.6)
        task.zero_grad()
        return loss.detach()

    if form == GRAPHED:
        graphed = GraphedStep(step, CUDARecorder())
        return lambda: graphed(batch)
    return step


@cache  # a second import would stumble over what the first one left in place of a missing package
def published_modules(folder: Path) -> dict[str, ModuleType]:
    """The published program's parts."""
    from benchmarks.published_program import import_published

    try:
        return import_published(folder)
    except ValueError as error:
        raise Skipped(str(error)) from error


def published_provider(config: ReleasedConfig, batch: Batch, settings: Settings) -> Provider:
    """The published program itself, from the folder of a clone."""

    def provider(mode: str) -> Call:
        if settings.published is None:
            raise Skipped("--published was not given")
        from benchmarks.published_program import published_models, published_step, published_trainer

        modules = published_modules(settings.published)
        models = published_models(modules, config, settings.device)
        trainer = published_trainer(modules, settings.device)
        given: dict[str, Any] = {KEYS[name]: x for name, x in batch.inputs.items()}
        given["labels"] = {"M": batch.labels}

        return lambda: published_step(modules, trainer, models, given, settings.device)

    return provider


def our_providers(make: Callable[[], nn.Module], batch: Batch, settings: Settings) -> dict[str, Provider]:
    """A task of examples/dmd in every form."""

    def provider_of(form: str) -> Provider:
        def provider(mode: str) -> Call:
            if form == COMPILED and not settings.compiles:
                raise Skipped("without --compile: compiling takes minutes")
            if form == GRAPHED and settings.device != "cuda":
                raise Skipped("only CUDA has graphs")
            if form == COMPILED:
                torch.compiler.reset()
            return step_of(make().to(settings.device).train(), batch, form)

        return provider

    return {form: provider_of(form) for form in (OURS, COMPILED, GRAPHED)}


def released_points(settings: Settings) -> Iterator[Point]:
    """The published network: the program, and what examples/dmd rebuilds of it."""
    for dataset, setting in [("mosi", "quick")] if settings.quick else STEPS:
        config = released_config(dataset, setting)
        undropped = replace(config, attention_dropout=dict.fromkeys((*NAMES, "memory"), 0.0))
        batch = draw(config.steps, config.input_dims, 4 if settings.quick else 16, settings.device)
        ours = our_providers(lambda config=config: released_task(config), batch, settings)
        without = our_providers(lambda config=undropped: released_task(config), batch, settings)
        providers = {
            PUBLISHED: published_provider(config, batch, settings),
            **ours,
            "gdkit, no attention dropout": without[OURS],
        }
        baseline = OURS if settings.published is None else PUBLISHED
        work, place = COUNTED.get((dataset, setting)), setting if settings.quick else f"{dataset}, {setting}"
        yield step_point("published network", place, config.steps, batch, providers, baseline, work)


def released_config(dataset: str, setting: str) -> ReleasedConfig:
    """The published network as it is for a data set."""
    if setting == "quick":
        return replace(ReleasedConfig(steps=QUICK_STEPS), **QUICK_SIZES)
    default = ReleasedConfig()
    return replace(
        default,
        dim=DIMS[dataset],
        input_dims=default.input_dims | WIDTHS[dataset],
        kernel_size=default.kernel_size | KERNELS[dataset],
        steps=STEPS[dataset, setting],
        **DATASETS[dataset],
    )


def released_task(config: ReleasedConfig) -> ReleasedTask:
    """Network and objective with weights as they are drawn."""
    return ReleasedTask(ReleasedNetwork(config), ReleasedObjective())


def example_points(settings: Settings) -> Iterator[Point]:
    """The example's own network with its defaults, which differ from the published ones."""
    for dataset, setting in [("mosi", "quick")] if settings.quick else STEPS:
        dims = ReleasedConfig().input_dims | WIDTHS[dataset]
        steps = QUICK_STEPS if settings.quick else STEPS[dataset, setting]
        batch = draw(steps, dims, 4 if settings.quick else 16, settings.device)

        def task(dims: dict[str, int] = dims) -> nn.Module:
            return DMDTask(DMD(ModelConfig(), dims, 1), TaskConfig())

        place = setting if settings.quick else f"{dataset}, {setting}"
        yield step_point("example's network", place, steps, batch, our_providers(task, batch, settings), OURS, None)


def step_point(
    sweep: str,
    setting: str,
    steps: dict[str, int],
    batch: Batch,
    providers: dict[str, Provider],
    baseline: str,
    work: Work | None,
) -> Point:
    """A point of one mode; every provider draws its own weights and dropout, so values are not compared."""
    widths = "/".join(str(x.shape[-1]) for x in batch.inputs.values())
    lengths = "/".join(map(str, steps.values()))
    sizes = {"batch": len(batch.labels), "steps": lengths, "widths": widths, "dropout": "as configured"}
    counted = {"full": work}
    return Point(sweep, setting, sizes, providers, baseline, counted, len(batch.labels), frozenset({COMPILED}))


def points(settings: Settings) -> Iterator[Point]:
    """Both networks, aligned and unaligned, at the sizes of both data sets."""
    yield from released_points(settings)
    yield from example_points(settings)
