"""Transcripts are read where a file has one for each sample, and never stop a file from being read."""

import pickle

import numpy as np
import pytest
from dmd.data import load
from dmd.data.recordings import LONGEST_TEXT

SIZES = {"train": 3, "valid": 2, "test": 2}


@pytest.fixture(params=["mmsa", "ragged"])
def read(request, tmp_path):
    """Write a file with this `raw_text` in each split, and give the transcripts that are read of it."""

    def mmsa(entries):
        content = {
            split: {"id": [f"{split}{i}" for i in range(size)], "text": np.ones((size, 2, 3), np.float32)}
            | {"regression_labels": np.zeros(size), "raw_text": entries(size)}
            for split, size in SIZES.items()
        }
        path = tmp_path / "file.pkl"
        path.write_bytes(pickle.dumps(content))
        return path

    def ragged(entries):
        split = np.repeat(list(SIZES), list(SIZES.values()))
        arrays = {"language": np.ones((7, 3)), "language_offsets": np.arange(8), "regression_labels": np.zeros(7)}
        path = tmp_path / "file.npz"
        np.savez(path, split=split, raw_text=np.array(entries(7)), **arrays)
        return path

    def written(entries):
        recordings = load(str((mmsa if request.param == "mmsa" else ragged)(entries)))
        return {split: part.transcripts for split, part in recordings.splits.items()}

    return written


def test_one_for_each_sample(read):
    found = read(lambda size: [f"words {i}" for i in range(size)])
    assert {split: len(texts) for split, texts in found.items()} == SIZES
    assert found["train"] == ["words 0", "words 1", "words 2"]


def test_long_ones_are_cut(read):
    assert read(lambda size: ["a" * (LONGEST_TEXT + 5)] * size)["test"] == ["a" * LONGEST_TEXT] * 2


@pytest.mark.parametrize("entries", [lambda size: [3.0] * size, lambda size: ["too few"] * (size - 1)])
def test_what_is_no_transcript_is_left_out(read, entries):
    assert read(entries) == dict.fromkeys(SIZES)
