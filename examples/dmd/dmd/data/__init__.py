"""Everything the example reads: one function, `load`, for shipped, synthetic and own recordings."""

from pathlib import Path

from .batching import Batch, blocks, collate, lengths, make_loader, standardization_statistics, training_loader
from .mmsa import read_mmsa
from .order import BatchOrder
from .ragged import read_ragged
from .recordings import Recordings, Split, resolve_task
from .selection import for_training, joined, only, with_labelled_fraction, with_shuffled_labels
from .shards import read_shards
from .smartwatch import read_smartwatch
from .synthetic import synthetic

__all__ = [
    "Batch",
    "BatchOrder",
    "Recordings",
    "Split",
    "blocks",
    "collate",
    "for_training",
    "joined",
    "lengths",
    "load",
    "make_loader",
    "only",
    "standardization_statistics",
    "synthetic",
    "training_loader",
    "with_labelled_fraction",
    "with_shuffled_labels",
]


def load(data: str, *, task: str | None = None, metrics: str | None = None, seed: int = 0) -> Recordings:
    """Read recordings by name or from a file.

    Task and metric suite follow from what the file holds; either can be forced.

    Args:
        data: "smartwatch" (ships with the project), "synthetic", the path of an MMSA feature file (`.pkl`), of a file
            of ragged sequences (`.npz`), of a folder of shards, of arrays (one `.npy` a modality, and labels) or of
            recordings (samples.csv), or the URL of a folder of shards.
        task: "regression" or "classification".
        metrics: "mosi", "sims" or "accuracy".
        seed: of the synthetic recordings; nothing else is drawn.

    Raises:
        ValueError: an unknown name, a forced task that the data cannot give, or a file that is wrong somewhere; the
            message says where.
        FileNotFoundError: no file at this path.

    Example:
        >>> load("synthetic").sizes
        {'train': 192, 'valid': 64, 'test': 64}
    """
    if task not in (None, "regression", "classification"):
        raise ValueError(f"task must be 'regression' or 'classification', got {task!r}")
    if metrics not in (None, "mosi", "sims", "accuracy"):
        raise ValueError(f"metrics must be 'mosi', 'sims' or 'accuracy', got {metrics!r}")
    if data == "smartwatch":
        return read_smartwatch(task=task, metrics=metrics)
    if data == "synthetic":
        if metrics == "sims":
            raise ValueError("the synthetic recordings go with metrics 'mosi' or 'accuracy', got 'sims'")
        return synthetic(task=resolve_task(task, metrics, has_values=True), seed=seed)
    if "://" in data:
        from .remote import read_remote_shards

        return read_remote_shards(data, task=task, metrics=metrics)
    readers = {".pkl": read_mmsa, ".npz": read_ragged}
    path = Path(data)
    if data and path.is_dir():
        return _read_folder(path, task=task, metrics=metrics)
    if path.suffix not in readers:
        wanted = "'smartwatch', 'synthetic', the path of a .pkl or .npz file or of a folder of shards"
        wanted += " or of arrays (one .npy a modality), or its URL"
        absent = "" if path.exists() else ", which is not there"
        raise ValueError(f"data must be {wanted}, got {data!r}{absent}")
    if not path.is_file():
        raise FileNotFoundError(f"no data file at {data}")
    return readers[path.suffix](path, task=task, metrics=metrics)


def _read_folder(path: Path, *, task: str | None, metrics: str | None) -> Recordings:
    """What kind of folder it is shows in its files."""
    if (path / "index.json").exists() or any(path.glob("*.safetensors")):
        return read_shards(path, task=task, metrics=metrics)
    from .folders import read_own

    return read_own(path, task=task, metrics=metrics)[1]
