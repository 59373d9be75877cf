"""The data path of examples/dmd: from a command to its first step, from a file to a batch, and through all samples."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from benchmarks.suite.facts import ROOT
from benchmarks.suite.point import Call, Point, Provider, Settings, Work

sys.path.insert(0, str(ROOT / "examples" / "dmd"))
from dmd.data import Batch, Recordings, Split, load, make_loader, synthetic
from dmd.model import DMD, ModelConfig
from dmd.task import DMDTask, TaskConfig

DIMS = {"language": 768, "vision": 20, "acoustic": 5}
STEPS = {"language": 50, "vision": 500, "acoustic": 375}
MOSEI = {"language": 768, "vision": 35, "acoustic": 74}  # widths; 50 aligned steps, 2.9 GB
BATCH = 16
BATCHES = 4  # of a training epoch, enough to see what waits for what
OURS, PLAIN = "examples/dmd", "numpy and pad_sequence"
TORCH, ALL, ALONE = "import torch", "loader and step", "loader alone"
# The command itself, until its optimiser has taken the first step.
FIRST_STEP = """
import os, runpy, sys
import torch
step = torch.optim.AdamW.step
def once(*arguments, **options):
    step(*arguments, **options)
    os._exit(0)
torch.optim.AdamW.step = once
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


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


def plain_split(path: Path) -> Split:
    """The training samples, without a check of the file: slices of its arrays."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    chosen = np.flatnonzero(arrays["split"] == "train").tolist()
    inputs = {}
    for name in (key.removesuffix("_offsets") for key in arrays if key.endswith("_offsets")):
        offsets = arrays[f"{name}_offsets"]
        inputs[name] = [arrays[name][offsets[i] : offsets[i + 1]] for i in chosen]
    return Split([str(i) for i in chosen], inputs, arrays["regression_labels"][chosen])


def plain_loader(split: Split) -> DataLoader:
    """The same batches as the example's, padded by PyTorch."""
    steps = {name: [torch.from_numpy(x) for x in arrays] for name, arrays in split.inputs.items()}
    labels = torch.from_numpy(split.labels)

    def collate(positions: list[int]) -> list[Tensor]:
        inputs, masks = [], []
        for arrays in steps.values():
            samples = [arrays[i] for i in positions]
            inputs.append(pad_sequence(samples, batch_first=True))
            masks.append(pad_sequence([x.new_ones(len(x), dtype=torch.bool) for x in samples], batch_first=True))
        return [*inputs, *masks, labels[positions]]

    return DataLoader(range(len(split)), batch_size=BATCH, collate_fn=collate)  # pyright: ignore


def our_loader(split: Split) -> DataLoader:
    """The example's."""
    return make_loader(split, BATCH)


LOADERS: dict[str, Callable[[Split], DataLoader]] = {PLAIN: plain_loader, OURS: our_loader}


def flat(batch: Batch | list[Tensor]) -> list[Tensor]:
    """Sequences, masks and labels of either loader's batch."""
    return [*batch.inputs.values(), *batch.masks.values(), batch.labels] if isinstance(batch, Batch) else batch


def first_points(path: Path, sizes: dict[str, object]) -> Iterator[Point]:
    """From a file to the first batch, read from disk (which may have the file in its cache)."""
    readers = {PLAIN: lambda: plain_split(path), OURS: lambda: load(str(path)).splits["train"]}

    def provider(name: str) -> Provider:
        return lambda mode: lambda: flat(next(iter(LOADERS[name](readers[name]()))))

    size = path.stat().st_size
    sizes = {**sizes, "megabytes": round(size / 1e6)}
    providers = {name: provider(name) for name in readers}
    yield Point("file to first batch", "", sizes, providers, PLAIN, {"full": Work(bytes=size)}, on_host=True)


def split_points(name: str, split: Split, num_outputs: int, settings: Settings) -> Iterator[Point]:
    """A pass over the samples of a split, and how long training on it waits for batches."""
    longest = [max(map(len, arrays)) for arrays in split.inputs.values()]
    sizes = {"samples": len(split), "batch": BATCH, "steps": "/".join(map(str, longest))}

    def passing(make: Callable[[Split], DataLoader]) -> Provider:
        def provider(mode: str) -> Call:
            loader = make(split)
            return lambda: flat(deque(loader, maxlen=1)[0])

        return provider

    moved = Work(bytes=2 * sum(x.nbytes for sequences in split.inputs.values() for x in sequences))
    passes = {name: passing(make) for name, make in LOADERS.items()}
    yield Point("pass over the samples", name, sizes, passes, PLAIN, {"full": moved}, len(split), on_host=True)
    number = min(BATCHES, -(-len(split) // BATCH))
    waits = {ALL: training_provider(split, num_outputs, number, settings), ALONE: training_provider(split, 0, number)}
    sizes |= {"batches": number, "dropout": "as configured"}
    yield Point(
        "training epoch", name, sizes, waits, ALL, {"full": None}, min(len(split), number * BATCH), on_host=True
    )


def training_provider(split: Split, num_outputs: int, number: int, settings: Settings | None = None) -> Provider:
    """The first batches of an epoch, and a step of the example's network on each; without settings, no step."""

    def provider(mode: str) -> Call:
        loader = make_loader(split, BATCH, shuffle=True)
        task: nn.Module | None = None
        if settings is not None:
            dims = {name: arrays[0].shape[1] for name, arrays in split.inputs.items()}
            config = ModelConfig(dim=8, num_heads=2, num_layers=1) if settings.quick else ModelConfig()
            task = DMDTask(DMD(config, dims, num_outputs), TaskConfig()).train()
            optimizer = torch.optim.AdamW(task.parameters(), fused=True)

        def call() -> list[Tensor]:
            batch = None
            for batch in itertools.islice(loader, number):
                if task is not None:
                    task(batch)["loss"].backward()
                    nn.utils.clip_grad_norm_(task.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
            return [] if batch is None else [batch.labels]

        return call

    return provider


def command_points(name: str, data: str, settings: Settings) -> Iterator[Point]:
    """From the start of `python examples/dmd/train.py` to the optimiser's first step."""
    threads = str(torch.get_num_threads())

    def provider(code: str, *arguments: str) -> Provider:
        def call() -> None:
            with tempfile.TemporaryDirectory() as out:
                command = [sys.executable, "-c", code, *arguments, *(["--out", out] if arguments else [])]
                environment = {**os.environ, "OMP_NUM_THREADS": threads}
                done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])

        return lambda mode: call

    ours = provider(FIRST_STEP, "examples/dmd/train.py", "--data", data, "--device", "cpu", "--batch-size", str(BATCH))
    providers = {TORCH: provider("import torch"), OURS: ours}
    yield Point("command to first step", name, {"batch": BATCH}, providers, TORCH, {"full": None}, is_command=True)


def mosei_sized(num_samples: int) -> Split:
    """As many samples as MOSEI's training split has, with as many numbers in each."""
    generator = np.random.default_rng(0)
    inputs = {}
    for name, dim in MOSEI.items():
        block = generator.normal(size=(997, dim)).astype(np.float32)
        steps = block[np.arange(num_samples * 50) % len(block)]  # (all steps, dim)
        inputs[name] = np.split(steps, num_samples)
    labels = generator.uniform(-3, 3, num_samples).astype(np.float32)
    return Split([str(i) for i in range(num_samples)], inputs, labels)


def points(settings: Settings) -> Iterator[Point]:
    """The sizes of MOSI and MOSEI with random numbers, what ships with the project, and the files of a folder."""
    num_samples = (12, 2, 2) if settings.quick else (384, 16, 16)
    steps = dict.fromkeys(STEPS, 8) if settings.quick else STEPS
    recordings = synthetic(num_samples, dims=DIMS, steps=steps)
    sizes = {"samples": num_samples[0], "batch": BATCH, "steps": "/".join(map(str, steps.values()))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recordings.npz"
        write(path, recordings)
        yield from first_points(path, sizes)
    yield from split_points("MOSI's size, unaligned", recordings.splits["train"], 1, settings)
    del recordings
    yield from split_points("MOSEI's size, aligned", mosei_sized(24 if settings.quick else 16_326), 1, settings)
    gc.collect()
    files = [] if settings.data is None else sorted(settings.data.rglob("*.npz")) + sorted(settings.data.rglob("*.pkl"))
    named = {"synthetic": "synthetic"} if settings.quick else {"smartwatch": "smartwatch", "synthetic": "synthetic"}
    for name, data in (named | {f"{file.parent.name}/{file.name}": str(file.resolve()) for file in files}).items():
        yield from command_points(name, data, settings)
        if not settings.quick:
            recordings = load(data)
            yield from split_points(name, recordings.splits["train"], len(recordings.classes) or 1, settings)
