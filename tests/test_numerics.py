"""Whatever the numbers, losses and gradients are finite; in 16 bits they are near those of 32."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import precision
from gdkit import (
    CrossmodalTransformer,
    DecoupledEncoder,
    GDUnit,
    MultimodalTransformer,
    ReconstructionLoss,
    SoftOrthogonalityLoss,
    TripletMarginLoss,
)
from gdkit._testing import flat
from tests.every_module import GRAPH, NAMES, Product
from tests.example.small import classes_of, make_batch, make_model, make_task

KINDS = ("as drawn", "half zero", "all zero", "all equal", "tiny", "one sign each")
LOGITS, FEATURES = 1e4, 1e6
AUTOCAST = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPE = st.sampled_from(list(AUTOCAST))


@st.composite
def numbers(draw, *shape, scale):
    """Numbers up to the scale, of a kind that breaks things."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    x = torch.rand(shape, generator=generator) * 2 - 1
    kind = draw(st.sampled_from(KINDS))
    if kind == "half zero":
        x.flatten()[: x.numel() // 2] = 0
    x = {"all zero": 0 * x, "all equal": torch.ones(shape), "tiny": 1e-36 * x, "one sign each": x.sign()}.get(kind, x)
    return x * scale


@st.composite
def masks(draw, *shape):
    """None, all, some, or nothing real."""
    kind = draw(st.sampled_from(("none", "all", "some", "nothing")))
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    return torch.rand(shape, generator=generator) > {"all": -1.0, "some": 0.5, "nothing": 1.0}[kind]


def assert_finite(call, dtype, leaves):
    """Every result of a call under autocast, and every gradient of their sum."""
    autocast = AUTOCAST[dtype]
    leaves = [*leaves]
    for leaf in leaves:
        leaf.requires_grad_()
    with nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast):
        results = [x for x in flat(call()).values() if x.is_floating_point()]
    for result in results:
        assert result.isfinite().all()
    total = sum(x.float().sum() for x in results if x.requires_grad)
    for gradient in torch.autograd.grad(total, leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


DISTANCES = [("l1", None), ("l2", "l2"), ("cosine", "cosine"), ("kl", "l1"), ("kl", "kl")]


@pytest.mark.parametrize(("distance", "feature_distance"), DISTANCES)
@pytest.mark.parametrize("scorer", ["linear", "mlp", "free", "agreement", None, "module"])
@settings(max_examples=10)
@given(data=st.data())
def test_distillation(scorer, distance, feature_distance, data):
    batch, dtype = data.draw(st.integers(1, 3)), data.draw(DTYPE)
    options = {
        "normalize": data.draw(st.sampled_from(("graph", "target"))),
        "temperature": data.draw(st.floats(0.1, 9)),
    }
    own = Product(8) if scorer == "module" else scorer
    unit = GDUnit(
        GRAPH, 5, 3, 4, scorer=own, distance=distance, feature_distance=feature_distance, prior=[0.1] * 6,
        prior_weight=1.0, **options,
    )  # fmt: skip
    logits, features = data.draw(numbers(batch, 3, 3, scale=LOGITS)), data.draw(numbers(batch, 3, 5, scale=FEATURES))
    mask = data.draw(masks(batch, 3))
    if scorer == "module":
        features = features / FEATURES  # what a user's scorer squares is the user's
        logits = logits / LOGITS
    leaves = [logits, features, *unit.parameters()]
    assert_finite(lambda: unit(logits, features, mask)._asdict(), dtype, leaves)


@given(st.data())
def test_losses_of_sequences(data):
    batch, steps, dtype = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), data.draw(DTYPE)
    x, y = (data.draw(numbers(batch, steps, 4, scale=FEATURES)) for _ in range(2))
    mask = data.draw(masks(batch, steps))
    for loss in (ReconstructionLoss(), *map(SoftOrthogonalityLoss, ("hinge", "absolute", "squared", "signed"))):
        assert_finite(lambda loss=loss: {"loss": loss(x, y, mask)}, dtype, [x, y])


@given(st.data())
def test_triplets(data):
    batch, dtype = data.draw(st.integers(1, 5)), data.draw(DTYPE)
    x, mask = data.draw(numbers(batch, 3, 4, scale=FEATURES)), data.draw(masks(batch, 3))
    labels = torch.tensor(
        data.draw(st.lists(st.sampled_from((0.0, 1.0, 1e4, float("nan"))), min_size=batch, max_size=batch))
    )
    labels = data.draw(st.sampled_from((labels, torch.zeros(batch))))  # also of a single class
    for proportional in (False, True):
        loss = TripletMarginLoss(0.3, binning="round", proportional=proportional)
        assert_finite(lambda loss=loss: {"loss": loss(x, labels, mask)}, dtype, [x])


@given(st.data())
def test_agreement_and_edges(data):
    batch = data.draw(st.integers(1, 3))
    logits, mask = data.draw(numbers(batch, 3, 2, scale=LOGITS)), data.draw(masks(batch, 3))
    scores, edge_mask = data.draw(numbers(batch, 6, scale=FEATURES)), data.draw(masks(batch, 6))
    assert GF.agreement(logits, mask).isfinite().all()
    for normalize in ("graph", "target"):
        for temperature in (1e-3, 1.0):
            call = lambda: {"weights": GF.edge_weights(scores, GRAPH.edge_index, 3, normalize, temperature, edge_mask)}  # noqa: E731, B023
            assert_finite(call, "none", [scores])


@pytest.mark.parametrize("name", ["encoder", "crossmodal", "multimodal"])
@given(data=st.data())
def test_networks(name, data):
    batch, dtype = data.draw(st.integers(1, 3)), data.draw(DTYPE)
    # A convolution under float16 sums in float16, which ends at 65504.
    scale = 1e3 if dtype == "float16" and name == "encoder" else FEATURES
    steps = {node: data.draw(st.integers(1, 4)) for node in NAMES}
    inputs = {node: data.draw(numbers(batch, time, 4, scale=scale)) for node, time in steps.items()}
    given_masks = {node: data.draw(masks(batch, time)) for node, time in steps.items()}
    every = {
        node: torch.ones(batch, steps[node], dtype=torch.bool) if m is None else m for node, m in given_masks.items()
    }
    if name == "encoder":
        module = DecoupledEncoder(dict.fromkeys(NAMES, 4), 6, kernel_size=3)
        call = lambda: module(inputs, every)._asdict()  # noqa: E731
    elif name == "multimodal":
        module = MultimodalTransformer(NAMES, 4, 2, 1, num_memory_layers=1)
        call = lambda: module(inputs, every)  # noqa: E731
    else:
        module = CrossmodalTransformer(4, 2, 2)
        pair = [inputs[node] for node in NAMES[:2]]
        call = lambda: {"out": module(*pair, *(given_masks[node] for node in NAMES[:2]))}  # noqa: E731
    assert_finite(call, dtype, [*inputs.values(), *module.parameters()])


ONE_STEP = ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1))
ABSENT = ((0, 5, 0, 2), (0, 4, 0, 0), (0, 0, 0, 3))
TASKS = {
    "regression": lambda: make_task(None, {"normalize": "graph"}, proportional_margin=True),
    "classes": lambda: make_task(make_model(num_outputs=2), {"scorer": "agreement", "feature_distance": "cosine"}),
}


@pytest.mark.parametrize("dtype", AUTOCAST)
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("lengths", [ONE_STEP, ABSENT, [row[:1] for row in ONE_STEP], [row[:1] for row in ABSENT]])
@pytest.mark.parametrize("scale", [0.0, 1.0, FEATURES])
def test_a_whole_task(name, lengths, dtype, scale):
    labels = [1.0] * len(lengths[0])  # a single class
    batch = make_batch(lengths=lengths, labels=labels)
    batch = batch._replace(inputs={node: x * scale for node, x in batch.inputs.items()})
    batch = classes_of(batch) if name == "classes" else batch
    task = TASKS[name]()
    with nullcontext() if AUTOCAST[dtype] is None else torch.autocast("cpu", dtype=AUTOCAST[dtype]):
        out = task(batch)
    assert all(x.isfinite().all() for x in flat(out).values())
    out["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


# What docs/numerics.md promises: results and gradients, each over the largest number of its tensor.
LOSSES = [name for name in precision.CASES if name.startswith("GDUnit") or name.endswith("Loss")]
PROMISED = {"bfloat16": (1e-2, 3e-2), "float16": (2e-3, 5e-3)}


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("name", precision.CASES)
def test_autocast_is_near_float32(name, dtype, monkeypatch):
    monkeypatch.setattr(precision, "DRAWS", 1)
    results, gradients = precision.differences(name, precision.DTYPES[dtype])
    if name in LOSSES:  # computed in float32 whatever the caller has on
        assert (results, gradients) == (0, 0)
    else:
        assert 0 < results < PROMISED[dtype][0]
        assert 0 < gradients < PROMISED[dtype][1]


@pytest.mark.parametrize("dtype", PROMISED)
def test_losses_of_16_bit_numbers_are_in_float32_under_autocast(dtype):
    half = precision.DTYPES[dtype]
    x, y = ({node: v.to(half) for node, v in precision._sequences().items()} for _ in range(2))
    far = {node: v * 1e3 for node, v in x.items()}  # whose squares float16 does not hold
    with torch.autocast("cpu", dtype=half):
        assert ReconstructionLoss()(far, y).dtype == torch.float32
        assert ReconstructionLoss()(far, y).isfinite()
        assert SoftOrthogonalityLoss()(x, y).dtype == torch.float32
    assert ReconstructionLoss()(x, y).dtype == half  # who has no autocast on wants 16 bits
