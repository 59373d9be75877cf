"""Figure 5: every edge's weight over the epochs, and whether the labels have anything to do with it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ..config import RunConfig
from .campaign import run_folder
from .inference import holm
from .tables import number, p_is, p_text
from .variants import FULL, Variant, changed, published_prior

UNITS = ("homogeneous", "heterogeneous")
GD = "objective.distillation"
PRINTED = {
    f"{GD}.scorer": "linear",
    f"{GD}.normalize": "graph",
    f"{GD}.detach_weights": False,
    f"{GD}.quality_sharpness": 0.0,
}
NO_PRIOR = {f"{GD}.prior": None, f"{GD}.hetero_prior": None, f"{GD}.prior_weight": 0.0}
MOST_SPLITS = 10_000


@dataclass(frozen=True)
class Form:
    """A GD-Unit trained with the labels, and with the labels in a random order."""

    title: str
    real: Variant
    shuffled: Variant


def forms(base: RunConfig, names: Sequence[str], ranking: Sequence[str] | None) -> list[Form]:
    """As printed; as printed with the published program's prior, where it is known what that is; as configured."""
    choices: list[tuple[str, str, dict[str, Any]]] = [("printed", "as printed", PRINTED | NO_PRIOR)]
    if ranking is not None:
        prior = published_prior(names, ranking, "graph")
        choices.append(("printed-prior", "with the published prior", PRINTED | prior))
    if all(changed(base, changes) != base for _, _, changes in choices):
        choices.append((FULL.name, "as configured", {}))
    else:
        choices = [
            (name, f"{title} (the configuration)" if changed(base, changes) == base else title, changes)
            for name, title, changes in choices
        ]
    return [
        Form(
            title,
            Variant(name, title, changes),
            Variant(f"{name}-shuffled", f"{title}, shuffled labels", changes | {"shuffle_labels": True}),
        )
        for name, title, changes in choices
    ]


def read_edges(root: Path, base: RunConfig, variant: Variant, seeds: Sequence[int], unit: str) -> np.ndarray:
    """Weights of a unit, (seed, epoch, edge), up to the last epoch that every seed has; empty without the unit."""
    runs = []
    for seed in seeds:
        with (run_folder(root, base, variant, seed) / "edges.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["unit"] == unit]
        epochs = list(dict.fromkeys(row["epoch"] for row in rows))
        runs.append([[float(row["weight"] or "nan") for row in rows if row["epoch"] == epoch] for epoch in epochs])
    shortest = min(map(len, runs))
    return np.array([run[:shortest] for run in runs])


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of the total weight that lies on other edges, in [0, 1]; over the last axis."""
    total = one.sum(axis=-1)
    return np.abs(one - other).sum(axis=-1) / (2 * total)


def between(group: np.ndarray) -> float:
    """Mean distance between two different runs of a group, (run, edge); NaN where there is one run."""
    pairs = [distance(a, b) for a, b in combinations(group, 2)]
    return float(np.mean(pairs)) if pairs else np.nan


def label_test(real: np.ndarray, shuffled: np.ndarray, seed: int = 0) -> float:
    """p value of: runs with real and with shuffled labels, (run, edge) each, differ no more than runs of one kind.

    A permutation test of the energy distance: the mean distance between the kinds less the mean distances within them,
    over all ways to call half of the runs real (drawn ways where they are too many). Seeds that both kinds share make
    it conservative. NaN with one run a kind.
    """
    runs, count = np.concatenate([real, shuffled]), len(real)
    if count < 2 or len(shuffled) < 2:
        return np.nan
    table = distance(runs[:, None], runs[None])  # (run, run)

    def energy(first: np.ndarray) -> float:
        second = ~first
        within = [table[np.ix_(part, part)].sum() / (part.sum() * (part.sum() - 1)) for part in (first, second)]
        return 2 * table[np.ix_(first, second)].mean() - sum(within)

    def chosen(positions: Sequence[int] | np.ndarray) -> np.ndarray:
        mask = np.zeros(len(runs), dtype=bool)
        mask[list(positions)] = True
        return mask

    if comb(len(runs), count) <= MOST_SPLITS:
        splits = [chosen(positions) for positions in combinations(range(len(runs)), count)]
    else:
        generator = np.random.default_rng(seed)
        splits = [chosen(range(count))] + [
            chosen(generator.permutation(len(runs))[:count]) for _ in range(MOST_SPLITS - 1)
        ]
    observed = energy(chosen(range(count)))
    return float(np.mean([energy(split) >= observed - 1e-12 for split in splits]))


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of two graphs' weights; NaN where one has equal weights throughout."""
    from scipy.stats import rankdata

    if np.ptp(one) < 1e-9 or np.ptp(other) < 1e-9:
        return np.nan
    return float(np.corrcoef(rankdata(one.round(9)), rankdata(other.round(9)))[0, 1])


def compare_labels(real: np.ndarray, shuffled: np.ndarray, prior: Sequence[float] | None) -> dict[str, float]:
    """What the labels do to a graph, from (seed, epoch, edge) of both kinds at the last epoch that all have."""
    last = min(real.shape[1], shuffled.shape[1]) - 1
    one, other = real[:, last], shuffled[:, last]
    is_known = ~np.isnan(np.concatenate([one, other])).any(axis=0)
    kept, near = is_known, None if prior is None else np.array(prior)[is_known]
    one, other = one[:, kept], other[:, kept]
    return {
        "epoch": last + 1,
        "n": len(one),
        "distance": float(distance(one[:, None], other[None]).mean()),
        "between_real": between(one),
        "between_shuffled": between(other),
        "spearman": spearman(one.mean(axis=0), other.mean(axis=0)),
        "p": label_test(one, other),
        "to_prior_real": np.nan if near is None else float(distance(one, near).mean()),
        "to_prior_shuffled": np.nan if near is None else float(distance(other, near).mean()),
    }


def edges_text(found: Sequence[tuple[str, str, dict[str, float]]], has_prior: bool) -> list[str]:
    """What labels do to the graphs, as the parts of a page: from (form, unit, :func:`compare_labels`) a line."""
    head = ["form", "GD-Unit", "n", "epoch", "real to shuffled", "real to real", "shuffled to shuffled", "Spearman"]
    head += ["p", "p (Holm)"] + (["prior to real", "prior to shuffled"] if has_prior else [])
    lines, said = [head, ["---"] * len(head)], []
    for (form, unit, one), p in zip(found, holm([one["p"] for _, _, one in found]), strict=True):
        distances = [number(one[name]) for name in ("distance", "between_real", "between_shuffled", "spearman")]
        priors = [number(one[name]) for name in ("to_prior_real", "to_prior_shuffled")] if has_prior else []
        cells = [form, unit, str(one["n"]), str(one["epoch"]), *distances, p_text(one["p"]), p_text(p), *priors]
        lines.append(cells)
        verdict = (
            "one seed cannot tell whether the labels matter"
            if np.isnan(p)
            else f"the weights depend on the labels ({p_is(p)} after Holm)"
            if p < 0.05
            else f"no dependence on the labels that {one['n']} seeds a kind could show ({p_is(p)} after Holm)"
        )
        said.append(f"- {form}, {unit}: {verdict}.")
    explained = (
        "Does a learned graph say anything about the task? The same units were trained with the labels of train and "
        "valid in a random order. Distances are shares of the total weight that lie on other edges, between runs of n "
        "seeds a kind at the last epoch that all have; Spearman: rank correlation of the two kinds' mean weights. p: "
        "permutation test of the energy distance, whether real and shuffled runs differ more than runs of one kind; "
        "with n = 5 it cannot be below 0.008. Where they do not differ, the graph comes from the inputs, the "
        "initialisation, or the prior. Thin lines in the picture: single seeds."
    )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if not has_prior:
        explained += " No form with a prior: name the modalities from best to worst teacher with --ranking."
    return [explained, table, "\n".join(said)]
