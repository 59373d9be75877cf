"""Every formula against the plain loops of benchmarks/naive.py, values and gradients, and by finite differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive
from gdkit import DistillationGraph
from gdkit.testing import check_padding_invariance, graphs, masks, node_batches
from tests.agreement import assert_same

DISTANCES = ("l1", "l2", "cosine", "kl")
KINDS = ("hinge", "absolute", "squared", "signed")
NORMALIZE = ("graph", "target")
COMPLETE = DistillationGraph.complete("abc").edge_index


def chebyshev(teacher, student):
    return (teacher - student).abs().amax(dim=-1)


@given(st.data())
def test_edge_scores(data):
    graph = data.draw(graphs())
    source, target = data.draw(node_batches(num_nodes=graph.num_nodes, dim=2)).unbind(dim=-1)
    assert_same(
        lambda s, t: GF.edge_scores(s, t, graph.edge_index),
        lambda s, t: naive.edge_scores(s, t, graph.edge_index),
        source,
        target,
    )


@pytest.mark.parametrize("normalize", NORMALIZE)
@given(data=st.data())
def test_edge_weights(normalize, data):
    graph = data.draw(graphs())
    scores = data.draw(node_batches(num_nodes=graph.num_edges, dim=1))[..., 0]
    edge_mask = data.draw(st.none() | masks(*scores.shape))
    temperature = data.draw(st.sampled_from((0.5, 1.0, 8.0)))
    assert_same(
        lambda s: GF.edge_weights(s, graph.edge_index, graph.num_nodes, normalize, temperature, edge_mask),
        lambda s: naive.edge_weights(s, graph.edge_index, normalize, temperature, edge_mask),
        scores,
    )


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_edge_weights_take_one_mask_for_every_sample_and_any_score(normalize):
    scores = torch.tensor([[1e4, -1e4, 3e38, 0.0, -3e38, 1.0], [0.0] * 6])
    edge_mask = torch.tensor([True, True, False, True, True, False])
    weights = GF.edge_weights(scores, COMPLETE, 3, normalize, edge_mask=edge_mask)
    assert weights.isfinite().all()
    assert not weights[:, ~edge_mask].any()
    torch.testing.assert_close(weights, GF.edge_weights(scores, COMPLETE, 3, normalize, 1.0, edge_mask.expand(2, 6)))


@pytest.mark.parametrize("distance", [*DISTANCES, chebyshev])
@given(data=st.data())
def test_edge_distances(distance, data):
    graph = data.draw(graphs())
    x = data.draw(node_batches(num_nodes=graph.num_nodes, zero_vectors=True))
    temperature = data.draw(st.sampled_from((0.5, 1.0, 4.0)))
    detach = data.draw(st.booleans())
    assert_same(
        lambda x: GF.edge_distances(x, graph.edge_index, distance, temperature, detach),
        lambda x: naive.edge_distances(x, graph.edge_index, distance, temperature, detach),
        x,
    )


@pytest.mark.parametrize("reduction", ["mean", "none"])
@given(data=st.data())
def test_graph_distillation_loss(reduction, data):
    weights, distances = data.draw(node_batches(dim=2)).unbind(dim=-1)
    assert_same(
        lambda w, d: GF.graph_distillation_loss(w, d, reduction),
        lambda w, d: naive.graph_distillation_loss(w, d, reduction),
        weights,
        distances,
    )


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_soft_orthogonality(kind, data):
    shared = data.draw(node_batches(zero_vectors=True))
    batch, time, dim = shared.shape
    private = data.draw(node_batches(batch=batch, num_nodes=time, dim=dim, dtype=shared.dtype, zero_vectors=True))
    mask = data.draw(st.none() | masks(batch, time))
    assert_same(
        lambda x, y: GF.soft_orthogonality(x, y, kind, mask),
        lambda x, y: naive.soft_orthogonality(x, y, kind, mask),
        shared,
        private,
    )


@given(st.data())
def test_reconstruction_loss(data):
    x = data.draw(node_batches())
    x_hat = data.draw(node_batches(batch=x.shape[0], num_nodes=x.shape[1], dim=x.shape[2], dtype=x.dtype))
    mask = data.draw(st.none() | masks(*x.shape[:2]))
    assert_same(
        lambda x, y: GF.reconstruction_loss(x, y, mask), lambda x, y: naive.reconstruction_loss(x, y, mask), x, x_hat
    )


@pytest.mark.parametrize("function", [GF.soft_orthogonality, GF.reconstruction_loss])
def test_losses_of_sequences_take_any_number_of_axes_and_no_padding(function):
    x, y, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(function(x[0, 0], y[0, 0]), function(x[:1, :1], y[:1, :1]))
    torch.testing.assert_close(function(x[None], y[None], mask=mask[None]), function(x, y, mask=mask))
    check_padding_invariance(
        lambda inputs, masks: function(inputs["x"], inputs["y"], mask=masks["x"]),
        {"x": x, "y": y},
        {"x": mask, "y": mask},
    )
    leaf = torch.where(mask[..., None], x, torch.nan).requires_grad_()
    function(leaf, y, mask=mask).backward()
    assert leaf.grad.isfinite().all()
    nothing = function(x.requires_grad_(), y, mask=torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.item() == 0
    assert nothing.requires_grad


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


LABELS = torch.tensor([0, 1, 1, 2])


def test_means_over_steps_of_nothing_and_of_more_than_16_bits_count():
    none, many = torch.zeros(2, 0, 4, requires_grad=True), torch.ones(1000, 70, 1, dtype=torch.float16)
    everything = torch.ones(1000, 70, dtype=torch.bool)
    for loss in (GF.soft_orthogonality, GF.reconstruction_loss):
        loss(none, none).backward()
        assert loss(none, none) == 0
    assert GF.soft_orthogonality(many, many, mask=everything) == 1
    assert GF.reconstruction_loss(many, -many, mask=everything) == 4


SOME_EDGES = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1], [0] * 6], dtype=torch.bool)
SOME_STEPS = torch.tensor([[True, True, False], [True, False, False]])

SMOOTH = {
    "edge_scores": (lambda s, t: GF.edge_scores(s, t, COMPLETE), [(2, 3), (2, 3)]),
    **{
        f"edge_weights {normalize}": (
            lambda s, normalize=normalize: GF.edge_weights(s, COMPLETE, 3, normalize, 0.7, SOME_EDGES),
            [(3, 6)],
        )
        for normalize in NORMALIZE
    },
    **{
        f"edge_distances {distance}": (
            lambda x, distance=distance: GF.edge_distances(x, COMPLETE, distance, 2.0, detach_teacher=False),
            [(2, 3, 4)],
        )
        for distance in DISTANCES
    },
    "graph_distillation_loss": (GF.graph_distillation_loss, [(2, 6), (2, 6)]),
    "triplet_margin_loss": (lambda x: GF.triplet_margin_loss(x, LABELS, 0.3), [(4, 3, 5)]),
    "triplet_margin_loss proportional": (
        lambda x: GF.triplet_margin_loss(x, LABELS, 0.3, label_values=LABELS * 1.5),
        [(4, 3, 5)],
    ),
    **{
        f"soft_orthogonality {kind}": (
            lambda x, y, kind=kind: GF.soft_orthogonality(x, y, kind, SOME_STEPS),
            [(2, 3, 4), (2, 3, 4)],
        )
        for kind in KINDS
    },
    "reconstruction_loss": (lambda x, y: GF.reconstruction_loss(x, y, SOME_STEPS), [(2, 3, 4), (2, 3, 4)]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_by_finite_differences(name):
    function, shapes = SMOOTH[name]
    assert torch.autograd.gradcheck(function, [double(*shape) for shape in shapes])
