"""Metrics and predictions of a trained model: `python examples/dmd/evaluate.py runs/smartwatch --split test`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import jsonargparse
from accelerate import Accelerator
from dmd.checkpoint import load_for
from dmd.command import one_line_errors, with_underscores, writable_file
from dmd.data import make_loader
from dmd.evaluation import evaluate
from dmd.report import write_json, write_predictions_csv


def prepare(
    run: str,
    data: str | None = None,
    split: Literal["train", "valid", "test"] = "test",
    out: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu"] = "auto",
) -> dict:
    """Metrics of a trained model on one split, and its predictions.

    Args:
        run: folder of the run.
        data: the data, as in train.py; by default what the run was trained on.
        split: which split to read.
        out: CSV file for the predictions (split, id, truth, prediction); metrics go beside it as .json; by default
            predictions_SPLIT.csv in the run's folder.
        batch_size: samples a batch.
        device: "auto" takes a GPU where there is one.
    """
    task, recordings = load_for(Path(run), data)
    path = writable_file(Path(out) if out else Path(run) / f"predictions_{split}.csv")
    if path.suffix == ".json":
        raise ValueError(f"out is the CSV file of the predictions; the metrics go beside it as .json, got {out}")
    loader = make_loader(recordings.splits[split], batch_size)
    return {"task": task, "recordings": recordings, "split": split, "loader": loader, "path": path, "device": device}


def main(arguments: list[str]) -> None:
    """Check, read the split once, write, print."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="evaluate.py", exit_on_error=False)
        parser.add_function_arguments(prepare, None, as_positional=True)
        given = prepare(**vars(parser.parse_args(with_underscores(arguments))))
    accelerator = Accelerator(cpu=given["device"] == "cpu")
    task, loader = accelerator.prepare(given["task"], given["loader"])
    judged = evaluate(task, loader, given["recordings"], given["split"], accelerator)
    if not accelerator.is_main_process:
        return
    write_predictions_csv(given["path"], {given["split"]: judged["predictions"]})
    write_json(given["path"].with_suffix(".json"), {given["split"]: judged["metrics"], "terms": judged["terms"]})
    for name, value in judged["metrics"].items():
        print(f"{name:16} {value:.4f}")
    print(f"predictions of {len(judged['predictions']['id'])} samples are in {given['path']}")


if __name__ == "__main__":
    main(sys.argv[1:])
