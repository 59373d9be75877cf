"""Batches: padding, masks, order, and the statistics for standardisation."""

import numpy as np
import pytest
import torch
from dmd.data import Split, collate, load, make_loader, standardization_statistics, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def splits(draw) -> Split:
    size = draw(st.integers(1, 7))
    dims = draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 3), min_size=1))
    lengths = {name: draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)) for name in dims}
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    inputs = {
        name: [generator.normal(size=(length, dims[name])).astype(np.float32) for length in lengths[name]]
        for name in dims
    }
    labels = generator.normal(size=size).astype(np.float32) if draw(st.booleans()) else generator.integers(0, 3, size)
    return Split([str(i) for i in range(size)], inputs, labels)


@settings(max_examples=60, deadline=None)
@given(split=splits(), batch_size=st.integers(1, 8), shuffle=st.booleans())
def test_batches_hold_every_sample_once_padded_and_masked(split, batch_size, shuffle):
    seen = []
    for batch in make_loader(split, batch_size, shuffle=shuffle, seed=1):
        seen += batch.index.tolist()
        for name, arrays in split.inputs.items():
            x, mask = batch.inputs[name], batch.masks[name]
            assert x.dtype == torch.float32
            assert mask.dtype == torch.bool
            longest = max(1, *(len(arrays[i]) for i in batch.index))
            assert tuple(x.shape) == (len(batch.index), longest, arrays[0].shape[1])
            for row, position in enumerate(batch.index):
                length = len(arrays[position])
                np.testing.assert_array_equal(x[row, :length], arrays[position])
                assert (x[row, length:] == 0).all()
                assert mask[row].tolist() == [True] * length + [False] * (longest - length)
        np.testing.assert_array_equal(batch.labels, split.labels[batch.index])
        assert batch.labels.numpy().dtype == split.labels.dtype
    assert sorted(seen) == list(range(len(split)))


def test_the_order_depends_on_the_seed_alone():
    split = load("synthetic").splits["train"]

    def order(loader) -> list[int]:
        return torch.cat([batch.index for batch in loader]).tolist()

    first = make_loader(split, 16, shuffle=True, seed=5)
    torch.manual_seed(0)
    epochs = [order(first), order(first)]
    torch.manual_seed(1)
    assert order(make_loader(split, 16, shuffle=True, seed=5)) == epochs[0]
    assert epochs[0] != epochs[1]
    assert order(make_loader(split, 16, shuffle=True, seed=6)) != epochs[0]
    assert order(make_loader(split, 16)) == list(range(192))


def test_batch_faults():
    split = synthetic((6, 1, 1)).splits["train"]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        make_loader(split, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        collate(split, [])
    with pytest.raises(ValueError, match="an empty one"):
        make_loader(Split([], {}, np.zeros(0)), 2)


def test_standardization_uses_real_steps_and_spares_constant_columns():
    long = np.array([[1.0, 5, 0.1], [3.0, 5, 0.1], [5.0, 5, 0.1]], np.float32)
    inputs = {"a": [long, np.empty((0, 3), np.float32), long[:1] + np.float32([10, 0, 0])], "b": [np.empty((0, 2))] * 3}
    statistics = standardization_statistics(Split(list("xyz"), inputs, np.zeros(3)))
    mean, std = statistics["a"]
    np.testing.assert_allclose(mean, [5, 5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(std, [np.std([1, 3, 5, 11]), 1, 1], rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_array_equal(statistics["b"], ([0, 0], [1, 1]))


def test_standardization_leaves_rounding_noise_small():
    noise = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 1e-9]
    _, std = standardization_statistics(Split(["x"], {"a": [noise]}, np.zeros(1)))["a"]
    assert std[3] == 1
    assert (std[:3] != 1).all()


def test_centred_statistics_are_those_around_each_samples_mean():
    samples = [np.array([[1.0], [3.0]], np.float32), np.zeros((0, 1), np.float32), np.array([[10.0]], np.float32)]
    split = Split(list("xyz"), {"a": samples}, np.zeros(3))
    mean, std = standardization_statistics(split, centred=True)["a"]
    assert mean == pytest.approx(14 / 3)
    assert std == pytest.approx((2 / 3) ** 0.5)
    empty = Split(["y"], {"a": samples[1:2]}, np.zeros(1))
    assert standardization_statistics(empty, centred=True)["a"][1] == 1
