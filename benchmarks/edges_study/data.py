"""Samples of several seeds side by side: every tensor begins with the seed's axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "six_views" / "assets" / "digits.npz"
SCALES = {"2.0": 2.0, "1.2": 1.2, "0.7": 0.7, "0.3": 0.3}
VIEWS = ("fac", "fou", "kar", "mor", "pix", "zer")


class Samples(NamedTuple):
    """One (seed, sample, width) a node, and (seed, sample) classes."""

    inputs: dict[str, Tensor]
    labels: Tensor

    def __getitem__(self, index: Tensor | slice) -> Samples:
        """The samples at a slice, or at a (seed, sample) tensor of positions."""
        if isinstance(index, slice):
            return Samples({name: x[:, index] for name, x in self.inputs.items()}, self.labels[:, index])
        each = torch.arange(len(self.labels))[:, None]
        return Samples({name: x[each, index] for name, x in self.inputs.items()}, self.labels[each, index])


class Study(NamedTuple):
    """A data set under one budget of labels."""

    name: str
    labelled: Samples
    unlabelled: Samples
    test: Samples
    num_classes: int
    hidden: int
    steps: int
    drawn: int  # samples without a label in a step, beside all that have one
    total_weight: float
    reliability: tuple[float, ...] | None  # planted; None: each node's own accuracy without distillation


def planted(name: str, labels: int, seeds: Sequence[int], steps: int) -> Study:
    """Five classes; every node sees the same 16-dimensional class mean, scaled, under its own unit noise."""
    sizes, parts = [labels, 4000, 2000], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(1000 + seed)
        means = 0.6 * torch.randn(5, 16, generator=generator)
        classes = torch.randint(5, (sum(sizes),), generator=generator)
        noise = torch.randn(len(SCALES), sum(sizes), 16, generator=generator)
        parts.append(([scale * means[classes] + noise[i] for i, scale in enumerate(SCALES.values())], classes))
    inputs = {node: torch.stack([x[i] for x, _ in parts]) for i, node in enumerate(SCALES)}
    samples, ends = Samples(inputs, torch.stack([classes for _, classes in parts])), np.cumsum(sizes).tolist()
    split = (samples[slice(end - size, end)] for size, end in zip(sizes, ends))
    return Study(name, *split, 5, 32, steps, 128, float(len(SCALES)), tuple(SCALES.values()))


def digits(name: str, labels: int, seeds: Sequence[int], steps: int) -> Study:
    """Six views of 2,000 digits, 1,000 of them for the test; the seed draws which of the others have a label."""
    packed = np.load(DIGITS)
    test, rest = np.split(np.random.default_rng(0).permutation(len(packed["labels"])), [1000])
    inputs: dict[str, Tensor] = {}
    for view in VIEWS:
        values = packed[view] * packed[f"{view}_scale"] + packed[f"{view}_low"]
        scaled = (values - values[rest].mean(0)) / (values[rest].std(0) + 1e-8)
        inputs[view] = torch.from_numpy(scaled).float().expand(len(seeds), -1, -1)
    samples = Samples(inputs, torch.from_numpy(packed["labels"]).long().expand(len(seeds), -1))
    orders = [np.random.default_rng(1000 + seed).permutation(rest) for seed in seeds]
    order = torch.from_numpy(np.stack(orders))
    split = (
        samples[order[:, :labels]],
        samples[order[:, labels:]],
        samples[torch.from_numpy(test).expand(len(seeds), -1)],
    )
    return Study(name, *split, 10, 64, steps, 64, float(len(VIEWS)), None)


def studies(seeds: Sequence[int], quick: bool) -> list[Study]:
    """Two data sets, labels few and plenty."""
    many, more = (2, 2) if quick else (500, 600)
    return [
        digits("digits, 100 labels", 100, seeds, more),
        planted("planted, 100 labels", 100, seeds, many),
        planted("planted, 10,000 labels", 10_000, seeds, many),
        digits("digits, 1,000 labels", 1000, seeds, more),
    ]
