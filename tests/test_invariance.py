"""What must change no result of any public module: masked values, the order of the batch, and what is absent."""

import pytest
import torch

from gdkit import DistillationGraph, GDUnit, ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss
from gdkit._testing import flat, on_each
from gdkit.testing import check_padding_invariance, check_permutation_equivariance
from tests.every_module import CASES, NAMES, assert_same, build, gradients, total

EVERY = pytest.mark.parametrize("name", CASES)


def spoil(name, inputs):
    """The inputs with NaN wherever they are masked, as leaves; and those leaves with their masks."""
    spoiled, leaves = list(inputs), []

    def hide(x, mask):
        leaves.append((torch.where(mask[..., None], x, torch.nan).requires_grad_(), mask))
        return leaves[-1][0]

    for position, mask in CASES[name].masks.items():
        spoiled[position] = on_each(hide, inputs[position], inputs[mask])
    return spoiled, leaves


@EVERY
def test_masked_values_reach_no_result_and_no_gradient(name):
    module, inputs = build(name, dtype=torch.float64)
    wanted = module(*inputs)
    spoiled, leaves = spoil(name, inputs)
    out = module(*spoiled)
    assert_same(out, wanted, 1e-12)
    assert_same(gradients(module, module(*spoiled)), gradients(module, wanted), 1e-12)
    total(out).backward()
    for leaf, mask in leaves:
        if leaf.grad is None:
            assert not module.scorer.reads_nodes  # such a unit leaves features aside
        else:
            assert leaf.grad.isfinite().all()
            assert not leaf.grad[~mask].any()


@EVERY
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_nothing_there_gives_zeros(name):
    module, inputs = build(name, dtype=torch.float64)
    nothing = list(inputs)
    for mask in CASES[name].masks.values():
        nothing[mask] = on_each(torch.zeros_like, inputs[mask])
    spoiled, leaves = spoil(name, nothing)
    out = module(*spoiled)
    assert not any(value.any() for value in flat(out).values())
    with torch.autograd.detect_anomaly():  # no NaN on the way to the gradients either
        total(out).backward()
    assert not any(leaf.grad.any() for leaf, _ in leaves if leaf.grad is not None)
    for parameter in module.parameters():
        assert parameter.grad.isfinite().all()


@EVERY
def test_the_order_of_the_batch(name):
    module, inputs = build(name, dtype=torch.float64)
    check_permutation_equivariance(module, *inputs)


def test_the_quality_of_an_absent_teacher():
    name = "GDUnit every option"
    module, (logits, features, node_mask, quality) = build(name, dtype=torch.float64)
    spoiled = on_each(lambda x, mask: torch.where(mask, x, torch.nan), quality, node_mask)
    out, wanted = module(logits, features, node_mask, spoiled), module(logits, features, node_mask, quality)
    assert_same(out, wanted, 1e-12)
    assert_same(gradients(module, out), gradients(module, wanted), 1e-12)


@pytest.mark.parametrize("loss", [SoftOrthogonalityLoss(), SoftOrthogonalityLoss("squared"), ReconstructionLoss()])
def test_padding_and_absent_nodes_change_no_loss(loss):
    x, y = ({name: torch.randn(3, 4 + i, 2, dtype=torch.float64) for i, name in enumerate(NAMES)} for _ in range(2))
    masks = {name: torch.rand(value.shape[:2]) > 0.3 for name, value in x.items()}

    def halves(both, masks):
        return loss(
            {n: part[..., :2] for n, part in both.items()}, {n: part[..., 2:] for n, part in both.items()}, masks
        )

    check_padding_invariance(halves, {name: torch.cat([x[name], y[name]], dim=-1) for name in NAMES}, masks)
    absent = torch.zeros(3, 6, dtype=torch.bool)
    foreign = torch.full((3, 6, 2), torch.nan, dtype=torch.float64)
    more = loss(x | {"touch": foreign}, y | {"touch": foreign}, masks | {"touch": absent})
    torch.testing.assert_close(more, loss(x, y, masks), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 0, 2, 1]), torch.tensor([-1.2, 0.1, 0.3, 2.0, -0.7])])
def test_absent_nodes_and_unlabelled_samples_change_no_triplet(labels):
    real = labels.is_floating_point()
    loss = TripletMarginLoss(0.5, binning="round" if real else None, proportional=real)
    features, node_mask = torch.randn(5, 3, 4, dtype=torch.float64), torch.rand(5, 3) > 0.2
    wanted = loss(features, labels, node_mask)
    assert wanted > 0
    wider = torch.cat([features, torch.full((5, 1, 4), torch.nan)], dim=1)
    torch.testing.assert_close(
        loss(wider, labels, torch.nn.functional.pad(node_mask, (0, 1))), wanted, rtol=1e-12, atol=1e-12
    )
    unlabelled = labels.new_full((2,), torch.nan if real else -100)
    longer = torch.cat([features, torch.full((2, 3, 4), torch.nan)])
    there = torch.cat([node_mask, torch.ones(2, 3, dtype=torch.bool)])
    torch.testing.assert_close(loss(longer, torch.cat([labels, unlabelled]), there), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalize", ["graph", "target"])
@pytest.mark.parametrize("scorer", ["linear", "mlp", "agreement", None])
def test_one_more_node_that_is_absent_changes_no_unit(scorer, normalize):
    options = {"scorer": scorer, "normalize": normalize, "feature_distance": "l2", "temperature": 0.5}
    unit, wider = (
        GDUnit(DistillationGraph.complete(names), 5, 3, 4, **options).double() for names in (NAMES, (*NAMES, "touch"))
    )
    wider.load_state_dict(unit.state_dict())
    logits, features = torch.randn(4, 3, 3, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64)
    node_mask = torch.rand(4, 3) > 0.2
    out, wanted = (
        wider(
            torch.cat([logits, torch.full((4, 1, 3), torch.nan)], dim=1),
            torch.cat([features, torch.full((4, 1, 5), torch.nan)], dim=1),
            torch.nn.functional.pad(node_mask, (0, 1)),
        ),
        unit(logits, features, node_mask),
    )
    kept = torch.tensor(["touch" not in edge for edge in wider.graph.edges])
    assert_same(out.terms, wanted.terms, 1e-12)
    assert_same(out.per_sample, wanted.per_sample, 1e-12)
    for got, same in ((out.weights, wanted.weights), (out.distances, wanted.distances)):
        torch.testing.assert_close(got[:, kept], same, rtol=1e-12, atol=1e-12)
        assert not got[:, ~kept].any()
