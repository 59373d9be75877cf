"""Turn recordings as they come into the files that train.py reads (docs/data.md describes both forms).

python convert.py folder FOLDER OUT.npz
    Your own recordings. FOLDER holds samples.csv with the columns id, split (train, valid or test) and either label (a
    class name) or value (a number), empty where unknown; and one folder a modality with <id>.csv (a header line, then
    one line a step) or <id>.npy (time, dim). A sample without a file in a modality's folder lacks that modality.

python convert.py smartwatch WATCH_DATASET.npy OUT.npz
    The shipped assets/smartwatch.npz, from seglearn/data/watch_dataset.npy of the Python package seglearn 1.2.5.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from dmd.data.safe_pickle import load_object_npy


def convert_smartwatch(source: Path, target: Path) -> None:
    """50 Hz float64 -> 25 Hz int16: pairs of steps are averaged, which also damps what 25 Hz cannot hold."""
    data = load_object_npy(source)
    if not isinstance(data, dict) or not {"X", "y", "y_labels", "subject"} <= data.keys():
        raise ValueError(f"{source} must hold a dict with the keys X, y, y_labels and subject")
    halved = [steps[: len(steps) // 2 * 2].reshape(-1, 2, 6).mean(axis=1) for steps in data["X"]]  # (time, 6)
    signals = np.concatenate(halved)  # (all steps, 6)
    scales = (np.abs(signals).max(axis=0) / 32767).astype(np.float32)
    np.savez_compressed(
        target,
        signals=np.round(signals / scales).astype(np.int16),
        scales=scales,
        offsets=np.cumsum([0, *(len(steps) for steps in halved)]),
        exercise=data["y"].astype(np.int64),
        person=data["subject"].astype(np.int64),
        classes=np.array(data["y_labels"]),
    )


def convert_folder(source: Path, target: Path) -> None:
    """A folder of CSV or NumPy files -> ragged sequences."""
    with (source / "samples.csv").open(newline="", encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    if not samples or not {"id", "split"} <= set(samples[0]) or not {"label", "value"} & set(samples[0]):
        raise ValueError(f"{source / 'samples.csv'} needs the columns id, split, and label or value, and some lines")
    for number, sample in enumerate(samples, start=2):
        if sample["split"] not in ("train", "valid", "test"):
            raise ValueError(f"samples.csv line {number}: split must be train, valid or test, got {sample['split']!r}")
    ids = [sample["id"] for sample in samples]
    if len(set(ids)) < len(ids):
        raise ValueError(f"samples.csv: id {next(name for name in ids if ids.count(name) > 1)!r} appears twice")
    arrays = {
        "ids": np.array([sample["id"] for sample in samples]),
        "split": np.array([sample["split"] for sample in samples]),
    }
    if "value" in samples[0]:
        arrays["regression_labels"] = np.array([float(sample["value"] or "nan") for sample in samples])
    else:
        labels = [sample["label"] for sample in samples]
        classes = sorted({label for label in labels if label})
        arrays["classes"] = np.array(classes, dtype=str)
        arrays["action"] = np.array([classes.index(label) if label else -100 for label in labels])
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != "."):
        if folder.name in arrays:
            raise ValueError(
                f"{folder}: a modality cannot be called '{folder.name}', the file has an entry of that name"
            )
        sequences = [_read_steps(folder, sample["id"]) for sample in samples]
        widths = {steps.shape[1] for steps in sequences if steps is not None}
        if len(widths) != 1:
            raise ValueError(f"{folder} must hold files of one width, got {sorted(widths)}")
        empty = np.empty((0, widths.pop()), np.float32)
        arrays[folder.name] = np.concatenate([empty, *(steps for steps in sequences if steps is not None)])
        arrays[f"{folder.name}_offsets"] = np.cumsum([0, *(0 if steps is None else len(steps) for steps in sequences)])
    np.savez_compressed(target, **arrays)


def _read_steps(folder: Path, sample_id: str) -> np.ndarray | None:
    if (path := folder / f"{sample_id}.npy").exists():
        steps = np.load(path, allow_pickle=False)
    elif (path := folder / f"{sample_id}.csv").exists():
        steps = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    else:
        return None
    if steps.ndim != 2 or steps.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold numbers (time, dim), got {steps.dtype} {steps.shape}")
    return steps.astype(np.float32)


def main() -> int:
    """Parse, call, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("folder", "smartwatch"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    if arguments.target.suffix != ".npz":
        parser.error(f"the target must be an .npz file, got {arguments.target}")
    try:
        {"folder": convert_folder, "smartwatch": convert_smartwatch}[arguments.form](arguments.source, arguments.target)
    except (OSError, EOFError, ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
