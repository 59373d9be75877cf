"""What finished runs and linear models say of the test split, in one form."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import RunConfig
from ..data import Recordings, for_training
from ..data.recordings import is_labelled
from ..linear import NUM_FOLDS, linear_predictions
from ..metrics import SELECTION, compute_metrics
from .campaign import recordings_for, run_folder
from .variants import Row, Variant


@dataclass
class Outcome:
    """One line of a table before it is summarised.

    Attributes:
        title: as in the table.
        name: of the variant's folder, or of the linear model.
        metrics: of the test split, one mapping a seed.
        valid: the metric that selects, on the validation split, one value a seed.
        predictions: (seed, sample), of the labelled test samples.
    """

    title: str
    name: str
    metrics: list[dict[str, float]]
    valid: list[float]
    predictions: np.ndarray


def labels_of_test(recordings: Recordings) -> np.ndarray:
    """Labels of the labelled test samples.

    Raises:
        ValueError: there are none.
    """
    test = recordings.splits["test"]
    labels = test.labels[is_labelled(test)]
    if len(labels) == 0:
        raise ValueError(f"{recordings.path} has no labelled sample in split 'test', which every table is about")
    return labels


def read_variant(
    root: Path, base: RunConfig, variant: Variant, seeds: Sequence[int], recordings: Recordings
) -> Outcome:
    """The finished runs of a variant.

    Raises:
        ValueError: a run predicted other samples than the recordings have.
    """
    test, metric = recordings.splits["test"], SELECTION[recordings.metrics][0]
    metrics, valid, predictions = [], [], []
    for seed in seeds:
        folder = run_folder(root, base, variant, seed)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        metrics.append({name: np.nan if value is None else value for name, value in results["test"].items()})
        judged = results["valid"].get(metric)  # absent where training read the validation split too
        valid.append(np.nan if judged is None else judged)
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        if [row["id"] for row in rows] != list(test.ids):
            raise ValueError(f"{folder / 'predictions.csv'} is not of the test samples of {recordings.path}")
        predicted = np.array([float(row["prediction"]) for row in rows], dtype=test.labels.dtype)
        predictions.append(predicted[is_labelled(test)])
    name = run_folder(root, base, variant, seeds[0]).parent.name
    return Outcome(variant.title, name, metrics, valid, np.stack(predictions))


def linear_outcomes(config: RunConfig, seeds: Sequence[int]) -> dict[str, Outcome]:
    """A linear model on each modality of the configuration and on "all", fitted on the labels that the runs have.

    It is the same for every seed, unless the seed draws the labels.
    """
    if config.text == "finetune":  # then the features are still to be made; those of the file stand in
        config = replace(config, text=None)
    recordings = recordings_for(config)
    metric, labelled = SELECTION[recordings.metrics][0], is_labelled(recordings.splits["test"])
    outcomes: dict[str, Outcome] = {}
    for seed in seeds if config.labelled_fraction < 1 else seeds[:1]:
        fitted = for_training(recordings, replace(config, seed=seed))
        judged = for_training(recordings, replace(config, seed=seed, train_on="train"))
        by_train = linear_predictions(judged)
        for name, predicted in (by_train if config.train_on == "train" else linear_predictions(fitted)).items():
            valid, test = judged.splits["valid"].labels, judged.splits["test"].labels
            one = outcomes.setdefault(name, Outcome(f"linear, {name}", f"linear-{name}", [], [], np.empty((0, 0))))
            one.metrics.append(compute_metrics(predicted["test"], test, recordings.metrics))
            # Only what was fitted without the validation split is judged by it.
            one.valid.append(compute_metrics(by_train[name]["valid"], valid, recordings.metrics)[metric])
            seen = predicted["test"].astype(test.dtype)[None, labelled]
            one.predictions = np.concatenate([one.predictions.reshape(-1, seen.shape[1]), seen])
    return outcomes


def check_linear(config: RunConfig, seeds: Sequence[int]) -> None:
    """Check, before anything is trained, that linear models can be fitted.

    Raises:
        ValueError: too few training samples have a label.
    """
    for seed in seeds if config.labelled_fraction < 1 else seeds[:1]:
        recordings = for_training(recordings_for(config), replace(config, seed=seed, train_on="train"))
        labels = recordings.splits["train"].labels[is_labelled(recordings.splits["train"])]
        if recordings.task == "regression" and len(labels) < NUM_FOLDS:
            wanted, got = f"{NUM_FOLDS} labelled training samples", len(labels)
        elif recordings.task == "classification" and len(np.unique(labels)) < 2:
            wanted, got = "labelled training samples of 2 classes", len(np.unique(labels))
        else:
            continue
        raise ValueError(f"the table's linear models need at least {wanted}, got {got} with seed {seed}")


def best_on_validation(outcomes: Sequence[Outcome], suite: str) -> Outcome:
    """The one whose mean over the seeds is best on the validation split, by the metric that selects epochs."""
    sign = 1 if SELECTION[suite][1] == "min" else -1
    means = [sign * np.mean(outcome.valid) for outcome in outcomes]
    return outcomes[int(np.argmin(np.nan_to_num(means, nan=np.inf)))]


def row_outcome(
    row: Row, root: Path, base: RunConfig, seeds: Sequence[int], recordings: Recordings, linear: dict[str, Outcome]
) -> Outcome:
    """What a line shows; of several candidates the best on validation, named in the title.

    Where training read the validation split too, the linear models say which modality is strongest.
    """
    if row.linear == "all":
        return replace(linear["all"], title=row.title)
    strongest = best_on_validation([linear[name] for name in recordings.names], recordings.metrics) if linear else None
    if row.linear == "strongest" and strongest is not None:
        return replace(strongest, title=f"{row.title} ({strongest.title.removeprefix('linear, ')})")
    outcomes = [read_variant(root, base, variant, seeds, recordings) for variant in row.variants]
    if len(outcomes) == 1:
        return replace(outcomes[0], title=row.title)
    if strongest is not None and np.isnan([outcome.valid for outcome in outcomes]).all():
        chosen = next(outcome for outcome in outcomes if f"linear, {outcome.title}" == strongest.title)
    else:
        chosen = best_on_validation(outcomes, recordings.metrics)
    return replace(chosen, title=f"{row.title} ({chosen.title})")
