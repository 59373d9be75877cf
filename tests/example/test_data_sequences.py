"""Sequences that are read when they are asked for, and moments that are joined instead of computed again."""

import pickle

import numpy as np
import pytest
from dmd.data.moments import merged, moments_of
from dmd.data.sequences import Joined, Kept, Lazy, step_counts, width
from hypothesis import given
from hypothesis import strategies as st


class Counting(Lazy):
    """Knows its lengths, and counts what is read."""

    def __init__(self, arrays):
        self.arrays, self.dim, self.num_read = arrays, arrays[0].shape[1], 0
        self.lengths = np.array([len(steps) for steps in arrays])
        self.blocks = np.arange(len(arrays)) // 2

    def read(self, position):
        self.num_read += 1
        return self.arrays[position]


def make_arrays(lengths, dim=3, seed=0):
    generator = np.random.default_rng(seed)
    return [(5 + generator.normal(size=(steps, dim))).astype(np.float32) for steps in lengths]


def test_what_is_known_is_not_read():
    sequence = Counting(make_arrays([2, 0, 3, 4]))
    kept = Kept(sequence, [np.arange(steps) % 2 == 0 for steps in sequence.lengths])
    both = Joined(sequence, kept)
    assert step_counts(both).tolist() == [2, 0, 3, 4, 1, 0, 2, 2]
    assert both.blocks.tolist() == [0, 0, 1, 1] * 2
    assert (width(both), len(both), sequence.num_read) == (3, 8, 0)
    np.testing.assert_array_equal(both[6], sequence.arrays[2][::2])
    assert both[1].shape == both[5].shape == (0, 3)
    assert sequence.num_read == 2  # nothing is read to say that there is nothing
    assert Joined(sequence, make_arrays([1])).blocks is None


def test_sequences_behave_as_lists():
    sequence = Joined(make_arrays([2, 1]), make_arrays([3]))
    assert [len(steps) for steps in sequence] == [len(steps) for steps in sequence[:]] == [2, 1, 3]
    assert len(sequence[-1]) == len(sequence[np.int64(2)]) == 3
    for position in (3, -4):
        with pytest.raises(IndexError, match=f"position {position} of 3 arrays"):
            sequence[position]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sequence))[0], sequence[0])
    assert Joined([np.array([1, 2])], [np.array([3])])[1].tolist() == [3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 8))
def test_moments_agree_with_numpy_whole_and_joined(lengths, cut):
    arrays = make_arrays(lengths)
    steps = np.concatenate(arrays).astype(np.float64)
    within = sum((np.square(one - one.mean(axis=0, dtype=np.float64)).sum(axis=0) for one in arrays if len(one)), 0.0)
    parts = [part for part in (arrays[:cut], arrays[cut:]) if part]
    for found in (moments_of(arrays), moments_of(Joined(*parts)), merged(*map(moments_of, (parts * 2)[:2]))):
        if found.count != len(steps):  # the third joins two parts only where there are two
            continue
        mean = steps.mean(axis=0) if len(steps) else np.zeros(3)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found.squares, np.square(steps - mean).sum(axis=0), atol=1e-10)
        np.testing.assert_allclose(found.within, np.zeros(3) + within, atol=1e-10)


def test_known_moments_are_not_computed_again():
    sequence = Counting(make_arrays([2, 3]))
    sequence.moments = moments_of(sequence)
    assert sequence.num_read == 2
    assert moments_of(Joined(sequence, sequence)).count == 10
    assert sequence.num_read == 2
