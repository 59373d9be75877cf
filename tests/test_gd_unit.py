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
@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", "agreement", None, "module"])
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


@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", "agreement", None, "module"])
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
    for scorer in ("free", "agreement", None):
        unit = make(scorer=scorer)
        assert torch.equal(unit(logits).loss, unit(logits, features).loss)
    for unit in (make(), make(scorer=None, feature_distance="l1")):
        with pytest.raises(ValueError, match=r"^GDUnit: features must be given"):
            unit(logits)
