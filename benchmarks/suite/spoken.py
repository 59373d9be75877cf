"""Random numbers in the shape of spoken clips, for data larger than memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dmd.data.recordings import LABEL_RANGES, SPLITS, Recordings, Split
from dmd.data.sequences import Lazy
from dmd.data.shard_writer import write_shards

DIMS = {"language": 768, "vision": 35, "acoustic": 74}
MOST = {"language": 50, "vision": 500, "acoustic": 500}


def draw_lengths(size: int, seed: int) -> dict[str, np.ndarray]:
    """Steps of each sample: audio and video follow the text, at a speed of their own."""
    generator = np.random.default_rng(seed)
    words = np.clip(generator.lognormal(np.log(22), 0.6, size), 1, 50)
    lengths = {"language": words}
    for name in ("vision", "acoustic"):
        lengths[name] = np.clip(words * generator.uniform(8, 12, size), 1, MOST[name])
    return {name: steps.astype(np.int64) for name, steps in lengths.items()}


class Drawn(Lazy):
    """Stretches of a pool of random numbers, at random places."""

    pool = np.random.default_rng(0).standard_normal(4_000_000, np.float32)

    def __init__(self, lengths: np.ndarray, dim: int, seed: int) -> None:
        self.lengths, self.dim = lengths, dim
        self.places = np.random.default_rng(seed).integers(0, len(self.pool) - 500 * dim, len(lengths))

    def read(self, position: int) -> np.ndarray:
        place, steps = int(self.places[position]), int(self.lengths[position])
        return self.pool[place : place + steps * self.dim].reshape(steps, self.dim)


def make_shards(folder: Path, sizes: list[int]) -> None:
    """Write shards without ever holding the data."""
    splits: dict[str, Split] = {}
    for number, (name, size) in enumerate(zip(SPLITS, sizes, strict=True)):
        lengths = draw_lengths(size, number)
        inputs = {modality: Drawn(lengths[modality], DIMS[modality], number) for modality in DIMS}
        labels = np.random.default_rng(number).uniform(-3, 3, size).astype(np.float32)
        splits[name] = Split([f"{name}${i}" for i in range(size)], inputs, labels)
    write_shards(Recordings(splits, "regression", "mosi", (), LABEL_RANGES["mosi"], "random numbers", "0" * 64), folder)
