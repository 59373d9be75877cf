"""One pass over the training split, from wherever the run stands in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from .config import RunConfig
from .data import Batch, BatchOrder
from .finite import Part
from .stopping import Stopped, StopRequest
from .training_step import TrainingStep

ASKED_EVERY = 10  # steps after which several processes on GPUs ask one another whether one is to stop


class Epoch:
    """A function of a run's state, which it keeps up to date; all chance follows from seed, epoch and batch.

    Args:
        config: of the run.
        accelerator: of the run.
        step: what a batch does, and ``run_step``: the same, perhaps replayed from a graph.
        loader: a :func:`dmd.data.training_loader`.
        ids: of the split's samples.
        stop: whether a signal asks for the end.
        save: writes a checkpoint of the state.
    """

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        step: TrainingStep,
        run_step: Callable[..., Tensor],
        loader: DataLoader[Batch],
        ids: list[str],
        *,
        stop: StopRequest,
        save: Callable[[], None],
    ) -> None:
        self.config, self.accelerator, self.step, self.run_step = config, accelerator, step, run_step
        self.loader, self.ids = loader, ids
        self.order: BatchOrder = loader.batch_sampler  # pyright: ignore[reportAttributeAccessIssue]
        self.stop, self.save, self.watch = stop, save, step.watch
        self._steps = 0

    def __call__(self, state: dict[str, Any]) -> dict[str, float]:
        """Take the steps that are left; the mean of every term over the epoch's batches.

        Raises:
            NotFinite: too many steps in a row were skipped.
            Stopped: a signal has come; the state is saved.
        """
        config, accelerator, order, epoch = self.config, self.accelerator, self.order, state["epoch"] + 1
        every, device = config.accumulation, accelerator.device
        order.start(epoch, seen=state["seen"], bucket=state["bucket"])
        state["bucket"] = order.bucket
        sizes = order.sizes()
        done = math.ceil(state["seen"] / order.global_batch)
        steps_an_epoch = math.ceil(math.ceil(order.size / order.global_batch) / every)
        self.step.module.train()
        totals = torch.tensor(state["totals"] or 0.0, device=device)  # (term + 1,), the last counts the batches
        hidden = None if accelerator.is_main_process else True  # None: hidden where the screen is not a terminal
        title, total = f"epoch {epoch}/{config.epochs}", done + len(sizes)
        bar = tqdm(self.loader, title, total, leave=False, initial=done, disable=hidden)
        parts: list[Part] = []  # of the step
        for number, (batch, size) in enumerate(zip(bar, sizes, strict=True)):
            step = number // every
            rate_at = (epoch - 1) * steps_an_epoch + done // every + step
            state["rate"] = self.step.set_rates(schedule(rate_at, config.epochs * steps_an_epoch))
            chance = _chance(config.seed, epoch, done + number, accelerator.process_index)
            torch.manual_seed(chance)
            # The last step of an epoch may have fewer batches; accelerate divides by the full number all the same.
            share = 1.0 if config.global_losses else order.share(size)
            factor = every / min(every, len(sizes) - step * every) * share
            is_last = (number + 1) % every == 0 or number + 1 == len(sizes)
            arrived = send_to_device(batch, device, non_blocking=True)
            totals = totals + share * self.run_step(arrived, factor, is_last)
            state["seen"] += size
            parts.append((batch.index.tolist(), chance))
            if not is_last:
                continue
            state["step"] += 1
            self.watch.remember(state["step"], parts)
            parts = []
            if self.watch.is_too_many(state["step"]):
                raise self.watch.failure(self.ids, self._explain)
            stopping = self.asked_to_stop(always=number + 1 == len(sizes))
            if stopping or (config.checkpoint_every and state["step"] % config.checkpoint_every == 0):
                totals = accelerator.reduce(totals, "mean")
                state["totals"] = totals.tolist()
                self.save()
            if stopping:
                accelerator.wait_for_everyone()  # a launcher gives a process little time once another has ended
                raise Stopped(stopping)
        totals = accelerator.reduce(totals, "mean")
        state["totals"] = totals.tolist()
        means = (totals[:-1] / totals[-1]).tolist()
        return dict(zip(self.step.terms or state["terms"], means, strict=True))

    def asked_to_stop(self, *, always: bool) -> int:
        """The signal that one of the processes has received; 0: none. On GPUs they ask each other now and then only."""
        received, accelerator = self.stop.received or 0, self.accelerator
        if accelerator.num_processes == 1:
            return received
        self._steps += 1
        if not always and accelerator.device.type != "cpu" and self._steps % ASKED_EVERY:
            return 0
        everyone = accelerator.gather(torch.tensor([received], device=accelerator.device))
        return int(everyone.max())

    def _explain(self, positions: list[int], chance: int) -> tuple[dict[str, float], list[str]]:
        """Run a batch once more as it was; see :meth:`FiniteWatch.failure`."""
        batch = self.loader.collate_fn(positions)
        module = self.accelerator.unwrap_model(self.step.module)
        torch.manual_seed(chance)
        with self.accelerator.autocast():
            out = module(send_to_device(batch, self.accelerator.device))
        out["loss"].backward()
        terms = {name: x.item() for name, x in out.items() if isinstance(x, Tensor) and x.dim() == 0}
        bad = [name for name, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        module.zero_grad()
        return terms, bad


def schedule(step: int, total: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to 0 as a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, 0.1 * total))
    return rise * 0.5 * (1 + math.cos(math.pi * step / total))


def _chance(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
