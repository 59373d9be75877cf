"""check_gd_unit passes every right unit, and names the fault that is planted in a wrong one."""

import copy

import pytest
import torch
from torch import nn

from gdkit import DistillationGraph, GDUnit
from gdkit.testing import check_gd_unit

GRAPH = DistillationGraph.from_edges("abc", [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")])


class Product(nn.Module):
    """A user's scorer; `mixing` lets samples depend on each other."""

    def __init__(self, mixing=False):
        super().__init__()
        self.inner, self.mixing = nn.Linear(8, 8), mixing

    def forward(self, teacher, student):
        scores = (self.inner(teacher) * student).sum(dim=-1)
        return scores - scores.cumsum(dim=0) if self.mixing else scores


def chebyshev(teacher, student):
    return (teacher - student).abs().amax(dim=-1)


RIGHT = {
    "default": {},
    "target": {"normalize": "target", "scorer": "mlp", "temperature": 0.5},
    "prior": {"scorer": "free", "prior": [0.25] * 4, "prior_weight": 2.0},
    "no scorer": {"scorer": None, "detach_weights": True, "normalize": "target"},
    "own": {"scorer": Product(), "distance": chebyshev, "detach_teacher": False},
    "features": {"distance": "kl", "distance_temperature": 2.0, "feature_distance": "cosine", "detach_weights": True},
}


@pytest.mark.parametrize("name", RIGHT)
def test_check_gd_unit_passes_a_right_unit(name):
    unit = GDUnit(GRAPH, feature_dim=3, logit_dim=2, hidden_dim=4, **RIGHT[name]).train()
    before = copy.deepcopy(unit.state_dict())
    check_gd_unit(unit)
    assert unit.training
    assert all(torch.equal(before[name], value) for name, value in unit.state_dict().items())
    assert all(parameter.grad is None for parameter in unit.parameters())


def test_check_gd_unit_takes_nodes_of_different_widths():
    check_gd_unit(GDUnit(GRAPH, feature_dim={"a": 3, "b": 1, "c": 5}, logit_dim=1).double())


class Faulty(GDUnit):
    """A unit with one planted fault: `fault(out, logits, features, node_mask)` spoils a right output."""

    def __init__(self, fault, **options):
        super().__init__(GRAPH, feature_dim=3, logit_dim=2, hidden_dim=4, **options)
        self.fault = fault

    def forward(self, logits, features=None, node_mask=None, teacher_quality=None):
        out = super().forward(logits, features, node_mask, teacher_quality)
        return self.fault(out, logits, features, node_mask)


def spoil_loss(of):
    """An output whose loss, its terms and per_sample still agree, plus something it should not hold."""

    def fault(out, logits, features, node_mask):
        extra = of(logits, features)  # (batch,)
        terms = {**out.terms, "logit": out.terms["logit"] + extra.mean()}
        return out._replace(loss=out.loss + extra.mean(), terms=terms, per_sample=out.per_sample + extra)

    return fault


BAD_UNITS = {
    r"weights must be \(batch, edge\)": lambda out, *_: out._replace(weights=out.weights[0]),
    r"distances must be \(batch, edge\)": lambda out, *_: out._replace(distances=out.distances[:, :-1]),
    r"per_sample must be \(batch,\)": lambda out, *_: out._replace(per_sample=out.per_sample.mean()),
    "distances must be finite": lambda out, *_: out._replace(distances=out.distances / 0),
    "weights must be at least 0": lambda out, *_: out._replace(weights=out.weights - 0.5),
    "weights must sum to 1 over the graph's present edges": lambda out, *_: out._replace(weights=2 * out.weights),
    "loss must be the sum of its terms": lambda out, *_: out._replace(loss=2 * out.loss),
    "loss must be the mean of per_sample": lambda out, *_: out._replace(per_sample=2 * out.per_sample),
    "absent nodes must get no gradient": spoil_loss(lambda logits, _: logits[:, 0].square().sum(dim=-1)),
    "absent nodes must change nothing: result loss": spoil_loss(lambda _, features: features["a"].square().sum(dim=-1)),
    "permuting the batch must permute the results: result per_sample": lambda out, *_: out._replace(
        per_sample=out.per_sample.flip(0)
    ),
}


@pytest.mark.parametrize("rule", BAD_UNITS)
def test_check_gd_unit_names_the_planted_fault(rule):
    with pytest.raises(AssertionError, match=rf"^check_(gd_unit|permutation_equivariance): {rule}"):
        check_gd_unit(Faulty(BAD_UNITS[rule]))


class Ignorant(GDUnit):
    """Does as if every node were present."""

    def forward(self, logits, features=None, node_mask=None, teacher_quality=None):
        return super().forward(logits, features, None, teacher_quality)


class Moving(GDUnit):
    """Claims to detach the teacher (or the weights), and does not."""

    def __init__(self, claim):
        super().__init__(GRAPH, 3, 2, **{claim: False})
        setattr(self, claim, True)
        self.claim = claim

    def forward(self, *inputs):
        setattr(self, self.claim, False)
        out = super().forward(*inputs)
        setattr(self, self.claim, True)
        return out


class Unmoved(GDUnit):
    """Its distances move nobody."""

    def forward(self, logits, *rest):
        return super().forward(logits.detach(), *rest)


class Forgetful(GDUnit):
    """Its learned scores are in no state dict."""

    def __init__(self):
        super().__init__(GRAPH, 3, 2, scorer=None)
        self.register_buffer("offset", torch.zeros(GRAPH.num_nodes), persistent=False)

    def forward(self, logits, features=None, node_mask=None, teacher_quality=None):
        return super().forward(logits, features, node_mask, self.offset)


class Wasteful(GDUnit):
    """Has a parameter that nothing reads."""

    def __init__(self):
        super().__init__(GRAPH, 3, 2)
        self.spare = nn.Parameter(torch.zeros(1))


BAD_MODULES = {
    "weights of edges at absent nodes must be 0": lambda: Ignorant(GRAPH, 3, 2),
    r"edge \('a', 'b'\): detach_teacher is True": lambda: Moving("detach_teacher"),
    r"edge \('a', 'b'\): a distance must move the student": lambda: Unmoved(GRAPH, 3, 2),
    "detach_weights must keep the distances from teaching": lambda: Moving("detach_weights"),
    "a gradient must reach parameter 'spare'": Wasteful,
    "a state dict must bring the results back": Forgetful,
}


@pytest.mark.parametrize("rule", BAD_MODULES)
def test_check_gd_unit_names_the_fault_of_a_subclass(rule):
    with pytest.raises(AssertionError, match=f"^check_gd_unit: {rule}"):
        check_gd_unit(BAD_MODULES[rule]())


def test_check_gd_unit_finds_a_scorer_that_mixes_samples():
    with pytest.raises(AssertionError, match=r"absent nodes must|permuting the batch must"):
        check_gd_unit(GDUnit(GRAPH, 3, 2, hidden_dim=4, scorer=Product(mixing=True)))
