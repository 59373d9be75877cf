"""The order of an epoch's batches: every sample once, whatever the processes, the buckets and the blocks."""

import numpy as np
import pytest
from dmd.data import BatchOrder, collate, lengths, synthetic
from dmd.data.order import STAND_IN
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def settings_of_orders(draw):
    size = draw(st.integers(1, 300))
    options = {"seed": draw(st.integers(0, 5))}
    if draw(st.booleans()):
        options["lengths"] = np.random.default_rng(0).integers(0, 50, size)
    if draw(st.booleans()):
        options["blocks"] = np.arange(size) // draw(st.integers(1, 40))
    return size, draw(st.integers(1, 20)), options


def all_processes(size, batch_size, num_processes, epoch, start=None, **options):
    """The batches of each process."""
    orders = [
        BatchOrder(size, batch_size, process_index=i, num_processes=num_processes, **options)
        for i in range(num_processes)
    ]
    for order in orders:
        order.start(epoch, **start or {})
    return [list(order) for order in orders]


@given(settings_of_orders(), st.integers(1, 4), st.integers(1, 3))
def test_every_sample_comes_once_and_processes_share_alike(setting, num_processes, epoch):
    size, batch_size, options = setting
    parts = all_processes(size, batch_size, num_processes, epoch, **options)
    assert len({len(part) for part in parts}) == 1  # every process takes as many steps
    (whole,) = all_processes(size, batch_size * num_processes, 1, epoch, **options)
    for batch, *shares in zip(whole, *parts, strict=True):
        rows = [position for share in shares for position in share if position != STAND_IN]
        assert rows == batch  # the global batch does not depend on the number of processes
        counts = [sum(position != STAND_IN for position in share) for share in shares]
        assert max(counts) - min(counts) <= 1
        assert all(share == [STAND_IN] or STAND_IN not in share for share in shares)
    assert sorted(position for batch in whole for position in batch) == list(range(size))


@given(settings_of_orders(), st.integers(0, 10), st.integers(1, 3))
def test_going_on_in_the_middle(setting, batches, num_processes):
    size, batch_size, options = setting
    (whole,) = all_processes(size, batch_size, 1, 7, **options)
    flat = [position for batch in whole for position in batch]
    seen = min(batches * batch_size, size)
    (rest,) = all_processes(size, batch_size, 1, 7, {"seen": seen}, **options)
    assert rest == whole[batches:]
    # Other processes, other batches, but the same samples are left, in the same order.
    parts = all_processes(size, 3, num_processes, 7, {"seen": seen, "bucket": batch_size}, **options)
    left = [position for shares in zip(*parts, strict=True) for share in shares for position in share]
    assert [position for position in left if position != STAND_IN] == flat[seen:]


@given(settings_of_orders())
def test_the_shares_of_a_mean_add_up(setting):
    size, batch_size, options = setting
    orders = [BatchOrder(size, batch_size, process_index=i, num_processes=3, **options) for i in range(3)]
    assert sum(orders[0].sizes()) == size
    for count in orders[0].sizes():
        assert sum(order.share(count) for order in orders) == pytest.approx(3)
    assert BatchOrder(size, batch_size, **options).share(size) == 1.0


def test_epochs_and_seeds_differ():
    order, found = BatchOrder(50, 10, seed=1), set()
    for seed in (1, 2):
        order.seed = seed
        for epoch in (1, 2):
            order.start(epoch)
            found.add(tuple(map(tuple, order)))
    assert len(found) == 4


def padding(num_steps, batches):
    """Share of padding among the steps of all batches."""
    return 1 - num_steps.sum() / sum(num_steps[batch].max() * len(batch) for batch in batches)


def test_buckets_leave_little_padding():
    num_steps = np.random.default_rng(0).lognormal(5, 0.8, 5000).astype(int) + 1
    plain, bucketed = (list(BatchOrder(5000, 32, lengths=each)) for each in (None, num_steps))
    assert padding(num_steps, plain) > 0.5
    assert padding(num_steps, bucketed) < 0.15
    means = np.array([num_steps[batch].mean() for batch in bucketed])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3  # and short ones do not all come first


def test_only_a_few_blocks_are_open_at_a_time():
    blocks = np.arange(1000) // 25
    for num_steps in (None, np.arange(1000) % 37):
        batches = list(BatchOrder(1000, 10, blocks=blocks, lengths=num_steps))
        for first in range(0, 100, 10):  # as many samples as four blocks have
            assert len({*blocks[np.concatenate(batches[first : first + 10])]}) <= 9
        # samples of several blocks do meet
        assert np.mean([len({*blocks[batch]}) for batch in batches]) > 2


def test_a_row_that_stands_for_none():
    split = synthetic((4, 4, 4)).splits["train"]
    batch = collate(split, [STAND_IN])
    assert batch.index.tolist() == [-1]
    assert len(batch.labels) == 1
    assert lengths(split).tolist() == [sum(len(x[i]) for x in split.inputs.values()) for i in range(4)]


@pytest.mark.parametrize(
    ("size", "batch_size", "message"), [(0, 2, "needs samples, got none"), (3, 0, "at least 1, got 0")]
)
def test_wrong_sizes(size, batch_size, message):
    with pytest.raises(ValueError, match=message):
        BatchOrder(size, batch_size)
