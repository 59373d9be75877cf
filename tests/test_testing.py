"""Each check passes what is right, and names the fault that is planted in what is wrong."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from torch import nn

from gdkit import DecoupledEncoder, MultimodalTransformer
from gdkit.testing import (
    absent_nodes,
    check_distance,
    check_padding_invariance,
    check_permutation_equivariance,
    check_scorer,
    graphs,
    masks,
    node_batches,
)


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
