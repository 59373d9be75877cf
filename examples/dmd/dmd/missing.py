"""Modalities that are missing at test time: whole, step by step, or at random for each sample.

A dropped modality has no step, which to the network is a modality that the sample never had. A sample that is left
without any (only vision is kept, and it never had vision) still counts: the network predicts from nothing, so that all
rows of a table are about the same n samples. ``empty`` says how many these are.

Draws depend on the seed and on a sample's position in its split, never on batches or on the rate: what is dropped at
one rate is dropped at every higher one too, so that rates compare.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from .data import Split
from .data.recordings import is_labelled
from .data.sequences import Kept, step_counts

FORMULAS = {
    "whole": "a modality that is not kept has no step, in any sample",
    "steps": "step t of modality m is dropped where u[m, t] < rate, u uniform in [0, 1); the others move together",
    "random": "modality m of a sample is dropped where u[m] < rate, u uniform in [0, 1); "
    "a sample that would lose all keeps the one of the largest u",
}


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, the small ones first.

    Example:
        >>> subsets(["language", "vision"])
        [('language',), ('vision',), ('language', 'vision')]
    """
    return [kept for size in range(1, len(names) + 1) for kept in combinations(names, size)]


def keep_modalities(split: Split, kept: Collection[str]) -> Split:
    """The split with these modalities alone; the others keep their place and have no step.

    Raises:
        ValueError: a name that the split does not have.
    """
    if unknown := sorted(set(kept) - set(split.inputs)):
        raise ValueError(f"kept names {', '.join(unknown)}; the modalities are {', '.join(split.inputs)}")
    inputs = {
        name: xs if name in kept else Kept(xs, [np.zeros(steps, bool) for steps in step_counts(xs)])
        for name, xs in split.inputs.items()
    }
    return replace(split, inputs=inputs)


def drop_steps(split: Split, rate: float, generator: np.random.Generator) -> Split:
    """The split without each step of each modality, with chance ``rate``; token ids go with the steps of language.

    Each modality has a stream of its own, so its draws do not depend on the lengths of the others.

    Raises:
        ValueError: a rate outside [0, 1].
    """
    _check_rate(rate)
    inputs: dict[str, Sequence[np.ndarray]] = {}
    tokens = split.tokens
    for stream, (name, xs) in zip(generator.spawn(len(split.inputs)), split.inputs.items(), strict=True):
        kept = [stream.random(steps) >= rate for steps in step_counts(xs)]
        inputs[name] = Kept(xs, kept)
        if name == "language" and tokens is not None:
            tokens = [ids[: len(real)][real[: len(ids)]] for ids, real in zip(tokens, kept, strict=True)]
    return replace(split, inputs=inputs, tokens=tokens)


def drop_modalities(split: Split, rate: float, generator: np.random.Generator) -> Split:
    """The split without each modality of each sample, with chance ``rate``; a sample keeps at least one that it has.

    Raises:
        ValueError: a rate outside [0, 1].
    """
    _check_rate(rate)
    has = presence(split)
    draws = np.where(has, generator.random(has.shape), -1.0)  # (sample, modality)
    kept = draws >= rate
    kept[np.arange(len(kept)), draws.argmax(axis=1)] |= ~kept.any(axis=1)
    inputs = {
        name: Kept(xs, [np.full(steps, is_kept) for steps, is_kept in zip(step_counts(xs), column, strict=True)])
        for (name, xs), column in zip(split.inputs.items(), kept.T, strict=True)
    }
    return replace(split, inputs=inputs)


def presence(split: Split) -> np.ndarray:
    """(sample, modality), True where the modality has a step."""
    return np.array([step_counts(xs) > 0 for xs in split.inputs.values()]).T


@dataclass(frozen=True)
class Case:
    """One row of the table: a protocol, what it was given, and the split it makes.

    Attributes:
        protocol: "whole", "steps" or "random".
        kept: the modalities that may be there.
        rate, seed: of what is dropped by chance; None where nothing is.
        split: what is left.
    """

    protocol: str
    kept: tuple[str, ...]
    rate: float | None
    seed: int | None
    split: Split

    def row(self) -> dict[str, Any]:
        """Its columns, without the metrics; n, and ``empty`` among them, count the labelled samples."""
        labelled = is_labelled(self.split)
        return {
            "protocol": self.protocol,
            "kept": " + ".join(self.kept),
            "rate": self.rate,
            "seed": self.seed,
            "formula": FORMULAS[self.protocol],
            "n": int(labelled.sum()),
            "empty": int((labelled & ~presence(self.split).any(axis=1)).sum()),
        }


def missing_cases(split: Split, rates: Sequence[float], seed: int) -> Iterator[Case]:
    """Every case of the three protocols, one at a time: 2^M - 1 subsets, then each rate by steps and at random."""
    names = tuple(split.inputs)
    for kept in subsets(names):
        yield Case("whole", kept, None, None, keep_modalities(split, kept))
    for protocol, drop in (("steps", drop_steps), ("random", drop_modalities)):
        for rate in rates:
            yield Case(protocol, names, rate, seed, drop(split, rate, np.random.default_rng(seed)))


def num_cases(num_modalities: int, rates: Sequence[float]) -> int:
    """How many :func:`missing_cases` gives."""
    return 2**num_modalities - 1 + 2 * len(rates)


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], got {rate}")
