"""The agreement of nodes: against plain loops, what it recovers, what it leaves alone, and its error texts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive_agreement
from gdkit import DistillationGraph, GDUnit
from gdkit.testing import absent_nodes, node_batches


@given(data=st.data())
@settings(max_examples=40)
def test_agreement_is_the_plain_loop(data):
    num_nodes = data.draw(st.integers(1, 5))
    logits = data.draw(node_batches(num_nodes=num_nodes, zero_vectors=True)).double()
    node_mask = data.draw(absent_nodes(len(logits), num_nodes))
    got = GF.agreement(logits, node_mask)
    torch.testing.assert_close(got, naive_agreement.agreement(logits, node_mask), rtol=1e-6, atol=1e-6)
    assert ((got >= 0) & (got <= 1)).all()


def numbers(noise, samples=5000, offset=0.0):
    """One truth, seen by every node with its own noise; and the correlation of each with that truth."""
    torch.manual_seed(0)
    noise = torch.tensor(noise)
    x = offset + torch.randn(samples, 1, 1) + noise[:, None] * torch.randn(samples, len(noise), 1)
    return x, (1 + noise.square()).rsqrt()


def test_numbers_give_the_correlation_with_the_truth():
    x, wanted = numbers([0.2, 0.5, 1.0, 3.0])
    torch.testing.assert_close(GF.agreement(x), wanted, rtol=0, atol=0.04)
    units = torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None]
    torch.testing.assert_close(GF.agreement(units * x + 100), GF.agreement(x), rtol=0, atol=1e-3)


def test_classes_rank_by_accuracy_and_not_by_confidence():
    torch.manual_seed(0)
    right = torch.tensor([0.5, 0.9, 0.3, 0.7])
    truth = torch.randint(4, (4000, 1))
    says = torch.where(torch.rand(4000, 4) < right, truth, torch.randint(4, (4000, 4)))
    confidence = torch.tensor([9.0, 1.0, 9.0, 3.0])
    r = GF.agreement(confidence[:, None] * torch.nn.functional.one_hot(says, 4))
    torch.testing.assert_close(r, right, rtol=0, atol=0.06)


def test_two_nodes_share_their_correlation():
    x, _ = numbers([0.3, 2.0])
    r = GF.agreement(x)
    torch.testing.assert_close(r[0], r[1])
    torch.testing.assert_close(r[0] * r[1], torch.corrcoef(x[..., 0].T)[0, 1], rtol=0, atol=1e-3)


def test_missing_samples_take_nothing_from_the_others():
    x, wanted = numbers([0.2, 0.5, 1.0])
    mask = torch.rand(5000, 3) > 0.4
    hidden = torch.where(mask[..., None], x, torch.nan)
    torch.testing.assert_close(GF.agreement(hidden, mask), wanted, rtol=0, atol=0.06)


def test_nothing_to_compare_gives_zeros():
    x, _ = numbers([0.2, 0.5, 1.0], samples=6)
    assert not GF.agreement(x[:1]).any()
    assert not GF.agreement(x[:, :1]).any()
    assert not GF.agreement(torch.full((6, 3, 4), 7.0)).any()
    assert not GF.agreement(x, torch.zeros(6, 3, dtype=torch.bool)).any()
    silent = x.clone()
    silent[:, 1] = 0.1
    assert GF.agreement(silent)[1] == 0


def test_half_precision_is_computed_in_single():
    x, _ = numbers([0.2, 0.5, 1.0], samples=64)
    wanted = GF.agreement(x)
    assert GF.agreement(x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(GF.agreement(x.bfloat16()), wanted, rtol=0, atol=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(GF.agreement(x), wanted)


@pytest.mark.parametrize("normalize", ["graph", "target"])
def test_a_unit_weighs_by_agreement_whatever_the_loss_would_like(normalize):
    x, _ = numbers([0.2, 0.6, 1.5], samples=256)
    graph = DistillationGraph.complete(["good", "fair", "poor"])
    unit = GDUnit(graph, 4, 1, scorer="agreement", normalize=normalize)
    assert not list(unit.parameters())
    out = unit(x.requires_grad_())
    assert not out.weights.requires_grad
    assert torch.equal(out.weights, out.weights[:1].expand_as(out.weights))
    taught = graph.matrix(out.weights[0]).sum(dim=1)
    assert taught[0] > taught[1] > taught[2]
    quality = torch.tensor([0.0, 0.0, 50.0])
    swayed = graph.matrix(unit(x, teacher_quality=quality).weights[0]).sum(dim=1)
    assert swayed.argmax() == 2


def test_samples_lacking_a_node_still_follow_the_others():
    x, _ = numbers([0.2, 0.6, 1.5], samples=256)
    graph = DistillationGraph.complete(["good", "fair", "poor"])
    unit = GDUnit(graph, 4, 1, scorer="agreement")
    mask = torch.ones(256, 3, dtype=torch.bool)
    mask[0, 0] = False
    weights = graph.matrix(unit(x, None, mask).weights)
    assert not weights[0, 0].any()
    assert weights[0, 1, 2] > weights[0, 2, 1]
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(256))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: GF.agreement(torch.ones(4, 3)),
            ValueError,
            "agreement: logits must have shape (batch, node, dim), got (4, 3)",
        ),
        (
            lambda: GF.agreement(torch.ones(4, 3, 2, dtype=torch.long)),
            TypeError,
            "agreement: logits must be floating point, got torch.int64",
        ),
        (
            lambda: GF.agreement(torch.ones(4, 3, 2), torch.ones(3, 4, dtype=torch.bool)),
            ValueError,
            "agreement: node_mask must have shape (4, 3), got (3, 4)",
        ),
        (
            lambda: GF.agreement(torch.ones(4, 3, 2), torch.ones(4, 3)),
            TypeError,
            "agreement: node_mask must be boolean (True = real or present), got torch.float32",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
