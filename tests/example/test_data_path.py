"""The way to the first step: nothing is imported, copied or read that a run does not need yet."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dmd.data import synthetic, training_loader
from dmd.data.recordings import file_sha256, finite_float32

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dmd"


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_a_command_imports_only_what_it_starts_with(command):
    code = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import {command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    later = {"torchmetrics", "transformers", "matplotlib", "sklearn", "scipy", "torch_geometric", "tensorboard"}
    assert f"{command}" in done.stdout.split()
    assert not later & set(done.stdout.split())


def test_finite_numbers_are_not_copied():
    features = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    features.flags.writeable = False
    read, count = finite_float32(features)
    assert read is features
    assert count == 0


def test_finite_numbers_whose_sum_is_not_stay():
    features = np.full((2, 3), 3e38, np.float32)
    read, count = finite_float32(features)
    assert count == 0
    np.testing.assert_array_equal(read, features)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf, np.nan]])
def test_what_is_not_finite_becomes_zero_in_a_copy(values, dtype):
    features = np.arange(1, 13, dtype=dtype)
    features[: len(values)] = values
    before = features.copy()
    read, count = finite_float32(features)
    assert (read.dtype, count) == (np.float32, len(values))
    np.testing.assert_array_equal(read, [*[0] * len(values), *range(len(values) + 1, 13)])
    np.testing.assert_array_equal(features, before)


def test_a_number_that_float32_cannot_hold_becomes_zero():
    read, count = finite_float32(np.array([1.0, 1e300]))
    np.testing.assert_array_equal(read, [1, 0])
    assert count == 1


def test_whole_numbers_become_floats():
    read, count = finite_float32(np.arange(3))
    assert (read.dtype, count) == (np.float32, 0)


def test_the_checksum_is_that_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert file_sha256(path).result() == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none").result()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_give_the_same_batches(num_workers):
    split = synthetic((20, 4, 4)).splits["train"]
    batches = [list(training_loader(split, 8, num_workers=workers)) for workers in (0, num_workers)]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.index, other.index)
        assert all(torch.equal(x, other.inputs[name]) for name, x in one.inputs.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_batches():
    (batch,) = training_loader(synthetic((4, 4, 4)).splits["train"], 4, pin_memory=True)
    assert all(x.is_pinned() for x in (*batch.inputs.values(), *batch.masks.values(), batch.labels, batch.index))
    assert batch.tokens is None
