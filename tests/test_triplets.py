"""Eq. 4 without a list of triplets, against the list."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive
from gdkit.testing import masks, node_batches
from tests.agreement import assert_same, value_and_gradients


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


@given(triplet_inputs())
def test_triplet_margin_loss(inputs):
    features, labels, options = inputs
    assert_same(
        lambda x: GF.triplet_margin_loss(x, labels, **options),
        lambda x: naive.triplet_margin_loss(x, labels, **options),
        features,
    )


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
