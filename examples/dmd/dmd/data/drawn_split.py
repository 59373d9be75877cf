"""Train, valid and test where the data names none: drawn once, and the same in every command and on every machine.

Samples are ordered by a hash of their names instead of by a random generator or a library's splitter: evaluate.py draws
the split again, so another version of a package must never move a training sample into the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np

from .recordings import SPLITS

SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}
BLOCK = 20  # neighbours among sorted real labels that are dealt out together


def stratified(labels: np.ndarray, names: Sequence[str], seed: int = 0) -> np.ndarray:
    """A split with the same mix of labels in each part; what has no label trains.

    Args:
        labels: (N,) whole numbers below 0 = unlabelled, each class by itself; or real, NaN = unlabelled, blocks of
            :data:`BLOCK` neighbours in order of size.
        names: N different ones.
        seed: another one draws another split.

    Returns:
        (N,) strings. Of a class, each share is kept to within one sample, and one sample at least trains.
    """
    is_real = labels.dtype.kind == "f"
    known = np.flatnonzero(~np.isnan(labels) if is_real else labels >= 0)
    if is_real:
        ordered = known[np.argsort(labels[known], kind="stable")]
        strata = [ordered[start : start + BLOCK] for start in range(0, len(ordered), BLOCK)]
    else:
        strata = [known[labels[known] == label] for label in np.unique(labels[known])]
    split_of = np.full(len(labels), "train", dtype="<U5")
    # Rounding the running sums, and not each class by itself, keeps the shares of the whole.
    wanted = np.diff(_rounded((1 - SHARES["train"]) * np.cumsum([0, *map(len, strata)])))
    held_out = np.minimum(wanted, [len(stratum) - 1 for stratum in strata])
    num_test = np.diff(_rounded(np.cumsum([0, *held_out]) / 2))
    for stratum, both, test in zip(strata, held_out, num_test):
        shuffled = stratum[_shuffled([names[position] for position in stratum], seed)]
        split_of[shuffled[:both]] = "valid"
        split_of[shuffled[:test]] = "test"
    return split_of


def by_groups(groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """A split that keeps every group (a speaker, a video) in one part, (N,) strings.

    The largest groups go first, each to the part that lacks most samples; of three groups or more every part gets one.
    """
    names, group_of, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    order = _shuffled(names.tolist(), seed)
    order = order[np.argsort(-sizes[order], kind="stable")]
    lacking = {split: share * len(group_of) for split, share in SHARES.items()}
    part_of: dict[int, str] = {}
    for position, group in enumerate(order.tolist()):
        empty = [split for split in SPLITS if split not in part_of.values()]
        open_parts = empty if len(order) - position <= len(empty) else list(SPLITS)
        part_of[group] = max(open_parts, key=lacking.__getitem__)
        lacking[part_of[group]] -= sizes[group]
    return np.array([part_of[group] for group in group_of.tolist()])


def _shuffled(names: Iterable[str], seed: int) -> np.ndarray:
    """Positions in an order that depends on each name and the seed alone."""
    return np.argsort([sha256(f"{seed}:{name}".encode()).hexdigest() for name in names], kind="stable")


def _rounded(sums: np.ndarray) -> np.ndarray:
    return np.floor(sums + 0.5 + 1e-9).astype(np.int64)  # halves go up, whatever float rounding makes of them
