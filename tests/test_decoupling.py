"""DecoupledEncoder against sums written out step by step, its masks and paddings, and its error texts."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import naive
from gdkit import DecoupledEncoder, DecoupledOutput, ReconstructionLoss
from gdkit.testing import check_padding_invariance, check_permutation_equivariance, masks

NAMES = ("language", "vision")
WIDTHS = {"language": 3, "vision": 2}
FIELDS = ("coupled", "shared", "private", "reconstruction", "reencoded")

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def convolve(weight, x, real, padding):
    """One sample's temporal convolution, (time, input_dim) -> (time, dim), and which of its steps are real."""
    kernel_size = weight.shape[2]
    # "same" puts the odd one of an even kernel's padding behind, as torch.nn.Conv1d does.
    before = (kernel_size - 1) // 2 if padding == "same" else 0
    steps, results = [], []
    for t in range(len(x) if padding == "same" else len(x) - kernel_size + 1):
        under = [t - before + j for j in range(kernel_size)]
        step = 0 * weight[:, 0, 0]
        for j, position in enumerate(under):
            if 0 <= position < len(x) and real[position]:
                step = step + sum(weight[:, c, j] * x[position, c] for c in range(x.shape[1]))
        is_real = real[t] if padding == "same" else all(real[position] for position in under)
        steps.append(bool(is_real))
        results.append(step if is_real else step * 0)
    return torch.stack(results), torch.tensor(steps)


def decouple(encoder, inputs, given_masks):
    """Eq. 1 to 3 for every sample and step, with the encoder's own weights."""
    out = DecoupledOutput({}, {}, {}, {}, {}, {})
    for name, x in inputs.items():
        real = torch.ones(x.shape[:2], dtype=torch.bool) if given_masks is None else given_masks[name]
        samples = [convolve(encoder.projection[name].weight, x[b], real[b], encoder.padding) for b in range(len(x))]
        rows = {field: [] for field in FIELDS}
        for coupled, _ in samples:
            shared = [encoder.shared.weight @ step for step in coupled]
            private = [encoder.private[name].weight @ step for step in coupled]
            decoded = [encoder.decoder[name].weight @ torch.cat(parts) for parts in zip(shared, private)]
            reencoded = [encoder.private[name].weight @ step for step in decoded]
            for field, steps in zip(FIELDS, (list(coupled), shared, private, decoded, reencoded)):
                rows[field].append(torch.stack(steps))
        for field in FIELDS:
            getattr(out, field)[name] = torch.stack(rows[field])
        out.masks[name] = torch.stack([steps for _, steps in samples])
    return out


def losses(out, sum_over_nodes):
    """Eq. 2 and Eq. 3, with different factors so that neither can stand in for the other."""
    return sum_over_nodes(out.coupled, out.reconstruction) + 3 * sum_over_nodes(out.private, out.reencoded)


@pytest.mark.parametrize("padding", ["same", "valid"])
@given(data=st.data())
@settings(max_examples=15)
def test_encoder_is_the_plain_loop(padding, data):
    dtype = data.draw(st.sampled_from((torch.float32, torch.float64)))
    kernel_size = data.draw(st.sampled_from((1, 2, 3, {"language": 3, "vision": 1}, {"language": 2, "vision": 4})))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    batch, times = data.draw(st.integers(1, 3)), {name: data.draw(st.integers(4, 6)) for name in NAMES}
    inputs = {name: torch.randn(batch, times[name], WIDTHS[name], dtype=dtype) for name in NAMES}
    given_masks = data.draw(st.none() | st.fixed_dictionaries({name: masks(batch, times[name]) for name in NAMES}))
    encoder = DecoupledEncoder(WIDTHS, 4, kernel_size=kernel_size, padding=padding).to(dtype)
    exact = copy.deepcopy(encoder).double()

    out, wanted = encoder(inputs, given_masks), decouple(exact, {n: x.double() for n, x in inputs.items()}, given_masks)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for field in FIELDS:
        for name in NAMES:
            value = getattr(out, field)[name]
            assert value.dtype == dtype
            torch.testing.assert_close(value.double(), getattr(wanted, field)[name], rtol=tolerance, atol=tolerance)
    assert (out.masks is None) == (given_masks is None)
    if given_masks is not None:
        assert all(torch.equal(out.masks[name], wanted.masks[name]) for name in NAMES)

    def plain_sum(x, x_hat):
        return sum(naive.reconstruction_loss(x[name], x_hat[name], wanted.masks[name]) for name in NAMES)

    ours = losses(out, lambda x, x_hat: ReconstructionLoss()(x, x_hat, out.masks))
    loops = losses(wanted, plain_sum)
    torch.testing.assert_close(ours.double(), loops, rtol=tolerance, atol=tolerance)
    gradients = zip(
        torch.autograd.grad(ours, list(encoder.parameters())), torch.autograd.grad(loops, list(exact.parameters()))
    )
    for ours, loops in gradients:
        torch.testing.assert_close(ours.double(), loops, rtol=tolerance, atol=tolerance * max(1, loops.abs().max()))


def make(**options):
    return DecoupledEncoder(WIDTHS, 4, **options)


def sequences(batch=3, dtype=torch.float32):
    return {"language": torch.randn(batch, 6, 3, dtype=dtype), "vision": torch.randn(batch, 9, 2, dtype=dtype)}


def lengths(*steps):
    """Masks of sequences that are real up to a length."""
    return {name: torch.arange(time) < torch.tensor(steps)[:, None] for name, time in (("language", 6), ("vision", 9))}


def test_one_shared_encoder_and_private_encoders_and_decoders():
    encoder = make()
    assert isinstance(encoder.shared, torch.nn.Linear)
    for part in (encoder.projection, encoder.private, encoder.decoder):
        assert list(part) == list(NAMES)
    assert not any("bias" in name for name, _ in encoder.named_parameters())


def test_steps_that_are_kept_and_lost():
    for padding, kernel_size, wanted in (("same", 5, (6, 9)), ("same", 4, (6, 9)), ("valid", 5, (2, 5))):
        out = make(padding=padding, kernel_size=kernel_size)(sequences())
        for field in FIELDS:
            assert tuple(getattr(out, field)[name].shape for name in NAMES) == tuple((3, t, 4) for t in wanted)
    out = make(padding="valid", kernel_size=3)(sequences(), lengths(6, 3, 2))
    assert out.masks["language"].sum(dim=1).tolist() == [4, 1, 0]
    assert out.masks["vision"].shape == (3, 7)


def test_results_come_in_the_encoders_order_whatever_the_inputs_order():
    encoder, inputs = make(), sequences()
    out, backwards = encoder(inputs), encoder(dict(reversed(inputs.items())))
    for field in FIELDS:
        assert list(getattr(backwards, field)) == list(NAMES)
        assert all(torch.equal(getattr(out, field)[name], getattr(backwards, field)[name]) for name in NAMES)


@pytest.mark.parametrize("kernel_size", [1, 4, 5])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_and_batch_order_change_nothing(padding, kernel_size):
    encoder, inputs = make(padding=padding, kernel_size=kernel_size).double(), sequences(dtype=torch.float64)
    for given_masks in (
        lengths(6, 5, 1),
        lengths(6, 6, 6),
        {n: torch.rand(x.shape[:2]) > 0.3 for n, x in inputs.items()},
    ):
        check_padding_invariance(encoder, inputs, given_masks)
        check_permutation_equivariance(encoder, inputs, given_masks)


def test_masks_zero_every_result_and_no_masked_value_passes():
    encoder, inputs, given_masks = make(), sequences(), lengths(6, 2, 0)
    spoiled = {
        name: torch.where(given_masks[name][..., None], x, torch.nan).requires_grad_() for name, x in inputs.items()
    }
    out, wanted = encoder(spoiled, given_masks), encoder(inputs, given_masks)
    for field in FIELDS:
        for name, mask in given_masks.items():
            assert torch.equal(getattr(out, field)[name], getattr(wanted, field)[name])
            assert not getattr(out, field)[name][~mask].any()
    losses(out, lambda x, x_hat: ReconstructionLoss()(x, x_hat, out.masks)).backward()
    for leaf in (*spoiled.values(), *encoder.parameters()):
        assert leaf.grad.isfinite().all()
    assert not any(spoiled[name].grad[~mask].any() for name, mask in given_masks.items())


@pytest.mark.parametrize(("with_masks", "padding"), [(True, "same"), (True, "valid"), (False, "same")])
def test_zero_steps_are_an_absent_node(with_masks, padding):
    encoder, inputs = make(padding=padding), sequences() | {"vision": torch.zeros(3, 0, 2)}
    given_masks = {n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in inputs.items()} if with_masks else None
    out, whole = encoder(inputs, given_masks), encoder(sequences() | {"language": inputs["language"]})
    for field in FIELDS:
        assert getattr(out, field)["vision"].shape == (3, 0, 4)
        assert torch.equal(getattr(out, field)["language"], getattr(whole, field)["language"])
    loss = sum(getattr(out, field)[name].square().sum() for field in FIELDS for name in NAMES)
    loss.backward()
    for name, parameter in encoder.named_parameters():  # a gradient of zeros, as data-parallel training wants it
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) == ("vision" not in name), name


X = {"language": torch.zeros(4, 6, 3), "vision": torch.zeros(4, 9, 2)}
FOUR = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in X.items()}

ERRORS = [
    (
        lambda: DecoupledEncoder({}, 4),
        "DecoupledEncoder: input_dims must map at least one node name to its width, got {}",
    ),
    (lambda: DecoupledEncoder({"a": 0}, 4), "DecoupledEncoder: input_dims['a'] must be above 0, got 0"),
    (lambda: DecoupledEncoder({"a": 2.0}, 4), "DecoupledEncoder: input_dims['a'] must be an integer, got 2.0"),
    (
        lambda: DecoupledEncoder({"a.b": 2}, 4),
        "DecoupledEncoder: node name 'a.b' cannot name a submodule: it is empty, has a dot, or is taken",
    ),
    (lambda: DecoupledEncoder(WIDTHS, 0), "DecoupledEncoder: dim must be above 0, got 0"),
    (lambda: make(padding="full"), "DecoupledEncoder: padding must be one of 'same', 'valid', got 'full'"),
    (lambda: make(kernel_size=0), "DecoupledEncoder: kernel_size['language'] must be above 0, got 0"),
    (
        lambda: make(kernel_size={"language": 3}),
        "DecoupledEncoder has nodes (language, vision); kernel_size lacks 'vision'",
    ),
    (
        lambda: make()({"language": X["language"]}),
        "DecoupledEncoder has nodes (language, vision); inputs lacks 'vision'",
    ),
    (
        lambda: make()(X | {"touch": X["vision"]}),
        "DecoupledEncoder has nodes (language, vision); inputs has 'touch' as well",
    ),
    (lambda: make()(X["language"]), "DecoupledEncoder: inputs must be a mapping from node name to tensor, got Tensor"),
    (
        lambda: make()(X | {"vision": X["vision"][:3, :, :1]}),
        "DecoupledEncoder: inputs['vision'] must have shape (4, time, 2), got (3, 9, 1)",
    ),
    (
        lambda: make()(X | {"vision": X["vision"].long()}),
        "DecoupledEncoder: inputs['vision'] must be floating point, got torch.int64",
    ),
    (
        lambda: make()({name: x[:0] for name, x in X.items()}),
        "DecoupledEncoder: inputs['language'] must hold at least 1 sample, got shape (0, 6, 3)",
    ),
    (
        lambda: make()(X, {"vision": FOUR["vision"]}),
        "DecoupledEncoder has nodes (language, vision); masks lacks 'language'",
    ),
    (
        lambda: make()(X, FOUR | {"vision": FOUR["vision"][:, :8]}),
        "DecoupledEncoder: masks['vision'] must have shape (4, 9), got (4, 8)",
    ),
    (
        lambda: make()(X, FOUR | {"vision": FOUR["vision"].float()}),
        "DecoupledEncoder: masks['vision'] must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: make(kernel_size=7, padding="valid")(X),
        "DecoupledEncoder: inputs['language'] has 6 steps, fewer than its kernel_size 7; "
        "padding='same' takes any number",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[18:70] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
