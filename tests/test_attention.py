"""Attention against the plain loop of benchmarks/naive.py: values, weights and gradients under every mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import naive
from gdkit.attention import attention, attention_with_weights
from gdkit.testing import check_permutation_equivariance, masks


@st.composite
def calls(draw):
    batch, heads, num_queries, num_keys = (draw(st.integers(1, limit)) for limit in (2, 2, 4, 4))
    width, dtype = draw(st.sampled_from((1, 2, 5, 10, 16))), draw(st.sampled_from((torch.float32, torch.float64)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shapes = [(batch, heads, steps, width) for steps in (num_queries, num_keys, num_keys)]
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    options = {
        "key_mask": draw(st.none() | masks(batch, num_keys)),
        "key_lengths": draw(st.none() | lengths(batch, num_keys)),
        "query_lengths": draw(st.none() | lengths(batch, num_queries)),
        "band": draw(st.sampled_from((None, 0, 1, -1, -5)) | lengths(batch, 3)),
    }
    return tensors, options


def lengths(batch, most):
    return st.lists(st.integers(0, most), min_size=batch, max_size=batch).map(torch.tensor)


def plain_loop(query, key, value, *, key_mask, key_lengths, query_lengths, band):
    """The oracle, which knows masks only; bands one sample at a time."""
    shown = torch.ones(len(key), key.shape[2], dtype=torch.bool) if key_mask is None else key_mask.clone()
    real = torch.ones(len(query), query.shape[2], dtype=torch.bool)
    for sample in range(len(query)):
        if key_lengths is not None:
            shown[sample, key_lengths[sample] :] = False
        if query_lengths is not None:
            real[sample, query_lengths[sample] :] = False
    bands = band.tolist() if isinstance(band, torch.Tensor) else [band] * len(query)
    results = [
        naive.attention(*(x[i : i + 1] for x in (query, key, value, shown, real)), bands[i]) for i in range(len(query))
    ]
    return tuple(torch.cat(parts) for parts in zip(*results))


@given(calls())
def test_attention_is_the_plain_loop(call):
    tensors, options = call
    loop_leaves = [x.double().requires_grad_() for x in tensors]
    wanted, weights = plain_loop(*loop_leaves, **options)
    gradients = torch.autograd.grad(wanted.square().sum(), loop_leaves)
    tolerance = 1e-9 if tensors[0].dtype == torch.float64 else 1e-4
    for backend in ("sdpa", "chunked", "reference", None):
        leaves = [x.clone().requires_grad_() for x in tensors]
        if backend is None:
            output, got = attention_with_weights(*leaves, **options)
            torch.testing.assert_close(got.double(), weights, rtol=tolerance, atol=tolerance)
        else:
            output = attention(*leaves, **options, backend=backend)
        torch.testing.assert_close(output.double(), wanted, rtol=tolerance, atol=tolerance)
        for ours, loops in zip(torch.autograd.grad(output.square().sum(), leaves), gradients):
            torch.testing.assert_close(ours.double(), loops, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("width", [3, 16])
def test_gradients_by_finite_differences(width):
    query, key, value = (torch.randn(2, 1, 3, width, dtype=torch.float64, requires_grad=True) for _ in range(3))
    key_mask = torch.tensor([[True, False, True], [False, False, False]])
    for function in (attention, lambda *heads, **masks: attention_with_weights(*heads, **masks)[0]):
        assert torch.autograd.gradcheck(lambda *x, f=function: f(*x, key_mask=key_mask, band=1), (query, key, value))


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_query_that_sees_nothing_gives_zeros_and_zero_gradients():
    heads = torch.randn(2, 2, 4, 5, requires_grad=True)
    for options in ({"key_mask": torch.zeros(2, 4, dtype=torch.bool)}, {"band": -4}):
        for output in (
            attention(heads, heads, heads, **options),
            *attention_with_weights(heads, heads, heads, **options),
        ):
            assert not output.any()
            with torch.autograd.detect_anomaly():  # no NaN on the way either
                (gradient,) = torch.autograd.grad(output.sum(), heads, retain_graph=True)
            assert not gradient.any()
    empty = torch.zeros(2, 2, 0, 5)
    assert torch.equal(attention(heads, empty, empty), torch.zeros_like(heads))


@given(calls())
def test_weights_are_shares_of_the_visible_keys(call):
    (query, key, value), options = call
    _, weights = attention_with_weights(query, key, value, **options)
    _, wanted = plain_loop(query, key, value, **options)
    visible = wanted > 0
    assert (weights >= 0).all()
    assert not weights[~visible].any()
    torch.testing.assert_close(weights.sum(dim=-1), visible.any(dim=-1).to(weights))


@pytest.mark.parametrize("width", [5, 10, 16])
def test_the_scale_is_that_of_the_width_before_padding(width):
    query = torch.full((1, 1, 1, width), 1.0, dtype=torch.float64)
    key = torch.stack([torch.zeros(width), torch.ones(width)])[None, None].double()
    value = torch.eye(2, width)[None, None].double()
    wanted = torch.tensor(width**0.5).sigmoid().item()  # scores 0 and width / sqrt(width)
    for output in (attention(query, key, value), attention_with_weights(query, key, value)[0]):
        assert output.shape == query.shape
        assert output[..., 1].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [5, 10, 16])
def test_sixteen_bits(dtype, width):
    query, key, value = (torch.randn(2, 2, steps, width).to(dtype) for steps in (3, 6, 6))
    key_mask = torch.tensor([[True, True, False, True, False, True], [False] * 6])
    wanted, _ = naive.attention(query.double(), key.double(), value.double(), key_mask)
    for output in (
        attention(query, key, value, key_mask=key_mask),
        attention_with_weights(query, key, value, key_mask=key_mask)[0],
    ):
        assert output.dtype == dtype
        torch.testing.assert_close(output.double(), wanted, rtol=0.02, atol=0.02)


def test_no_key_at_all_is_still_on_the_graph():
    query, key = torch.randn(2, 2, 4, 5, requires_grad=True), torch.zeros(2, 2, 0, 5, requires_grad=True)
    for output in (attention(query, key, key), attention_with_weights(query, key, key)[0]):
        assert torch.equal(output, torch.zeros_like(query))
        gradient, _ = torch.autograd.grad(output.sum(), (query, key))
        assert not gradient.any()


def test_attention_follows_the_batch():
    key_mask = torch.rand(4, 7) > 0.4
    check_permutation_equivariance(
        lambda query, key, mask: attention(query, key, key, key_mask=mask, band=2),
        torch.randn(4, 2, 6, 5),
        torch.randn(4, 2, 7, 5),
        key_mask,
    )


@given(calls())
def test_a_spare_column_hides_keys_like_a_mask(call):
    tensors, options = call
    leaves = [x.requires_grad_() for x in tensors]
    results = []
    for multiples in ({"cpu": 8}, {}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gdkit._sdpa_attention.WIDTH_MULTIPLE", multiples)
            result = attention(*leaves, **options, backend="sdpa")
            results.append((result, *torch.autograd.grad(result.square().sum(), leaves)))
    for padded, plain in zip(*results):
        torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4)


def test_dropout_drops_weights_and_keeps_their_mean():
    value = torch.ones(1, 1, 2000, 4)
    query, key = torch.randn(1, 1, 50, 4), torch.randn(1, 1, 2000, 4)
    plain, weights = attention_with_weights(query, key, value, dropout=0.5)
    results = [attention(query, key, value, dropout=0.5, backend=backend) for backend in ("sdpa", "chunked")]
    for output in (*results, plain):
        assert output.std() > 1e-3
        assert abs(output.mean().item() - 1) < 0.05
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 1, 50))  # those before dropout


X = torch.zeros(2, 3, 4, 5)
ERRORS = [
    (lambda: attention(X[0], X, X), "attention: query must have shape (batch, heads, query, head_dim), got (3, 4, 5)"),
    (lambda: attention(X, X[..., :4], X), "attention: key must have shape (2, 3, key, 5), got (2, 3, 4, 4)"),
    (lambda: attention(X, X, X[:, :, :2]), "attention: value must have shape (2, 3, 4, 5), got (2, 3, 2, 5)"),
    (
        lambda: attention(X, X, X, key_mask=torch.ones(2, 4)),
        "attention: key_mask must be boolean (True = real or present), got torch.float32",
    ),
    (
        lambda: attention(X, X, X, query_lengths=torch.ones(3, dtype=torch.int64)),
        "attention: query_lengths must have shape (2,), got (3,)",
    ),
    (
        lambda: attention(X, X, X, key_lengths=torch.ones(2)),
        "attention: key_lengths must hold integers, got torch.float32",
    ),
    (
        lambda: attention(X, X, X, band=torch.ones(2, dtype=torch.bool)),
        "attention: band must hold integers, got torch.bool",
    ),
    (lambda: attention(X, X, X, band=1.5), "attention: band must be an integer, got 1.5"),
    (
        lambda: attention(X, X, X, backend="flash"),
        "attention: backend must be one of 'auto', 'triton', 'sdpa', 'chunked', 'reference', got 'flash'",
    ),
    (
        lambda: attention(X, X, X, backend="triton"),
        "attention: backend 'triton' needs tensors on a CUDA device, got cpu",
    ),
    (lambda: attention(X, X, X, dropout=1.0), "attention: dropout must be in [0, 1), got 1.0"),
    (lambda: attention(X, X, X, dropout=-0.1), "attention: dropout must be at least 0, got -0.1"),
    (
        lambda: attention_with_weights(X, X, X, dropout=1.0),
        "attention_with_weights: dropout must be in [0, 1), got 1.0",
    ),
    (lambda: attention(X, X.tolist(), X), "attention: key must be a torch.Tensor, got list"),
    (lambda: attention(X, X[0], X), "attention: key must have shape (2, 3, key, 5), got (3, 4, 5)"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:60] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    if "backend 'triton' needs tensors" in message:
        pytest.importorskip("triton", reason="without triton the error is that it is not installed")
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("outer", [torch.sum, lambda x: x.square().sum()], ids=["linear", "square"])
def test_chunks_refuse_second_derivatives(outer):
    inner = torch.randn(8, 8, requires_grad=True)
    x = torch.randn(2, 2, 5, 8, requires_grad=True)
    heads = x @ inner
    result = outer(attention(heads, heads, heads, backend="chunked")) + heads.square().sum()
    (gradient,) = torch.autograd.grad(result, x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend 'chunked' is differentiable once"):
        torch.autograd.grad(gradient.square().sum(), inner)


def test_no_query_under_a_band():
    query, key = torch.zeros(2, 2, 0, 5), torch.zeros(2, 2, 7, 5)
    for backend in ("reference", "sdpa", "chunked"):
        assert attention(query, key, key, band=0, backend=backend).shape == query.shape
        assert attention(query, key, key, band=torch.tensor([0, 1]), backend=backend).shape == query.shape
