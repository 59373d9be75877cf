"""Every formula against the plain loops of benchmarks/naive.py, values and gradients, and by finite differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive
from gdkit import DistillationGraph
from gdkit.testing import check_padding_invariance, graphs, masks, node_batches

DISTANCES = ("l1", "l2", "cosine", "kl")
KINDS = ("hinge", "absolute", "squared", "signed")
NORMALIZE = ("graph", "target")
COMPLETE = DistillationGraph.complete("abc").edge_index


def chebyshev(teacher, student):
    return (teacher - student).abs().amax(dim=-1)


def value_and_gradients(function, inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    cotangent = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    return [value, *torch.autograd.grad(value, leaves, cotangent, allow_unused=True, materialize_grads=True)]


def assert_same(ours, loops, *inputs):
    """Same value, and same gradient at every input, as the loops give in float64."""
    wanted = value_and_gradients(loops, [x.double() for x in inputs])
    tolerance = 1e-9 if inputs[0].dtype == torch.float64 else 1e-4
    for got, want in zip(value_and_gradients(ours, inputs), wanted):
        assert got.dtype == inputs[0].dtype
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * scale)


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


X, EDGES = torch.zeros(2, 3, 4), torch.zeros(2, 6)

ERRORS = [
    (
        lambda: GF.edge_scores(EDGES[:, :3], EDGES, COMPLETE),
        "edge_scores: target_terms must have shape (2, 3), got (2, 6)",
    ),
    (lambda: GF.edge_scores(X, X, COMPLETE), "edge_scores: source_terms must have shape (batch, node), got (2, 3, 4)"),
    (
        lambda: GF.edge_weights(EDGES[:, :5], COMPLETE, 3),
        "edge_weights: edge_index must have shape (2, 5), got (2, 6)",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, "node"),
        "edge_weights: normalize must be one of 'graph', 'target', got 'node'",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, temperature=0.0),
        "edge_weights: temperature must be above 0, got 0.0",
    ),
    (
        lambda: GF.edge_weights(EDGES, COMPLETE, 3, edge_mask=EDGES),
        "edge_weights: edge_mask must be boolean (True = real or present), got torch.float32",
    ),
    (lambda: GF.edge_distances(EDGES, COMPLETE), "edge_distances: x must have shape (batch, node, dim), got (2, 6)"),
    (
        lambda: GF.edge_distances(X, COMPLETE, "l3"),
        "edge_distances: distance must be one of 'l1', 'l2', 'cosine', 'kl', got 'l3'",
    ),
    (
        lambda: GF.edge_distances(X[..., :1], COMPLETE, "kl"),
        "edge_distances: distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: GF.edge_distances(X[..., :1], COMPLETE, "cosine"),
        "edge_distances: distance 'cosine' is only a sign on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: GF.edge_distances(X, COMPLETE, lambda teacher, student: teacher - student),
        "edge_distances: distance(teacher, student) must have shape (2, 6), got (2, 6, 4)",
    ),
    (
        lambda: GF.graph_distillation_loss(EDGES, EDGES[:, :5]),
        "graph_distillation_loss: distances must have shape (2, 6), got (2, 5)",
    ),
    (
        lambda: GF.graph_distillation_loss(EDGES, EDGES, "sum"),
        "graph_distillation_loss: reduction must be one of 'mean', 'none', got 'sum'",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS),
        "triplet_margin_loss: labels must have shape (2,), got (4,)",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS[:2], margin=-0.1),
        "triplet_margin_loss: margin must be at least 0, got -0.1",
    ),
    (
        lambda: GF.triplet_margin_loss(X, LABELS[:2], node_mask=torch.ones(2, 3)),
        "triplet_margin_loss: node_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: GF.soft_orthogonality(X, X[:, :2]),
        "soft_orthogonality: private must have shape (2, 3, 4), got (2, 2, 4)",
    ),
    (
        lambda: GF.soft_orthogonality(X, X, "cosine"),
        "soft_orthogonality: kind must be one of 'hinge', 'absolute', 'squared', 'signed', got 'cosine'",
    ),
    (
        lambda: GF.reconstruction_loss(X, X, mask=torch.ones(2, 3, 1, dtype=torch.bool)),
        "reconstruction_loss: mask must have shape (2, 3), got (2, 3, 1)",
    ),
    (lambda: GF.reconstruction_loss([0.0], X), "reconstruction_loss: x must be a torch.Tensor, got list"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:60] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
