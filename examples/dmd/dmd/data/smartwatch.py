"""The recordings that ship with the project: ten people, seven shoulder exercises, and the watch on their wrist."""

from pathlib import Path

import numpy as np

from .recordings import Recordings, Split, file_sha256, require_classification
from .safe_npz import read_arrays
from .safe_pickle import load_object_npy

PATH = Path(__file__).resolve().parents[2] / "assets" / "smartwatch.npz"
# Fixed by number before any model was trained: nobody's recordings are in two splits.
PEOPLE = {"train": (1, 2, 3, 4, 5), "valid": (6, 7), "test": (8, 9, 10)}
MODALITIES = {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)}
WINDOW = 100  # steps at 25 Hz: 4 seconds
# Training windows overlap by half, which doubles their number; the others do not, so that each counts once.
HOP = {"train": WINDOW // 2, "valid": WINDOW, "test": WINDOW}


def read_smartwatch(*, task: str | None = None, metrics: str | None = None, path: Path = PATH) -> Recordings:
    """Read the smart-watch recordings as windows of 4 seconds; those for training overlap by half.

    The file holds `signals` (all steps, 6) int16, to be multiplied by `scales` (6,); `offsets` (recordings + 1,);
    `exercise` and `person` (recordings,); `classes`. Units are those of the source. A window has 100 steps; what is
    left at the end of a recording is not used.

    Raises:
        ValueError: a forced task other than classification.
        FileNotFoundError: the file is not there.
    """
    require_classification("smartwatch", task, metrics)
    if not path.is_file():
        raise FileNotFoundError(f"the smart-watch recordings are missing at {path}")
    checksum = file_sha256(path)
    arrays = read_arrays(path)
    signals = arrays["signals"] * arrays["scales"]  # (all steps, 6) float32
    splits: dict[str, Split] = {}
    for split, people in PEOPLE.items():
        ids: list[str] = []
        labels: list[int] = []
        inputs: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
        for recording in np.flatnonzero(np.isin(arrays["person"], people)):
            start, end = arrays["offsets"][recording : recording + 2]
            for window, first in enumerate(range(start, end - WINDOW + 1, HOP[split])):
                steps = signals[first : first + WINDOW]  # (time, 6)
                ids.append(f"recording{recording:03d}_w{window:02d}")
                labels.append(int(arrays["exercise"][recording]))
                for name, columns in MODALITIES.items():
                    inputs[name].append(steps[:, columns].copy())
        splits[split] = Split(ids, inputs, np.array(labels, np.int64))
    classes = tuple(arrays["classes"].tolist())
    return Recordings(splits, "classification", "accuracy", classes, None, str(path), checksum.result())


def read_seglearn(source: Path) -> dict[str, np.ndarray]:
    """The arrays of the shipped file, from those of seglearn: 50 Hz float64 becomes 25 Hz int16.

    Pairs of steps are averaged, which also damps what 25 Hz cannot hold.

    Raises:
        ValueError: the file holds something else.
    """
    data = load_object_npy(source)
    if not isinstance(data, dict) or not {"X", "y", "y_labels", "subject"} <= data.keys():
        raise ValueError(f"{source} must hold a dict with the keys X, y, y_labels and subject")
    halved = [steps[: len(steps) // 2 * 2].reshape(-1, 2, 6).mean(axis=1) for steps in data["X"]]  # (time, 6)
    signals = np.concatenate(halved)  # (all steps, 6)
    scales = (np.abs(signals).max(axis=0) / 32767).astype(np.float32)
    return {
        "signals": np.round(signals / scales).astype(np.int16),
        "scales": scales,
        "offsets": np.cumsum([0, *(len(steps) for steps in halved)]),
        "exercise": data["y"].astype(np.int64),
        "person": data["subject"].astype(np.int64),
        "classes": np.array(data["y_labels"]),
    }
