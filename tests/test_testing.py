"""Each check passes what is right, and names the fault that is planted in what is wrong."""

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from torch import nn

from gdkit import DecoupledEncoder, DistillationGraph, GDUnit, MultimodalTransformer
from gdkit.testing import (
    absent_nodes,
    check_distance,
    check_gd_unit,
    check_padding_invariance,
    check_permutation_equivariance,
    check_scorer,
    graphs,
    masks,
    node_batches,
)

GRAPH = DistillationGraph.from_edges("abc", [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")])


def test_import_gdkit_needs_no_hypothesis():
    block = "import sys; sys.modules['hypothesis'] = None; import gdkit; assert 'gdkit.testing' not in sys.modules\n"
    asks = "try:\n    import gdkit.testing\nexcept ImportError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", block + asks], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "gdkit.testing needs the extra 'test': pip install 'gdkit[test]'"


@given(graphs(max_nodes=4), node_batches(batch=2, num_nodes=3, zero_vectors=True), masks(2, 3), absent_nodes(2, 3))
def test_strategies_draw_what_they_promise(graph, x, mask, node_mask):
    assert 2 <= graph.num_nodes <= 4
    assert graph.num_edges >= 1
    assert x.shape[:2] == (2, 3)
    assert x.isfinite().all()
    assert mask.shape == (2, 3)
    assert mask.dtype == torch.bool
    assert node_mask is None or (node_mask.shape == (2, 3) and node_mask.dtype == torch.bool)


def chebyshev(teacher, student):
    return (teacher - student).abs().amax(dim=-1)


def kl_without_log_softmax(teacher, student):
    p, q = teacher.softmax(-1), student.softmax(-1)
    return (p * (p.log() - q.log())).sum(-1)


BAD_DISTANCES = {
    r"the shape must be \(batch, edge\) = \(3, 2\); got \(3,\)": lambda t, s: chebyshev(t, s).mean(dim=1),
    "distances must be finite": kl_without_log_softmax,
    "distances must be at least 0": lambda t, s: (t - s).sum(-1),
    "equal teacher and student must be at distance 0": lambda t, s: 1 + chebyshev(t, s),
    "permuting the batch must permute the distances": lambda t, s: chebyshev(t, s) * torch.arange(3.0)[:, None],
    "an edge must not depend on other samples or edges": lambda t, s: chebyshev(t, s) * s.std(),
    "the student must get a gradient": lambda t, s: chebyshev(t, s.detach()),
    "the student's gradient must be finite": lambda t, s: (t - s).square().sum(-1).sqrt(),
}


def test_check_distance_passes_a_right_distance():
    check_distance(chebyshev)
    check_distance(lambda t, s: (t - s).square().mean(-1), dim=1)


@pytest.mark.parametrize("rule", BAD_DISTANCES)
def test_check_distance_names_the_planted_fault(rule):
    with pytest.raises(AssertionError, match=f"^check_distance: {rule}") as error:
        check_distance(BAD_DISTANCES[rule])
    assert "teacher = tensor(" in str(error.value)


class Product(nn.Module):
    """Right: one score an edge from the two nodes it joins. `fault` changes one thing."""

    def __init__(self, width=8, fault=None):
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.unused = nn.Linear(1, 1) if fault == "unused" else None
        self.fault = fault or (lambda scores, teacher, student: scores)

    def forward(self, teacher, student):
        scores = (self.inner(teacher) * student).sum(dim=-1)
        return scores if self.unused is not None else self.fault(scores, teacher, student)


BAD_SCORERS = {
    r"the shape must be \(batch, edge\) = \(3, 6\)": lambda scores, teacher, student: scores[..., None],
    "scores must be finite": lambda scores, teacher, student: scores.log(),
    "a sample must not depend on other samples": lambda scores, teacher, student: scores - scores.mean(dim=0),
    "a gradient must reach parameter 'unused.weight'": "unused",
    "a gradient must reach parameter 'inner.weight'": lambda scores, teacher, student: scores.detach(),
    "the gradient of 'inner.weight' must be finite": lambda scores, t, s: (scores - scores.detach()).abs().sqrt(),
}


def test_check_scorer_passes_a_right_scorer():
    check_scorer(Product(), hidden_dim=4)
    check_scorer(Product().double(), hidden_dim=4, num_edges=2)


@pytest.mark.parametrize("rule", BAD_SCORERS)
def test_check_scorer_names_the_planted_fault(rule):
    with pytest.raises(AssertionError, match=f"^check_scorer: {rule}"):
        check_scorer(Product(fault=BAD_SCORERS[rule]), hidden_dim=4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": "target", "scorer": "mlp", "temperature": 0.5},
        {"scorer": "free", "prior": [0.25] * 4, "prior_weight": 2.0},
        {"scorer": None, "detach_weights": True, "normalize": "target"},
        {"scorer": Product(), "distance": chebyshev, "detach_teacher": False},
        {"distance": "kl", "distance_temperature": 2.0, "feature_distance": "cosine", "detach_weights": True},
    ],
    ids=str,
)
def test_check_gd_unit_passes_a_right_unit(options):
    unit = GDUnit(GRAPH, feature_dim=3, logit_dim=2, hidden_dim=4, **options).train()
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
    mixing = Product(fault=lambda scores, teacher, student: scores - scores.cumsum(dim=0))
    with pytest.raises(AssertionError, match=r"absent nodes must|permuting the batch must"):
        check_gd_unit(GDUnit(GRAPH, 3, 2, hidden_dim=4, scorer=mixing))


def sequences(**steps):
    return {name: torch.randn(3, count, 4) for name, count in steps.items()}


def test_check_padding_invariance_passes_right_modules():
    inputs = sequences(a=5, b=7)
    real = {"a": torch.rand(3, 5) > 0.3, "b": torch.rand(3, 7) > 0.3}
    for padding in ("same", "valid"):
        check_padding_invariance(DecoupledEncoder({"a": 4, "b": 4}, 6, kernel_size=3, padding=padding), inputs, real)
    check_padding_invariance(MultimodalTransformer(["a", "b"], dim=4, num_heads=2, num_layers=1), inputs)
    check_padding_invariance(masked_mean, inputs["a"], real["a"])


def masked_mean(x, mask):
    return torch.where(mask[..., None], x, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)  # (batch, dim)


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (lambda x, mask: x.mean(dim=1), "of the module"),
        (lambda x, mask: x - x.mean(dim=1, keepdim=True), "of the module"),
        (lambda x, mask: {"first": x, "last": x[:, -1]}, "last"),
        (lambda x, mask: torch.where(mask[..., None], x, 0.0).mean(dim=1), "of the module"),
        (lambda x, mask: nn.functional.avg_pool1d(x.mT, 3, stride=1, padding=1).mT, "of the module"),
    ],
    ids=["mean over padding", "centred over padding", "last step", "divided by padded length", "window over padding"],
)
def test_check_padding_invariance_names_the_planted_fault(fault, at):
    with pytest.raises(AssertionError, match=f"^check_padding_invariance: padding must not change result {at}"):
        check_padding_invariance(fault, torch.randn(3, 5, 4))


def test_check_padding_invariance_finds_a_module_that_ignores_one_mask():
    encoder = DecoupledEncoder({"a": 4, "b": 4}, 6, kernel_size=3)
    with pytest.raises(AssertionError, match=r"padding must not change result coupled\.b"):
        check_padding_invariance(
            lambda x, real: encoder(x, {**real, "b": torch.ones_like(real["b"])}), sequences(a=5, b=7)
        )


def test_check_permutation_equivariance():
    x = torch.randn(4, 3)
    check_permutation_equivariance(nn.Linear(3, 2), x)
    check_permutation_equivariance(lambda x, y, _: (x["a"] + y, {"sum": y.sum()}), {"a": x}, x, None)
    with pytest.raises(AssertionError, match=r"^check_permutation_equivariance: .* result centred"):
        check_permutation_equivariance(lambda x: {"same": x, "centred": x - x[0]}, x)


def test_checks_run_in_evaluation_mode_and_give_the_mode_back():
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)).train()
    module[1].eval()
    check_permutation_equivariance(module, torch.randn(4, 3))
    assert [part.training for part in module.modules()] == [True, True, False]
