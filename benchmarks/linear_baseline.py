"""How far do averages and a linear model get? The figure that a trained model has to beat.

Ridge or logistic regression on averages over time (:mod:`dmd.linear`): each modality alone, then all together; the
table is of the test split. Run it from the repository's root:

    python benchmarks/linear_baseline.py --data smartwatch
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.data import Recordings, load
from dmd.linear import linear_predictions
from dmd.metrics import compute_metrics


def linear_baseline(recordings: Recordings, *, with_valid: bool = False) -> dict[str, dict[str, float]]:
    """Test metrics of a linear model on each modality alone and on all: {modality or "all": {metric: value}}."""
    labels = recordings.splits["test"].labels
    predictions = linear_predictions(recordings, with_valid=with_valid)
    return {name: compute_metrics(part["test"], labels, recordings.metrics) for name, part in predictions.items()}


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
