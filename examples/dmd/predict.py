"""Answers of a trained model to new samples: `predict.py --checkpoint DIR --data FILE --out predictions.csv`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import torch
from dmd.checkpoint import load_for, read_config
from dmd.command import one_line_errors, with_underscores, writable_file
from dmd.predictor import Class, Predictor
from dmd.report import write_csv
from tqdm import tqdm


def prepare(
    checkpoint: str,
    data: str,
    out: str = "predictions.csv",
    batch_size: int = 64,
    device: Literal["auto", "cpu"] = "auto",
) -> dict[str, Any]:
    """Predict every sample of every split of a file; labels are not needed (NaN, or -100 for classes).

    Args:
        checkpoint: folder of the run.
        data: the file or folder, with the modalities and widths that the model was trained on; a folder of one .npy a
            modality needs no labels file.
        out: CSV file (split, id, prediction; for classes their names, and the probability of each).
        batch_size: samples a batch.
        device: "auto" takes a GPU where there is one.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    task, recordings = load_for(Path(checkpoint), data, unlabelled=True)
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    predictor = Predictor(task, *read_config(Path(checkpoint)), chosen, max_batch_size=batch_size)
    return {"predictor": predictor, "recordings": recordings, "path": writable_file(Path(out))}


def answer(predictor: Predictor, recordings: Any) -> tuple[list[list[Any]], list[str]]:
    """A row (split, id, prediction, ...) a sample, and what was wrong with those that have no prediction."""
    rows, refused = [], []
    for split, samples in recordings.splits.items():
        together = 16 * predictor.max_batch_size  # so many are read at once, to be batched by length
        for start in tqdm(range(0, len(samples.ids), together), split, leave=False, disable=None):
            positions = range(start, min(start + together, len(samples.ids)))
            chosen = [{name: arrays[position] for name, arrays in samples.inputs.items()} for position in positions]
            if predictor.reads_tokens:
                chosen = [
                    sample | {"language": samples.tokens[position][: len(sample["language"])]}
                    for sample, position in zip(chosen, positions, strict=True)
                ]
            for position, found in zip(positions, predictor.predict_each(chosen), strict=True):
                row = [split, samples.ids[position]]
                if isinstance(found, Exception):
                    refused.append(f"{split}, {samples.ids[position]}: {found}")
                    rows.append([*row, *[""] * (1 + len(predictor.classes))])
                else:
                    more = found.probabilities.values() if isinstance(found, Class) else ()
                    rows.append([*row, found[0], *more])
    return rows, refused


def main(arguments: list[str]) -> None:
    """Check, predict, write, print."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="predict.py", exit_on_error=False)
        parser.add_function_arguments(prepare, None)
        given = prepare(**vars(parser.parse_args(with_underscores(arguments))))
    predictor, path = given["predictor"], given["path"]
    rows, refused = answer(predictor, given["recordings"])
    columns = ["split", "id", "prediction", *(f"probability of {name}" for name in predictor.classes)]
    write_csv(path, columns, rows)
    if refused:
        print(f"warning: {len(refused)} samples have no prediction; the first is {refused[0]}", file=sys.stderr)
    print(f"predictions of {len(rows) - len(refused)} samples are in {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
