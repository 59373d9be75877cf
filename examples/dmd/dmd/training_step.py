"""What a batch does in training: forward, losses, backward, clipping, and the optimiser's turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .config import RunConfig
from .data import Batch


class TrainingStep:
    """One step, or, with accumulation, a batch's part of it. The host waits for nothing, so a graph can hold it.

    Args:
        module, optimizer: prepared by ``accelerator``.
        accelerator: of the run.
        clip_norm: longest gradient that is not cut.
        rates: highest learning rate of each of the optimiser's groups.
        capturable: keep the learning rates on the device, where a graph that is replayed finds new ones.

    Attributes:
        terms: names of the numbers that a call returns, once it has been called.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Any,
        accelerator: Accelerator,
        clip_norm: float,
        rates: Sequence[float],
        *,
        capturable: bool = False,
    ) -> None:
        self.module, self.optimizer, self.accelerator = module, optimizer, accelerator
        self.clip_norm, self.rates = clip_norm, list(rates)
        self.terms: tuple[str, ...] = ()
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            # Also what a checkpoint brought along, of a run with a graph or without.
            group["capturable"] = capturable
            group["lr"] = torch.tensor(rate, device=accelerator.device) if capturable else rate

    def set_rates(self, factor: float) -> None:
        """Make the learning rates this share of their highest."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def __call__(self, batch: Batch, factor: float = 1.0) -> Tensor:
        """Every scalar that the module returns, (term,); its "loss" times ``factor`` is what trains."""
        accelerator = self.accelerator
        with accelerator.accumulate(self.module):
            out = self.module(batch)
            accelerator.backward(out["loss"] * factor)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.module.parameters(), self.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        scalars = {name: x for name, x in out.items() if isinstance(x, Tensor) and x.dim() == 0}
        self.terms = tuple(scalars)
        return torch.stack([value.detach().float() for value in scalars.values()])


def why_not_graphed(config: RunConfig, accelerator: Accelerator) -> str | None:
    """What keeps the steps of a run out of a CUDA graph; None: nothing does."""
    if accelerator.device.type != "cuda":
        return f"the run is on {accelerator.device}, and only CUDA has graphs"
    if accelerator.num_processes > 1:
        return f"{accelerator.num_processes} processes exchange their gradients in every step"
    if config.accumulation > 1:
        return f"accumulation is {config.accumulation}, and a graph holds a whole step"
    if config.precision == "fp16":
        return "with precision 'fp16' the host reads whether a gradient has overflowed"
    if config.text == "finetune":
        return "with text 'finetune' the encoder reads how long the texts are"
    return None
