"""Eq. 4 without a list of triplets, against the list."""

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import gdkit.functional as GF
from benchmarks import naive
from benchmarks.suite.counters import count_cpu, tensors
from gdkit import _hinge_counts
from gdkit.testing import masks, node_batches
from tests.agreement import assert_same, value_and_gradients

WAYS = {"dense": {"DENSE_ON_CPU": 2**62}, "sorted": {"DENSE_ON_CPU": 0}, "chunks": {"DENSE_ON_CPU": 0, "CHUNK": 20}}
BOTH_WAYS = pytest.mark.parametrize("way", WAYS)


@contextlib.contextmanager
def counting(way):
    """However few or many triplets there are, count them in this way."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(_hinge_counts, name, value)
        yield


@st.composite
def triplet_inputs(draw):
    features = draw(node_batches(batch=draw(st.integers(1, 6)), num_nodes=draw(st.integers(2, 3)), zero_vectors=True))
    batch, num_nodes, _ = features.shape
    label = st.integers(0, 2)
    options = {
        "margin": draw(st.sampled_from((0.0, 0.1, 0.7))),
        "node_mask": draw(st.none() | masks(batch, num_nodes)),
        "sample_mask": draw(st.none() | masks(batch)),
    }
    labels = torch.tensor(draw(st.lists(label, min_size=batch, max_size=batch)))
    if draw(st.booleans()):
        options["label_values"] = labels + torch.linspace(-0.4, 0.4, batch, dtype=torch.float64)
    return features, labels, options


@BOTH_WAYS
@given(triplet_inputs())
def test_triplet_margin_loss(way, inputs):
    features, labels, options = inputs
    with counting(way):
        assert_same(
            lambda x: GF.triplet_margin_loss(x, labels, **options),
            lambda x: naive.triplet_margin_loss(x, labels, **options),
            features,
        )


@BOTH_WAYS
@given(st.data())
def test_counts_of_lists_with_ties(way, data):
    rows = data.draw(st.integers(1, 5))

    def numbers(nowhere):
        size = rows * data.draw(st.integers(1, 5))
        row = st.lists(st.sampled_from((-1.0, 0.0, 0.5, nowhere)), min_size=size, max_size=size)
        return torch.tensor(data.draw(row)).view(rows, -1)

    below, above = numbers(torch.inf), numbers(-torch.inf)
    exceeds = above[:, None, :] > below[:, :, None]
    with counting(way):
        of_below, of_above = _hinge_counts.hinge_counts(below, above)
    assert torch.equal(of_below, exceeds.sum(2).float())
    assert torch.equal(of_above, exceeds.sum(1).float())


@BOTH_WAYS
@pytest.mark.parametrize("proportional", [False, True])
def test_gradients_by_finite_differences(way, proportional):
    labels, node_mask = torch.tensor([0, 1, 1, 2]), torch.rand(4, 3) > 0.1
    options = {"margin": 0.3, "node_mask": node_mask, "label_values": labels * 1.5 if proportional else None}
    features = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    with counting(way):
        assert torch.autograd.gradcheck(lambda x: GF.triplet_margin_loss(x, labels, **options), features)
        assert torch.autograd.gradgradcheck(lambda x: GF.triplet_margin_loss(x, labels, **options), features)


@BOTH_WAYS
def test_a_hinge_at_its_kink_has_no_gradient(way):
    # Anchors, positives and negatives all at right angles, and no margin: every hinge is exactly 0.
    features = torch.eye(4).view(2, 2, 4).requires_grad_()
    with counting(way):
        loss = GF.triplet_margin_loss(features, torch.tensor([0, 1]), margin=0.0)
        loss.backward()
        assert loss == 0
        assert not features.grad.any()
        assert GF.triplet_margin_loss(features, torch.tensor([0, 1]), margin=1e-3) == 1e-3


@BOTH_WAYS
@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:torch.searchsorted")
def test_transforms_of_functions(way):
    features, labels = torch.randn(3, 4, 2, 5, dtype=torch.float64), torch.tensor([0, 1, 1, 2])

    def loss(x):
        return GF.triplet_margin_loss(x, labels, 0.3, label_values=labels.double())

    with counting(way):
        wanted = [value_and_gradients(loss, [x]) for x in features]
        got = torch.func.vmap(torch.func.grad_and_value(loss))(features)
    torch.testing.assert_close(got[1], torch.stack([value for value, _ in wanted]))
    torch.testing.assert_close(got[0], torch.stack([gradient for _, gradient in wanted]))


class Largest(TorchDispatchMode):
    """The most numbers that any result of any operation holds."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.numel = max(self.numel, *(x.numel() for x in tensors(result)), 0)
        return result


def test_many_triplets_need_memory_as_all_similarities_do():
    features, labels = torch.randn(128, 3, 4, requires_grad=True), torch.arange(128) % 5
    with Largest() as largest:
        GF.triplet_margin_loss(features, labels, sample_mask=labels != 4, label_values=labels).backward()
    assert largest.numel == (128 * 3) ** 2


@pytest.mark.parametrize(("batch", "most"), [(16, 40), (128, 48)], ids=["dense", "sorted"])
def test_few_operations_and_none_that_reads_values(batch, most):
    features, labels = torch.randn(batch, 3, 4, requires_grad=True), torch.arange(batch) % 5
    real = labels != 4
    operations, reads, _ = count_cpu(lambda: GF.triplet_margin_loss(features, labels, sample_mask=real).backward())
    assert operations <= most
    assert reads == 0


def test_triplets_are_the_set_of_equation_4():
    # Two nodes, classes 0 0 1. Sample 2 is alone in its class and still has itself at the other node as a positive.
    assert naive.triplets(torch.tensor([0, 0, 1]), 2)[:2] == [((0, 0), (0, 1), (2, 0)), ((0, 0), (1, 1), (2, 0))]
    assert len(naive.triplets(torch.tensor([0, 0, 1]), 2)) == 2 * (2 * 2 * 1 + 1 * 1 * 2)
    features = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.6, 0.8]]])
    # (positive, negative) cosines. Node 0: 4 triplets of anchors 0 and 1 with (1, 0), 2 of anchor 2 with (.8, 0);
    # node 1: 4 with (1, .6), 2 with (.8, .6).
    loss = GF.triplet_margin_loss(features, torch.tensor([0, 0, 1]), margin=0.5)
    torch.testing.assert_close(loss, torch.tensor((4 * 0 + 2 * 0 + 4 * 0.1 + 2 * 0.3) / 12))


@pytest.mark.parametrize(
    "options",
    [
        {"labels": torch.zeros(4, dtype=torch.long)},
        {"labels": torch.arange(4), "sample_mask": torch.zeros(4, dtype=torch.bool)},
        {"labels": torch.arange(4), "node_mask": torch.tensor([[True, False, False]]).expand(4, 3)},
    ],
    ids=["one class", "no label", "one node"],
)
def test_triplet_margin_loss_without_triplets_is_zero_on_the_graph(options):
    features = torch.randn(4, 3, 2, requires_grad=True)
    loss = GF.triplet_margin_loss(features, **options)
    assert loss.item() == 0
    loss.backward()
    assert not features.grad.any()


@given(node_batches(batch=4, num_nodes=2), masks(4, 2))
def test_triplet_margin_loss_never_reads_what_is_masked(features, node_mask):
    labels, values = torch.tensor([0, 1, 0, 1]), torch.tensor([0.1, torch.nan, -0.2, 1.3])
    sample_mask = ~values.isnan()
    wanted = GF.triplet_margin_loss(features, labels, 0.2, node_mask, sample_mask, values.nan_to_num())
    spoiled = torch.where((node_mask & sample_mask[:, None])[..., None], features, torch.nan).requires_grad_()
    loss = GF.triplet_margin_loss(spoiled, labels, 0.2, node_mask, sample_mask, values)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert spoiled.grad.isfinite().all()


def test_triplet_margin_loss_of_a_large_batch_keeps_float32_precision():
    features, labels = torch.randn(256, 3, 16) + 1, torch.randint(5, (256,))
    wanted = value_and_gradients(lambda x: GF.triplet_margin_loss(x, labels), [features.double()])
    for got, want in zip(value_and_gradients(lambda x: GF.triplet_margin_loss(x, labels), [features]), wanted):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_triplet_margin_loss_of_a_large_batch_in_half_precision(dtype):
    features, labels = torch.randn(256, 3, 16).to(dtype), torch.randint(5, (256,))
    loss = GF.triplet_margin_loss(features, labels)
    assert loss.dtype == dtype
    torch.testing.assert_close(loss.double(), GF.triplet_margin_loss(features.double(), labels), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 3, 0)], ids=["no sample", "no node", "no width"])
def test_triplet_margin_loss_of_empty_tensors(shape):
    features, labels = torch.randn(shape, requires_grad=True), torch.arange(shape[0])
    loss = GF.triplet_margin_loss(features, labels, margin=0.5)
    loss.backward()
    assert loss == (0.5 if features.shape[:2].numel() else 0)  # vectors without a direction are all at right angles
    assert GF.triplet_margin_loss(features.to("meta"), labels.to("meta")).shape == ()


def test_autocast_changes_nothing():
    features, labels = torch.randn(16, 3, 5), torch.arange(16) % 3
    wanted = value_and_gradients(lambda x: GF.triplet_margin_loss(x, labels), [features])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = value_and_gradients(lambda x: GF.triplet_margin_loss(x, labels), [features])
    assert all(map(torch.equal, got, wanted))
