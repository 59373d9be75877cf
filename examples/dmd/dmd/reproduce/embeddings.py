"""Figures 3 and 4: where the features of each modality lie, with GD-Units and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from ..checkpoint import load_network, read_config
from ..config import RunConfig
from ..data import Recordings, make_loader
from ..data.recordings import is_labelled
from ..data.sequences import step_counts
from ..evaluation import evaluate
from .campaign import run_folder
from .variants import FULL, NO_GD, NO_HETERO

VARIANTS = (FULL, NO_HETERO, NO_GD)
SPACES = {"figure3": "homogeneous", "figure4": "heterogeneous"}
NEIGHBOURS = 10
MOST_SAMPLES = 1000


@dataclass
class Neighbourhood:
    """Of the nearest neighbours of a test sample's feature, which are other samples' features of any modality:

    the share whose sample has the same label (rounded), and the share that is of another modality.
    """

    same_label: float
    other_modality: float


def features_of(folder: Path, base: RunConfig, recordings: Recordings, space: str) -> dict[str, np.ndarray]:
    """The test samples' features by a finished run, modality -> (N, width); NaN where a sample lacks it."""
    config, described = read_config(folder)
    task = load_network(folder, config, described)
    accelerator = Accelerator(cpu=base.device == "cpu")
    task, loader = accelerator.prepare(task, make_loader(recordings.splits["test"], config.batch_size))
    return evaluate(task, loader, recordings, "test", accelerator)["features"][space]


def neighbourhood(features: Mapping[str, np.ndarray], labels: np.ndarray) -> Neighbourhood:
    """How features lie to each other, by labels (N,) and modality; rows of NaN are left out."""
    from sklearn.neighbors import NearestNeighbors

    points = np.concatenate([*features.values()])  # (modality * N, width)
    sample = np.tile(np.arange(len(labels)), len(features))
    modality = np.repeat(np.arange(len(features)), len(labels))
    is_real = np.isfinite(points).all(axis=1)
    points, sample, modality = points[is_real], sample[is_real], modality[is_real]
    # A sample's own features, one a modality, are no neighbours.
    count = min(len(points), NEIGHBOURS + len(features))
    found = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(points, return_distance=False)
    same_label, other_modality = [], []
    for i, nearest in enumerate(found):
        others = nearest[sample[nearest] != sample[i]][:NEIGHBOURS]
        same_label.append((labels[sample[others]] == labels[sample[i]]).mean() if len(others) else np.nan)
        other_modality.append((modality[others] != modality[i]).mean() if len(others) else np.nan)
    return Neighbourhood(float(np.nanmean(same_label)), float(np.nanmean(other_modality)))


def collect(
    what: str, root: Path, base: RunConfig, seeds: Sequence[int], recordings: Recordings
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[Neighbourhood]], np.ndarray]:
    """By title: features of the first seed's run, and neighbourhoods of every seed's; and the samples' labels.

    Only labelled test samples, the same at most 1000 for every run.
    """
    labelled = np.flatnonzero(is_labelled(recordings.splits["test"]))
    kept = np.sort(np.random.default_rng(0).permutation(labelled)[:MOST_SAMPLES])
    groups = label_groups(recordings)[kept]
    shown: dict[str, dict[str, np.ndarray]] = {}
    found: dict[str, list[Neighbourhood]] = {}
    for variant in VARIANTS:
        for seed in seeds:
            features = features_of(run_folder(root, base, variant, seed), base, recordings, SPACES[what])
            features = {name: values[kept] for name, values in features.items()}
            shown.setdefault(variant.title, features)
            found.setdefault(variant.title, []).append(neighbourhood(features, groups))
    return shown, found, recordings.splits["test"].labels[kept]


def label_groups(recordings: Recordings) -> np.ndarray:
    """The test labels as groups: classes, or numbers rounded as Eq. 4 rounds them (in [-1, 1]: by sign)."""
    labels = recordings.splits["test"].labels
    if recordings.task == "classification":
        return labels
    return np.sign(labels) if recordings.metrics == "sims" else np.round(labels)


def chance(recordings: Recordings) -> float:
    """Share of pairs of labelled test samples with the same label: what neighbours drawn at random would have."""
    groups = label_groups(recordings)[is_labelled(recordings.splits["test"])]
    shares = np.unique(groups, return_counts=True)[1] / len(groups)
    return float((shares**2).sum())


def chance_of_others(recordings: Recordings) -> float:
    """Share of pairs of test samples' features that are of different modalities."""
    arrays = recordings.splits["test"].inputs.values()
    present = np.array([np.count_nonzero(step_counts(part)) for part in arrays])
    return float(1 - ((present / present.sum()) ** 2).sum())
