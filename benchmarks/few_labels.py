"""Does distillation help where few samples have a label, and who teaches then? DMD on real recordings.

Every row sees the same samples and the same labels: the labels of most training samples are hidden (by the seed, of
every class alike), and the GD-Units and the reconstruction terms read all samples. The rows differ in the GD-Units
alone: none; Eq. 8 and 9 as printed; the teachers found by their agreement, without labels; the teachers led by their
loss on the validation split. Weights sum to 1 in each. The validation split chooses nothing (the last epoch is kept),
but the last row reads its labels. Goes on where it stopped. Run it from the repository's root:

    python benchmarks/few_labels.py --data FILE --config examples/dmd/configs/utd_mhad.yaml --fraction 0.1
"""

import argparse
import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.command import one_line_errors
from dmd.config import RunConfig, config_parser, run_config
from dmd.metrics import SELECTION
from dmd.reproduce.campaign import check, plan_runs, recordings_for, run_folder, train_all, unfinished
from dmd.reproduce.edges import NO_PRIOR
from dmd.reproduce.variants import NO_GD, Variant
from dmd.spread import mean_std

GD = "objective.distillation"
# What the rows share, whatever the configuration says: weights that sum to 1, no prior, no labels of validation.
GRAPH = NO_PRIOR | {
    f"{GD}.normalize": "graph",
    f"{GD}.temperature": 1.0,
    f"{GD}.detach_weights": False,
    f"{GD}.quality_sharpness": 0.0,
}
ROWS = (
    NO_GD,
    Variant("printed", "printed (linear, graph)", GRAPH | {f"{GD}.scorer": "linear"}),
    Variant("agreement", "agreement", GRAPH | {f"{GD}.scorer": "agreement"}),
    Variant("quality", "validation quality", GRAPH | {f"{GD}.scorer": None, f"{GD}.quality_sharpness": 8.0}),
)


def base_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration of all rows."""
    parser = config_parser()
    parser.add_argument("--config", action="config")
    given = [f"--config={arguments.config}"] if arguments.config else []
    config = run_config(parser, parser.parse_args([*given, *(f"--{setting}" for setting in arguments.set)]))
    objective = replace(config.objective, lambda_distillation=arguments.weight)
    return replace(
        config,
        data=arguments.data,
        labelled_fraction=arguments.fraction,
        train_on="train",
        keep="last",
        objective=objective,
    )


def row_of(results: list[dict[str, Any]], reference: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Test metric over the seeds, difference to the reference of the same seed, and how well out-weights rank nodes."""
    values = [run["test"][metric] for run in results]
    gains = [run["test"][metric] - other["test"][metric] for run, other in zip(results, reference, strict=True)]
    shares, worst = [], []
    for graph in (graph for run in results for graph in run["graphs"].values()):
        out = graph["out_weight"]
        loss = {name: loss for name, loss in graph["valid_loss"].items() if loss is not None}
        total = sum(out.values())
        if not loss or not total:
            continue
        shares.append(out[min(loss, key=loss.get)] / total)
        worst.append(out[max(loss, key=loss.get)] / total)
    row: dict[str, Any] = {"n": len(values)}
    row["mean"], row["std"] = mean_std(values)
    row["gain"], row["gain_std"] = mean_std(gains)
    row["best_teaches"] = float(np.mean(shares)) if shares else None
    row["worst_teaches"] = float(np.mean(worst)) if worst else None
    return row


def markdown(rows: dict[str, dict[str, Any]], metric: str) -> str:
    """One line a row."""
    lines = [f"| GD-Units | {metric}, test | against none, same seed | out-weight of the best node | of the worst |"]
    lines += ["|---|---|---|---|---|"]
    for title, row in rows.items():
        gain = "" if title == NO_GD.title else f"{row['gain']:+.3f} ± {row['gain_std']:.3f}"
        teach = [f"{row[k]:.2f}" if row[k] is not None else "" for k in ("best_teaches", "worst_teaches")]
        lines.append(f"| {title} | {row['mean']:.3f} ± {row['std']:.3f} | {gain} | {' | '.join(teach)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, write few_labels.csv and few_labels.md, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="smartwatch", help="smartwatch, synthetic, or a .pkl or .npz file")
    parser.add_argument("--config", help="YAML file with options of train.py")
    parser.add_argument("--fraction", type=float, default=0.1, help="share of the training samples that keep a label")
    parser.add_argument("--weight", type=float, default=1.0, help="lambda_distillation of every row")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further options of train.py")
    parser.add_argument("--out", help="folder; by default runs/few_labels/NAME")
    arguments = parser.parse_args()
    with one_line_errors():
        base = base_config(arguments)
        out = Path(arguments.out or f"runs/few_labels/{Path(arguments.data).stem}")
        missing = unfinished(plan_runs(out, base, ROWS, arguments.seeds), recordings_for(base))
        check(missing)
    failures = train_all(missing, arguments.jobs, len(ROWS) * len(arguments.seeds))
    if failures:
        sys.exit("\n".join(failures))
    metric = SELECTION[recordings_for(base).metrics][0]
    results = {
        row.title: [
            json.loads((run_folder(out, base, row, seed) / "results.json").read_text()) for seed in arguments.seeds
        ]
        for row in ROWS
    }
    rows = {title: row_of(runs, results[NO_GD.title], metric) for title, runs in results.items()}
    table = markdown(rows, metric)
    (out / "few_labels.md").write_text(table + "\n")
    with (out / "few_labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", "metric", *rows[NO_GD.title]])
        writer.writeheader()
        writer.writerows({"row": title, "metric": metric} | row for title, row in rows.items())
    print(f"\n{table}")


if __name__ == "__main__":
    main()
