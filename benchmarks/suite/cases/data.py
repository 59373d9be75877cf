"""The loader of examples/dmd: from a file on disk to the first batch, and then through all samples."""

from __future__ import annotations

import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from benchmarks.suite.facts import ROOT
from benchmarks.suite.point import Call, Point, Provider, Settings, Work

sys.path.insert(0, str(ROOT / "examples" / "dmd"))
from dmd.data import Batch, Recordings, load, make_loader, synthetic

DIMS = {"language": 768, "vision": 20, "acoustic": 5}
STEPS = {"language": 50, "vision": 500, "acoustic": 375}
BATCH = 16
OURS, PLAIN = "examples/dmd", "numpy and pad_sequence"


def write(path: Path, recordings: Recordings) -> None:
    """A ragged .npz: all steps of a modality in a row, where each sample begins, labels, and who is in which split."""
    arrays: dict[str, np.ndarray] = {}
    for name in recordings.names:
        sequences = [x for split in recordings.splits.values() for x in split.inputs[name]]
        arrays[name] = np.concatenate(sequences)
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, sequences)])
    arrays["regression_labels"] = np.concatenate([split.labels for split in recordings.splits.values()])
    arrays["split"] = np.repeat([*recordings.splits], [len(split) for split in recordings.splits.values()])
    np.savez(path, **arrays)


def plain_loader(path: Path) -> DataLoader:
    """The same batches, without a check of the file: slices of its arrays, padded by PyTorch."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    names = [key.removesuffix("_offsets") for key in arrays if key.endswith("_offsets")]
    steps = {name: torch.from_numpy(arrays[name]) for name in names}
    chosen = np.flatnonzero(arrays["split"] == "train").tolist()
    labels = torch.from_numpy(arrays["regression_labels"])

    def collate(positions: list[int]) -> list[Tensor]:
        inputs, masks = [], []
        for name in names:
            offsets = arrays[f"{name}_offsets"]
            samples = [steps[name][offsets[i] : offsets[i + 1]] for i in positions]
            inputs.append(pad_sequence(samples, batch_first=True))
            masks.append(pad_sequence([x.new_ones(len(x), dtype=torch.bool) for x in samples], batch_first=True))
        return [*inputs, *masks, labels[positions]]

    return DataLoader(chosen, batch_size=BATCH, collate_fn=collate)


def our_loader(path: Path) -> DataLoader:
    """The example's."""
    return make_loader(load(str(path)).splits["train"], BATCH)


def flat(batch: Batch | list[Tensor]) -> list[Tensor]:
    """Sequences, masks and labels of either loader's batch."""
    return [*batch.inputs.values(), *batch.masks.values(), batch.labels] if isinstance(batch, Batch) else batch


def first_provider(make: Callable[[Path], DataLoader], path: Path) -> Provider:
    """From the file to the first batch."""
    return lambda mode: lambda: flat(next(iter(make(path))))


def pass_provider(make: Callable[[Path], DataLoader], path: Path) -> Provider:
    """Through all batches of a loader that is there; gives the last one."""

    def provider(mode: str) -> Call:
        loader = make(path)
        return lambda: flat(deque(loader, maxlen=1)[0])

    return provider


def points(settings: Settings) -> Iterator[Point]:
    """Time to the first batch, read from disk (which may have the file in its cache), and a pass over the samples."""
    num_samples = (12, 2, 2) if settings.quick else (384, 16, 16)
    steps = dict.fromkeys(STEPS, 8) if settings.quick else STEPS
    recordings = synthetic(num_samples, dims=DIMS, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recordings.npz"
        write(path, recordings)
        size = path.stat().st_size
        sizes = {"samples": num_samples[0], "batch": BATCH, "steps": "/".join(map(str, steps.values()))}
        sizes["megabytes"] = round(size / 1e6)
        loaders = {PLAIN: plain_loader, OURS: our_loader}
        first = {name: first_provider(make, path) for name, make in loaders.items()}
        yield Point("file to first batch", "", sizes, first, PLAIN, {"full": Work(bytes=size)}, on_host=True)
        train = recordings.splits["train"]
        moved = Work(bytes=2 * sum(x.nbytes for sequences in train.inputs.values() for x in sequences))
        passes = {name: pass_provider(make, path) for name, make in loaders.items()}
        yield Point("pass over the samples", "", sizes, passes, PLAIN, {"full": moved}, num_samples[0], on_host=True)
