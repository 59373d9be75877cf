"""A training step of DMD at the sizes of MOSI, batch 16: forward, losses, backward, clipping; random data."""

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
from dmd.model import DMD, ModelConfig
from dmd.released import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.released_weights import STEPS
from dmd.task import DMDTask, TaskConfig

PUBLISHED, OURS, COMPILED = "published program", "gdkit", "gdkit, compiled"
KEYS = {"language": "text", "vision": "vision", "acoustic": "audio"}
QUICK_STEPS = {"language": 9, "vision": 20, "acoustic": 14}
QUICK_SIZES = {"dim": 10, "num_heads": 2, "num_layers": 3, "memory_layers": 3}
# Counted for the published network: operations, exponentials of what its bands leave visible, forward and backward,
# and bytes of everything that a fused step still has to move.
COUNTED = {"aligned": Work(13.5e9, 16.3e6, 507e6), "unaligned": Work(138e9, 936e6, 2.6e9)}


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


def step_of(task: nn.Module, batch: Batch, compiled: bool = False) -> Call:
    """What a trainer does with a batch before the optimiser's turn."""
    forward = torch.compile(task) if compiled else task
    parameters = [*task.parameters()]

    def step() -> Tensor:
        loss = forward(batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_value_(parameters, 0.6)
        task.zero_grad()
        return loss.detach()

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


def our_provider(make: Callable[[], nn.Module], batch: Batch, settings: Settings, compiled: bool = False) -> Provider:
    """A task of examples/dmd."""

    def provider(mode: str) -> Call:
        if compiled and not settings.compiles:
            raise Skipped("without --compile: compiling takes minutes")
        if compiled:
            torch.compiler.reset()
        return step_of(make().to(settings.device).train(), batch, compiled)

    return provider


def released_points(settings: Settings) -> Iterator[Point]:
    """The published network: the program, and what examples/dmd rebuilds of it."""
    for setting in ("quick",) if settings.quick else ("aligned", "unaligned"):
        if settings.quick:
            config = replace(ReleasedConfig(steps=QUICK_STEPS), **QUICK_SIZES)
        else:
            config = ReleasedConfig(steps=STEPS["mosi", setting])
        undropped = replace(config, attention_dropout=dict.fromkeys((*NAMES, "memory"), 0.0))
        batch = draw(config.steps, config.input_dims, 4 if settings.quick else 16, settings.device)

        providers = {
            PUBLISHED: published_provider(config, batch, settings),
            OURS: our_provider(lambda config=config: released_task(config), batch, settings),
            "gdkit, no attention dropout": our_provider(
                lambda config=undropped: released_task(config), batch, settings
            ),
            COMPILED: our_provider(lambda config=config: released_task(config), batch, settings, compiled=True),
        }
        baseline = OURS if settings.published is None else PUBLISHED
        yield step_point("published network", setting, config.steps, batch, providers, baseline, COUNTED.get(setting))


def released_task(config: ReleasedConfig) -> ReleasedTask:
    """Network and objective with weights as they are drawn."""
    return ReleasedTask(ReleasedNetwork(config), ReleasedObjective())


def example_points(settings: Settings) -> Iterator[Point]:
    """The example's own network with its defaults, which differ from the published ones."""
    dims = ReleasedConfig().input_dims
    for setting in ("quick",) if settings.quick else ("aligned", "unaligned"):
        steps = QUICK_STEPS if settings.quick else STEPS["mosi", setting]
        batch = draw(steps, dims, 4 if settings.quick else 16, settings.device)

        def task() -> nn.Module:
            return DMDTask(DMD(ModelConfig(), dims, 1), TaskConfig())

        providers = {
            OURS: our_provider(task, batch, settings),
            COMPILED: our_provider(task, batch, settings, compiled=True),
        }
        yield step_point("example's network", setting, steps, batch, providers, OURS, None)


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
    sizes = {"batch": len(batch.labels), "steps": "/".join(map(str, steps.values())), "dropout": "as configured"}
    counted = {"full": work}
    return Point(sweep, setting, sizes, providers, baseline, counted, len(batch.labels), frozenset({COMPILED}))


def points(settings: Settings) -> Iterator[Point]:
    """Both networks, aligned and unaligned."""
    yield from released_points(settings)
    yield from example_points(settings)
