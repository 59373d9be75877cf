"""The loss modules: what they add to functional, that is classes from labels, mappings, and sums over nodes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive
from gdkit import ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss
from gdkit.testing import absent_nodes, check_padding_invariance, check_permutation_equivariance, masks, node_batches

NAN = float("nan")
KINDS = ("hinge", "absolute", "squared", "signed")


def by_name(stacked):
    return {f"node_{i}": x for i, x in enumerate(stacked.unbind(dim=1))}


def assert_close(ours, loops):
    tolerance = 1e-9 if ours.dtype == torch.float64 else 1e-4
    torch.testing.assert_close(ours.double(), loops, rtol=tolerance, atol=tolerance * max(1.0, loops.abs().item()))


@given(st.data())
def test_triplet_margin_loss_of_classes(data):
    features = data.draw(node_batches(batch=5))
    labels = torch.tensor(data.draw(st.lists(st.sampled_from((-100, 0, 1, 7)), min_size=5, max_size=5)))
    node_mask = data.draw(absent_nodes(*features.shape[:2]))
    sample_mask = data.draw(st.none() | masks(5))
    labelled = (labels != -100) if sample_mask is None else (labels != -100) & sample_mask
    wanted = naive.triplet_margin_loss(features.double(), labels, 0.2, node_mask, labelled)
    loss = TripletMarginLoss(margin=0.2)
    assert_close(loss(features, labels, node_mask, sample_mask), wanted)
    mapped_mask = None if node_mask is None else by_name(node_mask)
    assert_close(loss(by_name(features), labels, mapped_mask, sample_mask), wanted)


REAL_LABELS = (-2.5, -1.6, -0.5, 0.5, 0.4, 1.5, 2.2, NAN, 2.5)
# Rounding goes to the even neighbour of a half; intervals hold their right boundary.
CLASSES = {
    "round": [-2, -2, 0, 0, 0, 2, 2, -100, 2],
    (-0.5, 0.5, 2.2): [0, 0, 0, 1, 1, 2, 2, -100, 3],
}


@pytest.mark.parametrize("proportional", [False, True])
@pytest.mark.parametrize("binning", CLASSES, ids=str)
@given(data=st.data())
def test_triplet_margin_loss_of_real_labels(binning, proportional, data):
    features = data.draw(node_batches(batch=9, num_nodes=2))
    classes, margins = torch.tensor(CLASSES[binning]), torch.tensor(REAL_LABELS, dtype=torch.float64).nan_to_num()
    wanted = naive.triplet_margin_loss(
        features.double(), classes, 0.3, None, classes != -100, margins if proportional else None
    )
    for dtype in (torch.float32, torch.float64):
        loss = TripletMarginLoss(0.3, binning=binning, proportional=proportional)
        value = loss(features, torch.tensor(REAL_LABELS, dtype=dtype))
        assert value.dtype == features.dtype
        torch.testing.assert_close(value.double(), wanted, rtol=1e-4, atol=1e-5)


def test_classes_do_not_depend_on_the_dtype_of_the_model():
    features, labels = torch.randn(9, 2, 3, dtype=torch.float64), torch.tensor(REAL_LABELS)
    for binning in CLASSES:
        loss = TripletMarginLoss(binning=binning)
        assert torch.equal(loss.bfloat16()(features, labels), TripletMarginLoss(binning=binning)(features, labels))


def test_proportional_margin_takes_class_numbers_as_well():
    features, labels = torch.randn(4, 2, 3), torch.tensor([0, 3, -100, 0])
    wanted = GF.triplet_margin_loss(features, labels, 0.3, None, labels != -100, labels)
    torch.testing.assert_close(TripletMarginLoss(0.3, proportional=True)(features, labels), wanted)


def test_unlabelled_and_absent_get_no_gradient():
    features = torch.randn(4, 2, 3, requires_grad=True)
    node_mask = torch.tensor([[True, True], [True, True], [True, True], [True, False]])
    TripletMarginLoss(2.0, binning="round")(features, torch.tensor([1.0, 2.0, NAN, 1.0]), node_mask).backward()
    assert features.grad[[0, 1]].all()
    assert not features.grad[2].any()
    assert not features.grad[3, 1].any()


def test_every_sample_unlabelled_is_zero_on_the_graph():
    features = {"a": torch.randn(3, 2, requires_grad=True), "b": torch.randn(3, 2, requires_grad=True)}
    for labels, binning in ((torch.full((3,), -100), None), (torch.full((3,), NAN), "round")):
        loss = TripletMarginLoss(binning=binning)(features, labels)
        assert loss.item() == 0
        loss.backward()
    assert not features["a"].grad.any()


def sequences(shape, dtype, steps=(2, 3)):
    generator = torch.Generator().manual_seed(sum(shape))
    return {
        name: torch.randn(shape[0], time, shape[1], generator=generator, dtype=dtype)
        for name, time in zip(("a", "b"), steps)
    }


@pytest.mark.parametrize("kind", [*KINDS, "reconstruction"])
@given(data=st.data())
def test_sums_over_nodes_of_any_length(kind, data):
    shape, dtype = (
        data.draw(st.tuples(st.integers(1, 3), st.integers(2, 4))),
        data.draw(st.sampled_from((torch.float32, torch.float64))),
    )
    x, y = sequences(shape, dtype), {name: value.flip(0) + 0.1 for name, value in sequences(shape, dtype).items()}
    real = data.draw(st.none() | st.fixed_dictionaries({name: masks(*value.shape[:2]) for name, value in x.items()}))
    loss = ReconstructionLoss() if kind == "reconstruction" else SoftOrthogonalityLoss(kind)
    loops = naive.reconstruction_loss if kind == "reconstruction" else naive.soft_orthogonality
    options = {} if kind == "reconstruction" else {"kind": kind}
    wanted = sum(
        loops(x[name].double(), y[name].double(), mask=None if real is None else real[name], **options) for name in x
    )
    assert_close(loss(x, dict(reversed(y.items())), real), wanted)
    alone = loops(x["a"].double(), y["a"].double(), mask=None if real is None else real["a"], **options)
    assert_close(loss(x["a"], y["a"], None if real is None else real["a"]), alone)


@pytest.mark.parametrize("loss", [SoftOrthogonalityLoss("signed"), ReconstructionLoss()], ids=["orthogonality", "mse"])
def test_losses_of_sequences_ignore_padding_and_follow_the_batch(loss):
    x = sequences((4, 3), torch.float32)
    check_padding_invariance(lambda inputs, real: loss(inputs, {k: 1 - v for k, v in inputs.items()}, real), x)
    check_permutation_equivariance(loss, x, {name: value.square() for name, value in x.items()})


def test_soft_orthogonality_is_zero_at_right_angles_and_pushes_there():
    shared, private = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    for kind in KINDS:
        assert SoftOrthogonalityLoss(kind)(shared, private).item() == 0
    together, apart = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 1.0]])
    for kind, near, far in (("hinge", 0.5, 0), ("absolute", 0.5, 0.5), ("squared", 0.5, 0.5), ("signed", 0.5, -0.5)):
        power = 1 if kind == "squared" else 0.5
        loss = SoftOrthogonalityLoss(kind)
        torch.testing.assert_close(loss(shared, together).item(), near**power, rtol=0, atol=1e-6)
        wanted = abs(far) ** power * (-1 if far < 0 else 1)
        torch.testing.assert_close(loss(shared, apart).item(), wanted, rtol=0, atol=1e-6)


def test_gradients_by_finite_differences():
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0.2, 1.1, 0.9, NAN, 2.4, 2.1], dtype=torch.float64)
    loss = TripletMarginLoss(0.4, binning="round", proportional=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), x)
    y, real = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True), torch.rand(6, 2) > 0.3
    for module in (ReconstructionLoss(), *(SoftOrthogonalityLoss(kind) for kind in KINDS)):
        assert torch.autograd.gradcheck(lambda x, y, module=module: module(x, y, real), (x, y))


def test_repr_shows_the_options():
    assert repr(TripletMarginLoss(0.5, binning="round")) == (
        "TripletMarginLoss(margin=0.5, binning='round', proportional=False)"
    )
    assert repr(SoftOrthogonalityLoss("squared")) == "SoftOrthogonalityLoss(kind='squared')"


def test_losses_have_no_state():
    for loss in (TripletMarginLoss(binning=[0.0, 1.0]), SoftOrthogonalityLoss(), ReconstructionLoss()):
        assert not loss.state_dict()


X, LABELS = {"a": torch.zeros(4, 3), "b": torch.zeros(4, 3)}, torch.tensor([0, 0, 1, 1])

ERRORS = [
    (lambda: TripletMarginLoss(-0.1), "TripletMarginLoss: margin must be at least 0, got -0.1"),
    (lambda: TripletMarginLoss(binning="floor"), "TripletMarginLoss: binning must be one of 'round', got 'floor'"),
    (
        lambda: TripletMarginLoss(binning=[1.0, 0.0]),
        "TripletMarginLoss: binning must be rising boundaries, got [1.0, 0.0]",
    ),
    (lambda: TripletMarginLoss(binning=[]), "TripletMarginLoss: binning must be rising boundaries, got []"),
    (
        lambda: TripletMarginLoss()(X, LABELS.float()),
        "TripletMarginLoss: labels must be integer classes, got torch.float32; "
        "binning='round' or a sequence of boundaries makes classes of real labels",
    ),
    (
        lambda: TripletMarginLoss()({**X, "b": torch.zeros(4, 2)}, LABELS),
        "TripletMarginLoss: features['b'] must have shape (batch, 3), got (4, 2); dim is 3 for every node",
    ),
    (
        lambda: TripletMarginLoss()({**X, "b": torch.zeros(5, 3)}, LABELS),
        "TripletMarginLoss: features['b'] must have shape (4, 3), got (5, 3); batch is 4 in features['a']",
    ),
    (
        lambda: TripletMarginLoss()(X, LABELS, {"a": torch.ones(4, dtype=torch.bool)}),
        "TripletMarginLoss has nodes (a, b); node_mask lacks 'b'",
    ),
    (
        lambda: TripletMarginLoss()(torch.zeros(4, 2, 3), LABELS, {"a": torch.ones(4, dtype=torch.bool)}),
        "TripletMarginLoss: node_mask may be a mapping only where features is one",
    ),
    (lambda: TripletMarginLoss()(X, LABELS[:3]), ": labels must have shape (4,), got (3,)"),
    (
        lambda: TripletMarginLoss()(X, LABELS, None, torch.ones(4)),
        ": sample_mask must be boolean (True = real or present), got torch.float32",
    ),
    (lambda: TripletMarginLoss()(X, [0, 0, 1, 1]), ": labels must be a torch.Tensor, got list"),
    (
        lambda: SoftOrthogonalityLoss("cosine"),
        "SoftOrthogonalityLoss: kind must be one of 'hinge', 'absolute', 'squared', 'signed', got 'cosine'",
    ),
    (lambda: SoftOrthogonalityLoss()(X, {"a": X["a"]}), "SoftOrthogonalityLoss has nodes (a, b); private lacks 'b'"),
    (lambda: ReconstructionLoss()(X, {**X, "c": X["a"]}), "ReconstructionLoss has nodes (a, b); x_hat has 'c' as well"),
    (
        lambda: ReconstructionLoss()(X, X["a"]),
        "ReconstructionLoss: x and x_hat must both be mappings, or both be tensors",
    ),
    (lambda: ReconstructionLoss()({}, {}), "ReconstructionLoss: x must hold at least 1 node"),
    (
        lambda: ReconstructionLoss()(X, {**X, "b": torch.zeros(4, 2)}),
        "ReconstructionLoss: x_hat['b'] must have shape (4, 3), got (4, 2)",
    ),
    (lambda: TripletMarginLoss(binning=3), "binning must be None, 'round' or boundaries, got 3"),
    (
        lambda: ReconstructionLoss()(X, X, {"a": torch.ones(4), "b": torch.ones(4)}),
        "reconstruction_loss: mask must be boolean (True = real or present), got torch.float32",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:70] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert message in str(error.value)


def test_single_tensors_are_named_as_they_are():
    for arguments, message in (
        ((torch.ones(2, 3), torch.ones(2, 4)), r"x_hat must have shape \(2, 3\), got \(2, 4\)"),
        (([1.0], torch.ones(1)), "x must be a torch.Tensor, got list"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            ReconstructionLoss()(*arguments)


def test_an_infinite_label_is_in_no_triplet_where_margins_are_proportional():
    features = {"a": torch.randn(4, 3), "b": torch.randn(4, 3)}
    loss = TripletMarginLoss(binning="round", proportional=True)
    labels, others = torch.tensor([1.0, torch.inf, -2.0, 1.0]), torch.tensor([True, False, True, True])
    expected = loss(features, labels.nan_to_num(posinf=0.0), sample_mask=others)
    torch.testing.assert_close(loss(features, labels), expected)
