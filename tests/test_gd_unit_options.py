"""What each option of a GDUnit does, and what absent nodes do not."""

import pytest
import torch
from torch import nn

from gdkit import DistillationGraph, GDUnit

NAMES = ("language", "vision", "acoustic")
GRAPH = DistillationGraph.complete(NAMES)


def make(**options):
    torch.manual_seed(0)
    return GDUnit(GRAPH, **{"feature_dim": 4, "logit_dim": 2, "hidden_dim": 3, **options})


def inputs(batch=5):
    return torch.randn(batch, 3, 2), torch.randn(batch, 3, 4)


def test_no_learned_scorer_gives_equal_weights_or_those_of_the_quality():
    logits, _ = inputs()
    assert torch.allclose(make(scorer=None)(logits).weights, torch.full((5, 6), 1 / 6))
    assert torch.allclose(make(scorer="free", normalize="target")(logits).weights, torch.full((5, 6), 1 / 2))
    quality = torch.tensor([0.0, 2.0, 1.0])
    weights = make(scorer=None, temperature=0.5)(logits, teacher_quality=quality).weights
    assert torch.allclose(weights[0], (quality[GRAPH.edge_index[0]] / 0.5).softmax(dim=0))
    out_weight = GRAPH.matrix(weights).sum(dim=-1)[0]
    assert out_weight.argsort().tolist() == quality.argsort().tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_quality_takes_the_dtype_of_the_unit(dtype, given):
    logits, features = (x.to(dtype) for x in inputs())
    unit = make().to(dtype)
    quality = torch.tensor([0, 2, 1], dtype=given)
    named = {"language": 0.0, "vision": quality[1], "acoustic": quality[2].expand(5)}
    outs = [unit(logits, features, teacher_quality=form) for form in (quality, named)]
    assert all(x.dtype == dtype for out in outs for x in (out.loss, out.weights, out.distances))
    assert torch.equal(outs[0].weights, outs[1].weights)


def test_quality_by_name_compiles_and_exports():
    logits, features = inputs()
    unit = make()
    for value in (1.0, torch.randn(5, dtype=torch.float64, requires_grad=True)):
        quality = {"language": torch.tensor(0.5), "vision": value, "acoustic": torch.randn(5)}
        out = unit(logits, features, None, quality)
        compiled = torch.compile(unit, fullgraph=True, backend="eager")(logits, features, None, quality)
        exported = torch.export.export(unit, (logits, features, None, quality)).module()
        for other in (compiled, exported(logits, features, None, quality)):
            torch.testing.assert_close(other.weights, out.weights)


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


@pytest.mark.parametrize("scorer", ["linear", "mlp"])
def test_a_scorer_with_a_hook_is_called_as_a_whole(scorer):
    unit, given, seen = make(scorer=scorer), inputs(), []
    wanted = unit(*given).weights
    layers = [each for each in unit.scorer.edge_score.modules() if isinstance(each, nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    torch.testing.assert_close(unit(*given).weights, wanted)
    assert seen == layers


@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", "module"])
def test_reset_parameters_draws_anew(scorer):
    unit = make(scorer=nn.Bilinear(6, 6, 1) if scorer == "module" else scorer)
    for parameter in unit.parameters():
        nn.init.constant_(parameter, 7.0)
    unit.reset_parameters()
    assert not any((parameter == 7).any() for parameter in unit.parameters())
    if scorer == "free":
        assert not next(unit.parameters()).any()


def test_repr_shows_the_options():
    text = repr(make(normalize="target", temperature=0.5, distance="l2"))
    assert "normalize='target', temperature=0.5, distance='l2'" in text
