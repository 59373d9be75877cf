"""Predictions of a trained model for new samples: `python examples/dmd/predict.py RUN FILE --out predictions.csv`."""

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
from dmd.report import write_predictions_csv


def prepare(
    run: str,
    data: str,
    out: str = "predictions.csv",
    batch_size: int = 64,
    device: Literal["auto", "cpu"] = "auto",
) -> dict:
    """Predict every sample of every split of a file; labels are not needed (NaN, or -100 for classes).

    Args:
        run: folder of the run.
        data: the file, with the modalities and widths that the model was trained on.
        out: CSV file (split, id, truth, prediction); the truth is empty where it is unknown.
        batch_size: samples a batch.
        device: "auto" takes a GPU where there is one.
    """
    task, recordings = load_for(Path(run), data)
    path = writable_file(Path(out))
    loaders = {split: make_loader(samples, batch_size) for split, samples in recordings.splits.items() if samples.ids}
    return {"task": task, "recordings": recordings, "loaders": loaders, "path": path, "device": device}


def main(arguments: list[str]) -> None:
    """Check, predict, write, print."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="predict.py", exit_on_error=False)
        parser.add_function_arguments(prepare, None, as_positional=True)
        given = prepare(**vars(parser.parse_args(with_underscores(arguments))))
    accelerator = Accelerator(cpu=given["device"] == "cpu")
    task = accelerator.prepare(given["task"])
    predictions = {
        split: evaluate(task, accelerator.prepare(loader), given["recordings"], split, accelerator)["predictions"]
        for split, loader in given["loaders"].items()
    }
    if accelerator.is_main_process:
        write_predictions_csv(given["path"], predictions)
        print(f"predictions of {sum(len(part['id']) for part in predictions.values())} samples are in {given['path']}")


if __name__ == "__main__":
    main(sys.argv[1:])
