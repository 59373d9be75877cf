"""What a batch does in training: forward, losses, backward, clipping, and the optimiser's turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .config import RunConfig
from .data import Batch
from .finite import FiniteWatch


class TrainingStep:
    """One step, or, with accumulation, a batch's part of it. The host waits for nothing, so a graph can hold it.

    Args:
        module, optimizer: prepared by ``accelerator``.
        accelerator: of the run.
        clip_norm: longest gradient that is not cut.
        rates: highest learning rate of each of the optimiser's groups.
        watch: counts the steps that are skipped because their loss or gradient is not finite.
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
        watch: FiniteWatch,
        *,
        capturable: bool = False,
    ) -> None:
        self.module, self.optimizer, self.accelerator = module, optimizer, accelerator
        self.clip_norm, self.rates, self.watch = clip_norm, list(rates), watch
        self.terms: tuple[str, ...] = ()
        if accelerator.scaler is None:  # the scaler of fp16 says by itself what to skip
            # The fused AdamW leaves everything as it is where this is 1, without the host knowing.
            optimizer.optimizer.found_inf = watch.found
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            # Also what a checkpoint brought along, of a run with a graph or without.
            group["capturable"] = capturable
            group["lr"] = torch.tensor(rate, device=accelerator.device) if capturable else rate

    def set_rates(self, factor: float) -> float:
        """Make the learning rates this share of their highest, and return the first."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        return self.rates[0] * factor

    def __call__(self, batch: Batch, factor: float = 1.0, is_last: bool = True) -> Tensor:
        """Run a batch, and take the step if it is the last one that counts in it.

        Args:
            batch: on the device.
            factor: of the loss, in training.
            is_last: no further batch is accumulated.

        Returns:
            (term + 1,): every scalar that the module returns, and 1; zeros where one of them is not finite.
        """
        accelerator = self.accelerator
        # As accelerate's accumulate() does, which has to guess where an epoch ends.
        accelerator.gradient_state._set_sync_gradients(is_last)
        with nullcontext() if is_last else accelerator.no_sync(self.module):
            out = self.module(batch)
            # A loss that is not finite makes the gradient so, on every process and in every batch of the step.
            accelerator.backward(out["loss"] * (factor / out["loss"].detach().isfinite()))
        if is_last:
            self.watch.note(accelerator.clip_grad_norm_(self.module.parameters(), self.clip_norm))
            self.optimizer.step()
            self.optimizer.zero_grad()
        scalars = {name: x.detach().float() for name, x in out.items() if isinstance(x, Tensor) and x.dim() == 0}
        self.terms = tuple(scalars)
        terms = torch.stack([*scalars.values(), torch.ones_like(self.watch.found)])
        return torch.where(terms.isfinite().all(), terms, 0.0)


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
