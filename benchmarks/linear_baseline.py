"""How far do averages and a linear model get? The figure that a trained model has to beat.

Regression: ridge regression on the mean of each column over the steps of a sample, the penalty chosen by five-fold
cross-validation that keeps the clips of a video together. Classification: logistic regression on each column's mean and
standard deviation, penalty 1. Each modality alone, then all together. All is standardised and fitted on the train
split; the table is of the test split. Run it from the repository's root:

    python benchmarks/linear_baseline.py --data smartwatch
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, KFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.data import Recordings, Split, load
from dmd.metrics import compute_metrics

PENALTIES = np.logspace(-1, 5, 25)


def features(sequences: list[np.ndarray], with_spread: bool) -> np.ndarray:
    """Mean (and standard deviation) of every column over time: (N, columns); NaN where the modality is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no steps is NaN, as wanted
        means = np.stack([steps.mean(axis=0, dtype=np.float64) for steps in sequences])
        if not with_spread:
            return means
        spreads = np.stack([steps.std(axis=0, dtype=np.float64) for steps in sequences])
    return np.concatenate([means, spreads], axis=1)


def standardized(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the statistics of the first; what is absent becomes the mean, 0."""
    mean, std = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    std[std <= 1e-7 * np.maximum(np.abs(mean), np.median(std))] = 1.0
    return np.nan_to_num((train - mean) / std), np.nan_to_num((other - mean) / std)


def folds(ids: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five folds; clips `video$_$clip` of one video share a speaker and stay in one fold, where there are enough."""
    videos = [sample_id.split("$_$")[0] for sample_id in ids]
    if len(set(videos)) >= 5:
        return list(GroupKFold(5).split(videos, groups=videos))
    return list(KFold(5, shuffle=True, random_state=0).split(videos))


def joined(first: Split, second: Split) -> Split:
    """The samples of two splits as one."""
    inputs = {name: sequences + second.inputs[name] for name, sequences in first.inputs.items()}
    return Split(first.ids + second.ids, inputs, np.concatenate([first.labels, second.labels]))


def linear_baseline(recordings: Recordings, *, with_valid: bool = False) -> dict[str, dict[str, float]]:
    """Test metrics of a linear model on each modality alone and on all: {modality or "all": {metric: value}}."""
    is_classification = recordings.task == "classification"
    train, test = recordings.splits["train"], recordings.splits["test"]
    if with_valid:
        train = joined(train, recordings.splits["valid"])
    is_labelled = train.labels >= 0 if is_classification else ~np.isnan(train.labels)
    labelled_ids = [sample_id for sample_id, has_label in zip(train.ids, is_labelled, strict=True) if has_label]
    columns = {
        name: standardized(
            features(train.inputs[name], is_classification), features(test.inputs[name], is_classification)
        )
        for name in recordings.names
    }
    train_parts, test_parts = zip(*columns.values(), strict=True)
    columns["all"] = np.concatenate(train_parts, axis=1), np.concatenate(test_parts, axis=1)
    results: dict[str, dict[str, float]] = {}
    for name, (train_columns, test_columns) in columns.items():
        model = LogisticRegression(max_iter=5000) if is_classification else RidgeCV(PENALTIES, cv=folds(labelled_ids))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train_columns[is_labelled], train.labels[is_labelled])
        results[name] = compute_metrics(np.asarray(model.predict(test_columns)), test.labels, recordings.metrics)
    return results


def markdown_table(results: dict[str, dict[str, float]]) -> str:
    """One row a model, one column a metric."""
    metrics = list(next(iter(results.values())))
    lines = [["modality", *metrics], ["---"] * (len(metrics) + 1)]
    lines += [[name, *(f"{row[metric]:.3f}" for metric in metrics)] for name, row in results.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="smartwatch", help="smartwatch, synthetic, or a .pkl or .npz file")
    parser.add_argument("--with-valid", action="store_true", help="fit on train and valid together")
    arguments = parser.parse_args()
    try:
        recordings = load(arguments.data)
    except (OSError, ValueError) as error:
        print(f"linear_baseline.py: {error}", file=sys.stderr)
        sys.exit(2)
    table = markdown_table(linear_baseline(recordings, with_valid=arguments.with_valid))
    print(f"{arguments.data}: {recordings.sizes}\n\n{table}")


if __name__ == "__main__":
    main()
