"""CrossmodalTransformer against a rebuild from torch.nn.MultiheadAttention, its masks, and its error texts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gdkit import CrossmodalTransformer
from gdkit.testing import check_padding_invariance, check_permutation_equivariance, masks


def positions(x, mask):
    """Sines, then cosines, of the number of real steps so far."""
    half = x.shape[2] // 2
    table = torch.zeros_like(x)
    for b in range(x.shape[0]):
        number = 0
        for t in range(x.shape[1]):
            number += int(mask[b, t])
            for i in range(half):
                angle = number / 10000 ** (i / max(half - 1, 1))
                table[b, t, i], table[b, t, half + i] = math.sin(angle), math.cos(angle)
    return table


def plain_layer(layer, x, source, source_mask, band):
    """One pre-norm block around torch.nn.MultiheadAttention with the layer's weights."""
    module = nn.MultiheadAttention(x.shape[2], layer.num_heads, batch_first=True, dtype=x.dtype)
    with torch.no_grad():
        module.in_proj_weight.copy_(layer.in_projection.weight)
        module.in_proj_bias.copy_(layer.in_projection.bias)
        module.out_proj.load_state_dict(layer.out_projection.state_dict())
    asked = layer.attention_norm(x)
    answer = asked if source is None else layer.attention_norm(source)
    hidden = torch.tensor(
        [[band is not None and j - i > band for j in range(answer.shape[1])] for i in range(x.shape[1])]
    )
    attended, weights = module(
        asked, answer, answer, key_padding_mask=~source_mask, attn_mask=hidden, average_attn_weights=False
    )
    x = x + attended
    return x + layer.contract(layer.expand(layer.feedforward_norm(x)).clamp(min=0)), weights


def plain_transformer(module, target, source, target_mask, source_mask):
    """The whole module, with masks that are always given; source None = the target itself."""

    def embed(x, mask):
        return math.sqrt(x.shape[2]) * x.masked_fill(~mask[..., None], 0) + positions(x, mask)

    x, answer, collected = embed(target, target_mask), None, []
    if source is not None:
        answer = embed(source, source_mask)
    for layer in module.layers:
        x, weights = plain_layer(layer, x, answer, target_mask if source is None else source_mask, module.band)
        collected.append(weights * target_mask[:, None, :, None])
    return module.norm(x) * target_mask[..., None], collected


def scatter(module, std=0.3):
    """Give every parameter, norms and biases too, a value of its own."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def is_close(got, wanted, tolerance=1e-9):
    torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["self", "cross"])
@given(data=st.data())
@settings(max_examples=15)
def test_transformer_is_the_rebuild(kind, data):
    dim, num_heads = data.draw(st.sampled_from(((5, 1), (10, 2), (20, 2), (32, 2), (6, 6), (1, 1), (7, 1))))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float64)))
    batch, steps, others = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    module = scatter(
        CrossmodalTransformer(
            dim,
            num_heads,
            data.draw(st.integers(1, 2)),
            feedforward_dim=data.draw(st.sampled_from((None, 3))),
            band=data.draw(st.sampled_from((None, 0, 2))),
        ).to(dtype)
    )
    target = torch.randn(batch, steps, dim, dtype=dtype)
    source = torch.randn(batch, others, dim, dtype=dtype) if kind == "cross" else None
    target_mask = data.draw(st.none() | masks(batch, steps))
    source_mask = data.draw(st.none() | masks(batch, others)) if kind == "cross" else None
    for mask in (target_mask, source_mask):
        if mask is not None:
            mask[:, 0] = True  # MultiheadAttention answers NaN where nothing is visible
    output, weights = module(target, source, target_mask, source_mask, return_attention=True)
    fused = module(target, source, target_mask, source_mask)

    module.double()
    every = [torch.ones(batch, time, dtype=torch.bool) for time in (steps, others)]
    wanted, wanted_weights = plain_transformer(
        module,
        target.double(),
        None if source is None else source.double(),
        every[0] if target_mask is None else target_mask,
        every[1] if source_mask is None else source_mask,
    )
    tolerance = 1e-5 if dtype == torch.float64 else 1e-3  # positions are float32 in both
    is_close(output, wanted, tolerance)
    is_close(fused, wanted, tolerance)
    assert len(weights) == module.num_layers
    for ours, theirs in zip(weights, wanted_weights):
        assert ours.shape == (batch, num_heads, steps, steps if source is None else others)
        is_close(ours, theirs, tolerance)


def make(**options):
    torch.manual_seed(0)
    return scatter(CrossmodalTransformer(10, 2, 2, **options).double())


def sequence(time, batch=3, dim=10):
    return torch.randn(batch, time, dim, dtype=torch.float64)


def lengths(time, *steps):
    return torch.arange(time) < torch.tensor(steps)[:, None]


def test_padding_in_front_moves_nothing():
    module, target, source = make(), sequence(5), sequence(7)
    wanted = module(target, source, lengths(5, 5, 4, 2), lengths(7, 3, 7, 1))
    front = [
        (F.pad(x, (0, 0, 4, 0), value=9.0), F.pad(m, (4, 0)))
        for x, m in ((target, lengths(5, 5, 4, 2)), (source, lengths(7, 3, 7, 1)))
    ]
    is_close(module(front[0][0], front[1][0], front[0][1], front[1][1])[:, 4:], wanted)
    alone = module(target, None, lengths(5, 5, 4, 2))
    is_close(module(front[0][0], None, front[0][1])[:, 4:], alone)
    holes = torch.tensor([True, False, True, True, False, True, True])
    spread = torch.zeros(3, 7, 10, dtype=torch.float64)
    spread[:, holes] = target
    is_close(module(spread, None, holes.expand(3, 7))[:, holes], module(target))


@pytest.mark.parametrize("band", [None, 0, 2, -1])
def test_padding_behind_and_batch_order_change_nothing(band):
    module = make(band=band)
    inputs, given_masks = {"t": sequence(5), "s": sequence(7)}, {"t": lengths(5, 5, 4, 0), "s": lengths(7, 3, 0, 7)}

    def cross(x, mask):
        return {"t": module(x["t"], x["s"], mask["t"], mask["s"])}

    check_padding_invariance(cross, inputs, given_masks)
    check_padding_invariance(lambda x, mask: module(x, None, mask), inputs["t"], given_masks["t"])
    check_permutation_equivariance(module, inputs["t"], inputs["s"], given_masks["t"], given_masks["s"])


def test_self_attention_is_the_source_that_is_the_target_in_one_layer_alone():
    target, mask = sequence(5), lengths(5, 5, 4, 1)
    for num_layers, same in ((1, True), (2, False)):  # the source of Eq. 10 does not follow the target through layers
        module = scatter(CrossmodalTransformer(10, 2, num_layers).double())
        alone, crossed = module(target, None, mask), module(target, target, mask, mask)
        assert torch.allclose(alone, crossed) is same


@pytest.mark.parametrize("band", [0, 2])
def test_a_band_hides_what_comes_later(band):
    module, target, source = make(band=band), sequence(6), sequence(6)
    changed = source.clone()
    changed[:, 4] = torch.randn(3, 10)
    moved = (module(target, changed) - module(target, source)).abs().amax(dim=(0, 2)) > 1e-12
    assert moved.tolist() == [step + band >= 4 for step in range(6)]


def test_an_absent_source_answers_nothing():
    module, target = make(), sequence(5).requires_grad_()
    masked = module(target, sequence(7), None, torch.zeros(3, 7, dtype=torch.bool))
    empty, weights = module(target, sequence(0), return_attention=True)
    is_close(module(target, sequence(0)), masked)
    is_close(empty, masked)
    assert [part.shape for part in weights] == [(3, 2, 5, 0)] * 2
    module(target, sequence(0)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert module(sequence(0), target).shape == (3, 0, 10)


def test_dropout_is_for_training_alone():
    target, plain = sequence(5), make().eval()
    for options in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        module = make(**options)
        module.load_state_dict(plain.state_dict())
        assert not torch.allclose(module.train()(target), plain(target))
        is_close(module.eval()(target), plain(target))
    _, weights = module.train()(target, return_attention=True)
    is_close(weights[0], plain(target, return_attention=True)[1][0])  # those before dropout


X = torch.zeros(4, 5, 10)
REAL = torch.ones(4, 5, dtype=torch.bool)


CROSS = "CrossmodalTransformer"
ERRORS = [
    (lambda: CrossmodalTransformer(10, 3, 1), f"{CROSS}: num_heads must divide dim, got dim 10 and num_heads 3"),
    (lambda: CrossmodalTransformer(10, 2, 0), f"{CROSS}: num_layers must be above 0, got 0"),
    (lambda: CrossmodalTransformer(10, 2.0, 1), f"{CROSS}: num_heads must be an integer, got 2.0"),
    (lambda: make(feedforward_dim=-1), f"{CROSS}: feedforward_dim must be above 0, got -1"),
    (lambda: make(dropout=1.0), f"{CROSS}: dropout must be in [0, 1), got 1.0"),
    (lambda: make(attention_dropout=-0.5), f"{CROSS}: attention_dropout must be at least 0, got -0.5"),
    (lambda: make()(X[..., :9]), f"{CROSS}: target must have shape (batch, time, 10), got (4, 5, 9)"),
    (lambda: make()(X.long()), f"{CROSS}: target must be floating point, got torch.int64"),
    (lambda: make()(X[:0]), f"{CROSS}: target must hold at least 1 sample, got shape (0, 5, 10)"),
    (lambda: make()(X.tolist()), f"{CROSS}: target must be a torch.Tensor, got list"),
    (
        lambda: make()(X.double(), X[:3].double()),
        f"{CROSS}: source must have shape (4, source time, 10), got (3, 5, 10)",
    ),
    (lambda: make()(X, None, REAL[:, :4]), f"{CROSS}: target_mask must have shape (4, 5), got (4, 4)"),
    (lambda: make()(X, X, None, REAL[:, :4]), f"{CROSS}: source_mask must have shape (4, 5), got (4, 4)"),
    (
        lambda: make()(X, None, REAL.float()),
        f"{CROSS}: target_mask must be boolean (True = real or present), got torch.float32",
    ),
    (lambda: make()(X, None, None, REAL), f"{CROSS}: source_mask is given, but source is None"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:70] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message


def test_a_sequence_of_no_step_may_have_a_mask():
    transformer = CrossmodalTransformer(8, num_heads=2, num_layers=1)
    x, none, mask = torch.randn(2, 5, 8), torch.zeros(2, 0, 8), torch.zeros(2, 0, dtype=torch.bool)
    torch.testing.assert_close(transformer(x, none, None, mask), transformer(x, none))
    assert transformer(none, x, mask).shape == none.shape


def test_norms_may_stay_in_float32_where_all_else_has_16_bits():
    transformer = CrossmodalTransformer(8, num_heads=2, num_layers=2)
    x = torch.randn(2, 5, 8)
    wanted = transformer(x)
    transformer.bfloat16()
    for module in transformer.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()
    torch.testing.assert_close(transformer(x.bfloat16()).float(), wanted, rtol=0.1, atol=0.1)
