"""Metrics and predictions of a trained model: `python examples/dmd/evaluate.py runs/smartwatch --split test`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import jsonargparse
from accelerate import Accelerator
from dmd.checkpoint import load_for, read_config
from dmd.command import one_line_errors, with_underscores, writable_file
from dmd.data import make_loader
from dmd.evaluation import evaluate, is_labelled
from dmd.missing_report import judge_missing, write_missing
from dmd.page import check_report, with_split, write_evaluated
from dmd.report import write_json, write_predictions_csv
from dmd.runs import run_folders
from dmd.spread import mean_std


def prepare(
    run: str,
    data: str | None = None,
    split: Literal["train", "valid", "test"] = "test",
    out: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu"] = "auto",
    missing: bool = False,
    missing_rates: tuple[float, ...] = (),
    seed: int = 0,
    pictures: bool = True,
) -> dict[str, Any]:
    """Metrics of a trained model on one split, and its predictions; with --missing, also when modalities are missing.

    Args:
        run: folder of the run, or of the runs over several seeds.
        data: the data, as in train.py; by default what the run was trained on.
        split: which split to read.
        out: CSV file for the predictions (split, id, truth, prediction); metrics go beside it as .json; by default
            predictions_SPLIT.csv in the run's folder.
        batch_size: samples a batch.
        device: "auto" takes a GPU where there is one.
        missing: judge every protocol of missing modalities too.
        missing_rates: of dropping steps, and modalities of a sample.
        seed: of what --missing drops by chance.
        pictures: write report.html anew, with this split; where --out says, the page goes beside it as .html.
    """
    root = Path(run)
    folders = run_folders(root)
    tasks = {}
    for folder in folders:
        task, recordings = load_for(folder, data)
        tasks[read_config(folder)[0].seed] = task
        if pictures:
            check_report(folder)
    samples = recordings.splits[split]
    loader = make_loader(samples, batch_size)
    if missing and not is_labelled(samples).any():
        raise ValueError(f"--missing compares metrics, but no sample of split {split!r} has a label")
    for rate in missing_rates:
        if not 0 <= rate <= 1:
            raise ValueError(f"--missing-rates must be in [0, 1], got {rate}")
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}")
    if out and len(folders) > 1:
        raise ValueError(f"--out is the file of one run; those of the {len(folders)} runs in {root} go beside each")
    if out and Path(out).suffix in (".json", ".html"):
        beside = "the metrics go beside it as .json, the page as .html"
        raise ValueError(f"out is the CSV file of the predictions; {beside}, got {out}")
    paths = [Path(out)] if out else [folder / f"predictions_{split}.csv" for folder in folders]
    paths = dict(zip(tasks, map(writable_file, paths), strict=True))
    return {
        **{"tasks": tasks, "recordings": recordings, "split": split, "loader": loader, "paths": paths},
        **{"root": root if len(folders) > 1 else paths[next(iter(tasks))].parent, "device": device},
        **{"folders": dict(zip(tasks, folders, strict=True)), "pictures": pictures},
        "page": paths[next(iter(tasks))].with_suffix(".html") if out else None,
        "missing": {"rates": sorted(set(missing_rates)), "seed": seed, "batch_size": batch_size} if missing else None,
    }


def main(arguments: list[str]) -> None:
    """Check, read the split once a run (and once a case of missing modalities), write, print."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="evaluate.py", exit_on_error=False)
        parser.add_function_arguments(prepare, None, as_positional=True, skip={"missing", "missing_rates"})
        parser.add_argument("--missing", action="store_true", help="write missing_SPLIT.csv, .md and .png")
        rates = {"type": float, "nargs": "+", "default": [0.1, 0.3, 0.5]}
        parser.add_argument("--missing_rates", **rates, help="of dropping steps, and modalities of a sample")
        given = prepare(**vars(parser.parse_args(with_underscores(arguments))))
    accelerator = Accelerator(cpu=given["device"] == "cpu")
    recordings, split, loader = given["recordings"], given["split"], accelerator.prepare(given["loader"])
    metrics: dict[int, dict[str, float]] = {}
    missing, shown = {}, {}  # rows of each seed; parts of the page of each folder
    for seed, task in given["tasks"].items():
        module, path = accelerator.prepare(task), given["paths"][seed]
        judged = evaluate(module, loader, recordings, split, accelerator)
        metrics[seed] = judged["metrics"]
        if accelerator.is_main_process:
            write_predictions_csv(path, {split: judged["predictions"]})
            write_json(path.with_suffix(".json"), {split: judged["metrics"], "terms": judged["terms"]})
            print(f"predictions of {len(judged['predictions']['id'])} samples are in {path}")
            if given["pictures"]:
                shown[given["folders"][seed]] = with_split(given["folders"][seed], split, judged, recordings)
        if given["missing"]:
            missing[seed] = judge_missing(module, recordings, split, accelerator, **given["missing"])
    if not accelerator.is_main_process:
        return
    for name in metrics[seed]:
        mean, std = mean_std([one[name] for one in metrics.values()])
        print(f"{name:16} {mean:.4f}" + (f" ± {std:.4f} (n = {len(metrics)} seeds)" if len(metrics) > 1 else ""))
    if missing:
        path = given["root"] / f"missing_{split}"
        print(f"\n{write_missing(path, missing, recordings.metrics)}\n\nThis is {path}.md; there are .csv and .png too")
    if shown:
        print(f"\n{write_evaluated(shown, given['page'])} shows all this")


if __name__ == "__main__":
    main(sys.argv[1:])
