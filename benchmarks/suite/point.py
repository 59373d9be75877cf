"""What a case yields: a point of a sweep, and the providers that are compared there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

MODES = ("forward", "backward", "full")

Call = Callable[[], Any]
Provider = Callable[[str], Call]  # from a mode to the call that is measured; whatever it builds first is not


class Skipped(Exception):
    """Why a provider has no figures at a point."""


class Settings(NamedTuple):
    """What the cases need to know of the run.

    Attributes:
        device: "cpu" or "cuda".
        quick: tiny sizes, to see that everything runs.
        published: folder of a clone of the published DMD program; None: there is none.
        compiles: also measure compiled training steps.
        data: folder with feature files to measure the loader on; None: there is none.
    """

    device: str
    quick: bool = False
    published: Path | None = None
    compiles: bool = False
    data: Path | None = None


class Work(NamedTuple):
    """The least that any exact method has to do in one call: operations, exponentials, bytes read and written."""

    flops: float = 0.0
    exponentials: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Work(*(a + b for a, b in zip(self, other)))

    def times(self, factor: float) -> Work:
        """As often."""
        return Work(*(factor * count for count in self))


def by_mode(forward: Work, backward: Work) -> dict[str, Work]:
    """The work of every mode."""
    return {"forward": forward, "backward": backward, "full": forward + backward}


class Point(NamedTuple):
    """One place on a sweep.

    Attributes:
        sweep: name of the sweep.
        x: the place on it, as text.
        sizes: everything else that fixes the point, written into its rows.
        providers: name -> provider, all computing the same thing.
        baseline: name of the provider that the others are divided by.
        work: mode -> what bounds it from below; its keys are the modes that are measured. None: not counted.
        samples: how many samples a call handles, for rates; 0: a rate says nothing here.
        compiled: providers that torch.compile has made, whose operations nothing counts on a CPU.
        on_host: nothing here runs on a GPU or in PyTorch's operations.
        is_command: a call is a process of its own, of which only the time is known.
    """

    sweep: str
    x: str
    sizes: Mapping[str, object]
    providers: Mapping[str, Provider]
    baseline: str
    work: Mapping[str, Work | None]
    samples: int = 0
    compiled: frozenset[str] = frozenset()
    on_host: bool = False
    is_command: bool = False


def skipped(reason: str) -> Provider:
    """A provider that only says why there is none."""

    def provider(mode: str) -> Call:
        raise Skipped(reason)

    return provider


def differentiable(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], parameters: Sequence[Tensor] = ()
) -> Provider:
    """A function of tensors in all three modes; calls give the output, gradients of the inputs, or both.

    "forward" records nothing for autograd, "backward" goes again and again through one recorded graph, "full" is
    recording and going back. Gradients of ``parameters`` are computed too.
    """

    def provider(mode: str) -> Call:
        inputs_ = [x.detach().clone() for x in inputs]  # a provider's own, in the same layout

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (function(*inputs_),)

        if mode == "forward":
            return forward
        leaves = [*(x.requires_grad_() for x in inputs_), *parameters]

        def gradients(output: Tensor, weights: Tensor, retain: bool) -> tuple[Tensor, ...]:
            return torch.autograd.grad(output, leaves, weights, retain_graph=retain)[: len(inputs_)]

        recorded = [function(*inputs_)]
        weights = torch.empty_like(recorded[0])  # in the output's layout
        weights.copy_(torch.arange(weights.numel(), device=weights.device).cos().view(weights.shape))
        if mode == "backward":
            return lambda: gradients(recorded[0], weights, True)
        recorded.clear()

        def full() -> tuple[Tensor, ...]:
            output = function(*inputs_)
            return output.detach(), *gradients(output, weights, False)

        return full

    return provider
