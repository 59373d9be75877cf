"""GDUnit against the plain loops of benchmarks/naive.py, its behaviour as documented, and its error texts."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks import naive
from gdkit import DistillationGraph, GDOutput, GDUnit
from gdkit.testing import absent_nodes, check_gd_unit, check_scorer, graphs, node_batches

NAMES = ("language", "vision", "acoustic")
GRAPH = DistillationGraph.complete(NAMES)
DISTANCES = ("l1", "l2", "cosine", "kl")


class Gated(nn.Module):
    """A user's scorer that is neither additive nor symmetric."""

    def __init__(self, width):
        super().__init__()
        self.teacher, self.student = nn.Linear(width, 3), nn.Linear(width, 3)

    def forward(self, teacher, student):
        return (self.teacher(teacher) * self.student(student).tanh()).sum(dim=-1)


def mean_of_squares(teacher, student):
    return (teacher - student).square().mean(dim=-1)


def make_scorer(name, hidden_dim):
    return Gated(2 * hidden_dim) if name == "module" else name


def assert_same_as_loops(unit, logits, features, node_mask=None, teacher_quality=None):
    """Every field, and the gradient of the loss at every input and parameter, as the loops give in float64."""
    results = []
    for run, module, dtype in (
        (unit, unit, logits.dtype),
        (naive.gd_unit, copy.deepcopy(unit).double(), torch.float64),
    ):
        leaves = {"logits": logits.detach().to(dtype).requires_grad_()}
        leaves |= {name: x.detach().to(dtype).requires_grad_() for name, x in features.items()}
        quality = None if teacher_quality is None else teacher_quality.to(dtype)
        inputs = (leaves["logits"], {name: leaves[name] for name in features}, node_mask, quality)
        out = run(*inputs) if run is unit else run(module, *inputs)
        wanted = leaves | {f"parameter {name}": parameter for name, parameter in module.named_parameters()}
        gradients = torch.autograd.grad(out.loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
        fields = {name: getattr(out, name) for name in ("loss", "per_sample", "weights", "distances")}
        results.append({**fields, **out.terms, **dict(zip((f"gradient of {name}" for name in wanted), gradients))})
    tolerance = 1e-9 if logits.dtype == torch.float64 else 1e-4
    ours, loops = results
    assert ours.keys() == loops.keys()
    for name, wanted in loops.items():
        assert ours[name].dtype == logits.dtype, name
        atol = tolerance * max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(
            ours[name].double(), wanted, rtol=tolerance, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("distance", [*DISTANCES, mean_of_squares])
@pytest.mark.parametrize("normalize", ["graph", "target"])
@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", None, "module"])
@given(data=st.data())
@settings(max_examples=5)
def test_unit_is_the_plain_loop(scorer, normalize, distance, data):
    graph = data.draw(graphs(max_nodes=4))
    logits = data.draw(node_batches(num_nodes=graph.num_nodes, zero_vectors=True))
    batch, _, logit_dim = logits.shape
    feature_distance = data.draw(st.sampled_from((None, *DISTANCES)))
    width = st.just(3) if feature_distance else st.integers(1, 4)
    widths = {name: data.draw(width) for name in graph.names}
    torch.manual_seed(data.draw(st.integers(0, 99)))
    features = {name: torch.randn(batch, width, dtype=logits.dtype) for name, width in widths.items()}
    unit = GDUnit(
        graph,
        feature_dim=3 if set(widths.values()) == {3} else widths,
        logit_dim=logit_dim,
        hidden_dim=4,
        scorer=make_scorer(scorer, 4),
        normalize=normalize,
        temperature=data.draw(st.sampled_from((0.5, 1.0, 8.0))),
        distance=distance,
        distance_temperature=data.draw(st.sampled_from((1.0, 2.0))),
        feature_distance=feature_distance,
        feature_weight=data.draw(st.sampled_from((1.0, 0.25))),
        prior=data.draw(st.sampled_from((None, torch.rand(graph.num_edges)))),
        prior_weight=data.draw(st.sampled_from((0.0, 3.0))),
        detach_teacher=data.draw(st.booleans()),
        detach_weights=data.draw(st.booleans()),
    ).to(logits.dtype)
    for parameter in unit.parameters():
        nn.init.normal_(parameter, std=0.5)
    quality = data.draw(st.sampled_from((None, torch.randn(graph.num_nodes), torch.randn(batch, graph.num_nodes))))
    node_mask = data.draw(absent_nodes(batch, graph.num_nodes))
    assert_same_as_loops(unit, logits, features, node_mask, None if quality is None else quality.to(logits.dtype))


@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", None, "module"])
@pytest.mark.parametrize("normalize", ["graph", "target"])
def test_unit_keeps_its_contract(scorer, normalize):
    unit = GDUnit(GRAPH, 5, 2, 4, scorer=make_scorer(scorer, 4), normalize=normalize, distance="kl", prior=[0.1] * 6)
    check_gd_unit(unit)
    check_gd_unit(copy.deepcopy(unit).double(), batch=7, seed=1)


def test_the_users_scorer_of_these_tests_keeps_its_contract():
    check_scorer(Gated(8), hidden_dim=4)


def make(**options):
    torch.manual_seed(0)
    return GDUnit(GRAPH, **{"feature_dim": 4, "logit_dim": 2, "hidden_dim": 3, **options})


def inputs(batch=5):
    return torch.randn(batch, 3, 2), torch.randn(batch, 3, 4)


def by_name(stacked):
    return dict(zip(NAMES, stacked.unbind(dim=1)))


def test_mappings_and_stacked_tensors_are_the_same():
    unit, (logits, features) = make(), inputs()
    node_mask, quality = torch.rand(5, 3) > 0.3, torch.randn(5, 3)
    stacked = unit(logits, features, node_mask, quality)
    backwards = {name: by_name(features)[name] for name in reversed(NAMES)}
    mapped = unit(by_name(logits), backwards, by_name(node_mask), by_name(quality))
    assert isinstance(mapped, GDOutput)
    for ours, theirs in zip((*stacked[:1], *stacked[2:]), (*mapped[:1], *mapped[2:])):
        assert torch.equal(ours, theirs)
    assert list(mapped.terms) == ["logit", "feature", "prior"]
    single = unit(logits, features, None, {"language": torch.tensor(1.0), "vision": 2.0, "acoustic": torch.tensor(3.0)})
    assert torch.equal(single.weights, unit(logits, features, None, torch.tensor([1.0, 2.0, 3.0])).weights)


def test_features_may_be_left_out_where_nothing_reads_them():
    logits, features = inputs()
    for scorer in ("free", None):
        unit = make(scorer=scorer)
        assert torch.equal(unit(logits).loss, unit(logits, features).loss)
    for unit in (make(), make(scorer=None, feature_distance="l1")):
        with pytest.raises(ValueError, match=r"^GDUnit: features must be given"):
            unit(logits)


def test_no_learned_scorer_gives_equal_weights_or_those_of_the_quality():
    logits, _ = inputs()
    assert torch.allclose(make(scorer=None)(logits).weights, torch.full((5, 6), 1 / 6))
    assert torch.allclose(make(scorer="free", normalize="target")(logits).weights, torch.full((5, 6), 1 / 2))
    quality = torch.tensor([0.0, 2.0, 1.0])
    weights = make(scorer=None, temperature=0.5)(logits, teacher_quality=quality).weights
    assert torch.allclose(weights[0], (quality[GRAPH.edge_index[0]] / 0.5).softmax(dim=0))
    out_weight = GRAPH.matrix(weights).sum(dim=-1)[0]
    assert out_weight.argsort().tolist() == quality.argsort().tolist()


def test_linear_scores_under_target_never_depend_on_the_student_but_mlp_scores_do():
    # The trap of Eq. 8: under a softmax over one target's teachers the student's own term cancels.
    logits, features = inputs()
    changed = features.clone()
    changed[:, 0] += 1
    into_language = GRAPH.edge_index[1] == 0
    for scorer, moves in (("linear", False), ("mlp", True)):
        unit = make(scorer=scorer, normalize="target")
        before, after = (unit(logits, x).weights[:, into_language] for x in (features, changed))
        assert torch.allclose(before, after, atol=1e-6) is not moves


def test_an_absent_node_leaves_the_unit_of_the_others():
    logits, features = inputs()
    node_mask = torch.tensor([[True, False, True]]).expand(5, 3)
    whole = make(feature_dim={"language": 4, "vision": 4, "acoustic": 4}, prior=[0.2] * 6, prior_weight=2.0)
    pair = GDUnit(
        GRAPH.subgraph(["language", "acoustic"]),
        {"language": 4, "acoustic": 4},
        2,
        3,
        prior=[0.2] * 2,
        prior_weight=2.0,
    )
    state = {name: value for name, value in whole.state_dict().items() if "vision" not in name}
    pair.load_state_dict({**state, "prior": torch.full((2,), 0.2)})
    there = logits[:, ::2].clone().requires_grad_()
    wanted = pair(there, {"language": features[:, 0], "acoustic": features[:, 2]})
    spoiled = [torch.where(node_mask[..., None], x, torch.nan).requires_grad_() for x in (logits, features)]
    got = whole(*spoiled, node_mask)
    kept = torch.tensor(["vision" not in edge for edge in GRAPH.edges])
    torch.testing.assert_close(got.loss, wanted.loss)
    torch.testing.assert_close(got.weights[:, kept], wanted.weights)
    torch.testing.assert_close(got.distances[:, kept], wanted.distances)
    torch.testing.assert_close(got.per_sample, wanted.per_sample)
    assert not got.weights[:, ~kept].any()
    got.loss.backward()
    wanted.loss.backward()
    torch.testing.assert_close(spoiled[0].grad[:, ::2], there.grad)
    for leaf in (*spoiled, *whole.parameters()):
        assert leaf.grad.isfinite().all()
    torch.testing.assert_close(whole.scorer.edge_score.weight.grad, pair.scorer.edge_score.weight.grad)


@pytest.mark.parametrize("normalize", ["graph", "target"])
def test_nobody_there_gives_zeros_and_finite_gradients(normalize):
    unit, (logits, features) = make(normalize=normalize, feature_distance="cosine", prior=[0.2] * 6), inputs()
    logits.requires_grad_()
    features = torch.full_like(features, torch.nan).requires_grad_()
    out = unit(logits, features, torch.zeros(5, 3, dtype=torch.bool))
    assert not any(part.any() for part in (out.loss, out.per_sample, out.weights, out.distances, *out.terms.values()))
    out.loss.backward()
    for leaf in (logits, features, *unit.parameters()):
        assert not leaf.grad.any()


def test_one_node_there_learns_from_nobody():
    unit, (logits, features) = make(), inputs()
    out = unit(logits, features, torch.tensor([[True, False, False]]).expand(5, 3))
    assert out.loss.item() == 0
    assert not out.weights.any()


def test_the_mean_over_the_batch_counts_samples_without_edges():
    unit, (logits, features) = make(), inputs(2)
    node_mask = torch.tensor([[True, True, True], [False, True, False]])
    alone = unit(logits[:1], features[:1])
    assert torch.allclose(unit(logits, features, node_mask).loss, alone.loss / 2)


@pytest.mark.parametrize("detach_teacher", [True, False])
def test_detach_teacher(detach_teacher):
    pair = DistillationGraph.from_edges(["teacher", "student"], [("teacher", "student")])
    unit = GDUnit(pair, feature_dim=4, logit_dim=2, scorer=None, feature_distance="l2", detach_teacher=detach_teacher)
    logits, features = torch.randn(3, 2, 2, requires_grad=True), torch.randn(3, 2, 4, requires_grad=True)
    unit(logits, features).loss.backward()
    for gradient in (logits.grad, features.grad):
        assert gradient[:, 1].all()
        assert bool(gradient[:, 0].any()) is not detach_teacher


def test_detach_weights_leaves_the_edges_to_the_prior():
    (logits, features) = inputs()
    out = make(detach_weights=True)(logits.requires_grad_(), features.requires_grad_())
    (gradient,) = torch.autograd.grad(out.loss, features, allow_unused=True)
    assert gradient is None
    assert out.weights.requires_grad
    unit = make(detach_weights=True, prior=[1.0, 0, 0, 0, 0, 0], prior_weight=1.0)
    unit(logits, features).loss.backward()
    assert unit.scorer.edge_score.weight.grad.any()
    assert torch.equal(out.loss, make()(logits, features).loss)


def test_a_prior_draws_the_weights_to_it():
    prior = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    unit, (logits, _) = make(scorer="free", detach_weights=True, prior=prior, prior_weight=10.0), inputs()
    optimizer = torch.optim.Adam(unit.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        unit(logits).loss.backward()
        optimizer.step()
    out = unit(logits)
    torch.testing.assert_close(out.weights, prior.expand(5, 6), rtol=0, atol=1e-3)
    assert out.terms["prior"].item() < 1e-4
    assert torch.equal(unit.state_dict()["prior"], prior)


def test_a_unit_keeps_its_own_copy_of_the_prior():
    prior = torch.full((6,), 0.2)
    unit = make(prior=prior)
    unit.load_state_dict({**unit.state_dict(), "prior": torch.zeros(6)})
    assert torch.equal(prior, torch.full((6,), 0.2))


def test_prior_is_off_by_default():
    logits, features = inputs()
    out = make()(logits, features)
    assert out.terms["prior"].item() == 0
    assert torch.equal(make(prior=[0.5] * 6)(logits, features).loss, out.loss)


def test_temperature_sharpens():
    logits, features = inputs()
    sharp, flat = (make(temperature=t)(logits, features).weights.amax(dim=1) for t in (0.1, 10.0))
    assert (sharp > flat).all()
    assert (flat < 0.2).all()


@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", "module"])
def test_reset_parameters_draws_anew(scorer):
    unit = make(scorer=make_scorer(scorer, 3))
    for parameter in unit.parameters():
        nn.init.constant_(parameter, 7.0)
    unit.reset_parameters()
    assert not any((parameter == 7).any() for parameter in unit.parameters())
    if scorer == "free":
        assert not next(unit.parameters()).any()


def test_repr_shows_the_options():
    text = repr(make(normalize="target", temperature=0.5, distance="l2"))
    assert "normalize='target', temperature=0.5, distance='l2'" in text


X, LOGITS = torch.zeros(4, 3, 4), torch.zeros(4, 3, 2)

ERRORS = [
    (
        lambda: make(feature_dim=50)(LOGITS, {name: torch.zeros(4, 48 if name == "vision" else 50) for name in NAMES}),
        "GDUnit: features['vision'] must have shape (batch, 50), got (4, 48); dim is 50 for every node",
    ),
    (
        lambda: make()({"language": LOGITS[:, 0], "acoustic": LOGITS[:, 2]}, X),
        "GDUnit has nodes (language, vision, acoustic); logits lacks 'vision'",
    ),
    (
        lambda: make()(LOGITS, {**by_name(X), "touch": X[:, 0]}),
        "GDUnit has nodes (language, vision, acoustic); features has 'touch' as well",
    ),
    (lambda: make()(LOGITS[:, :2], X), "GDUnit: logits must have shape (batch, 3, 2), got (4, 2, 2)"),
    (lambda: make()(LOGITS[:0], X[:0]), "GDUnit: logits must hold at least 1 sample, got shape (0, 3, 2)"),
    (lambda: make()(LOGITS.long(), X), "GDUnit: logits must be floating point, got torch.int64"),
    (lambda: make()(LOGITS, X[:3]), "GDUnit: features must have shape (4, 3, 4), got (3, 3, 4)"),
    (lambda: make()(LOGITS.tolist(), X), "GDUnit: logits must be a mapping from node name to tensor, got list"),
    (lambda: make()(LOGITS, X.long()), "GDUnit: features must be floating point, got torch.int64"),
    (
        lambda: make()(LOGITS, X, torch.ones(4, 3)),
        "GDUnit: node_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: make()(LOGITS, X, torch.ones(3, 4, dtype=torch.bool)),
        "GDUnit: node_mask must have shape (4, 3), got (3, 4)",
    ),
    (
        lambda: make()(LOGITS, X, None, torch.ones(4)),
        "GDUnit: teacher_quality must have shape (3,), got (4,); (node,) or (batch, node)",
    ),
    (
        lambda: make(logit_dim=1, distance="kl"),
        "GDUnit: distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: make(logit_dim=1, distance="cosine"),
        "GDUnit: distance 'cosine' is only a sign on vectors of width 1; use 'l1' or 'l2'",
    ),
    (
        lambda: make(feature_dim=1, feature_distance="kl"),
        "GDUnit: feature_distance 'kl' is always 0 on vectors of width 1; use 'l1' or 'l2'",
    ),
    (lambda: make(distance="l3"), "GDUnit: distance must be one of 'l1', 'l2', 'cosine', 'kl', got 'l3'"),
    (lambda: make(scorer="gat"), "GDUnit: scorer must be one of 'linear', 'mlp', 'free', got 'gat'"),
    (lambda: make(normalize="source"), "GDUnit: normalize must be one of 'graph', 'target', got 'source'"),
    (lambda: make(temperature=0.0), "GDUnit: temperature must be above 0, got 0.0"),
    (lambda: make(distance_temperature=-1.0), "GDUnit: distance_temperature must be above 0, got -1.0"),
    (lambda: make(feature_weight=-1.0), "GDUnit: feature_weight must be at least 0, got -1.0"),
    (lambda: make(hidden_dim=2.5), "GDUnit: hidden_dim must be an integer, got 2.5"),
    (lambda: make(logit_dim=0), "GDUnit: logit_dim must be above 0, got 0"),
    (
        lambda: make(feature_dim={"language": 3}),
        "GDUnit has nodes (language, vision, acoustic); feature_dim lacks 'vision', 'acoustic'",
    ),
    (
        lambda: make(feature_dim=dict(zip(NAMES, (3, 4, 5))), feature_distance="l1"),
        "GDUnit: feature_distance needs equal widths, got feature_dim {'language': 3, 'vision': 4, 'acoustic': 5}",
    ),
    (
        lambda: make(prior=[0.5, 0.5]),
        "GDUnit: prior must have shape (6,), got (2,); one number an edge",
    ),
    (
        lambda: make(scorer=nn.Bilinear(6, 6, 1))(LOGITS, X),
        "GDUnit: scorer(teacher, student) must have shape (4, 6), got (4, 6, 1)",
    ),
    (lambda: GDUnit(["a", "b"], 4, 2), "GDUnit: graph must be a DistillationGraph, got list"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:70] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
