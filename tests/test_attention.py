"""Attention against the plain loop of benchmarks/naive.py: values, weights and gradients under every mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import naive
from gdkit import _chunked_attention
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


# In chunks


@pytest.mark.parametrize("chunk", [1, 7, 12, 2**20])
@pytest.mark.parametrize("band", [None, 1, -2, -4, -9])
@pytest.mark.parametrize("masked", [False, True])
def test_chunks_change_nothing(chunk, band, masked, monkeypatch):
    monkeypatch.setattr(_chunked_attention, "CHUNK", chunk)
    monkeypatch.setattr(_chunked_attention, "KEPT", 0)
    monkeypatch.setattr(_chunked_attention, "BAND_ROWS", 2)
    options = {"key_mask": torch.rand(3, 5) > 0.3 if masked else None, "band": band}
    leaves = [torch.randn(3, 2, steps, 4, dtype=torch.float64, requires_grad=True) for steps in (6, 5, 5)]
    results = [attention(*leaves, **options, backend=backend) for backend in ("chunked", "reference")]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(result.square().sum(), leaves) for result in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("chunk", [7, 2**20])
def test_backward_of_chunks_repeats_the_dropout(chunk, monkeypatch):
    monkeypatch.setattr(_chunked_attention, "CHUNK", chunk)
    monkeypatch.setattr(_chunked_attention, "KEPT", 0)
    leaves = [torch.randn(2, 2, steps, 3, dtype=torch.float64, requires_grad=True) for steps in (4, 5, 5)]

    def dropped(*heads):
        torch.manual_seed(3)
        return attention(*heads, band=2, dropout=0.4, backend="chunked")

    assert torch.autograd.gradcheck(dropped, leaves)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_chunks_drop_the_share_that_is_asked_for(dropout, monkeypatch):
    monkeypatch.setattr(_chunked_attention, "CHUNK", 2**14)
    monkeypatch.setattr(_chunked_attention, "KEPT", 0)
    query, key = torch.zeros(2, 2, 100, 300), torch.zeros(2, 2, 300, 300)
    value = torch.eye(300).expand(2, 2, -1, -1)  # the result is the weights

    def draw(dropout):
        return attention(query, key, value, dropout=dropout, backend="chunked") * 300

    torch.manual_seed(0)
    weights = draw(dropout)
    assert (weights == 0).double().mean().item() == pytest.approx(dropout, abs=0.005)
    assert weights.mean().item() == pytest.approx(1, abs=0.01)
    assert weights.unique().numel() == 2
    assert not torch.equal(weights[0], weights[1])  # each sample has its own
    assert not torch.equal(weights, draw(dropout))
    torch.manual_seed(0)
    assert torch.equal(weights, draw(dropout))
    rare = draw(1 - 1e-9)
    assert rare.isfinite().all()
    assert (rare == 0).double().mean() > 0.999


@pytest.mark.parametrize(
    ("dropout", "band", "steps", "width", "chunked"),
    [
        (0.1, None, 100, 5, True),
        (0.1, None, 5, 5, False),
        (0.0, 3, 200, 32, True),
        (0.0, None, 200, 10, True),
        (0.0, None, 200, 32, False),
        (0.0, 3, 200, 64, False),
        (0.0, 3, 100, 5, False),
    ],
)
def test_auto_takes_chunks_for_dropout_or_narrow_heads_of_many_weights_on_a_cpu(
    dropout, band, steps, width, chunked, monkeypatch
):
    taken = []
    nothing = torch.zeros(4, 4, steps, width)
    monkeypatch.setattr("gdkit.attention.chunked_attention", lambda *_: taken.append(1) or nothing)
    heads = torch.randn(4, 4, steps, width)
    attention(heads, heads, heads, dropout=dropout, band=band)
    assert bool(taken) == chunked
    taken.clear()
    with torch.autocast("cpu", torch.bfloat16):
        attention(heads, heads, heads, dropout=dropout)
    attention(heads.bfloat16(), heads.bfloat16(), heads.bfloat16(), dropout=dropout)
    assert not taken


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's kernel has no rule of its own
def test_auto_leaves_torch_func_to_what_has_its_rules():
    heads = torch.randn(2, 4, 4, 200, 5)
    each = torch.func.vmap(lambda x: attention(x, x, x, band=0))(heads)
    torch.testing.assert_close(each[1], attention(heads[1], heads[1], heads[1], band=0))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_weights_that_are_kept_are_those_that_backward_computes(dropout, monkeypatch):
    leaves = [torch.randn(2, 2, steps, 3, dtype=torch.float64, requires_grad=True) for steps in (4, 5, 5)]
    monkeypatch.setattr(_chunked_attention, "CHUNK", 2**19)  # the same chunks, and so the same dropout
    gradients = []
    for kept in (0, 2**19):
        monkeypatch.setattr(_chunked_attention, "KEPT", kept)
        torch.manual_seed(0)
        result = attention(*leaves, band=1, dropout=dropout, backend="chunked")
        gradients.append(torch.autograd.grad(result.square().sum(), leaves))
    torch.testing.assert_close(*gradients)


def test_a_chance_between_two_bytes_is_met_on_average():
    torch.manual_seed(0)
    heads = torch.zeros(1, 1, 64, 64)
    value = torch.eye(64).expand(1, 1, -1, -1)  # the result is the weights
    chance = 0.3 / 256  # less than a byte can say
    draws = [attention(heads, heads, value, dropout=chance, backend="chunked") for _ in range(400)]
    assert torch.stack(draws).eq(0).double().mean().item() == pytest.approx(chance, rel=0.2)
    assert torch.stack(draws).double().mean().item() == pytest.approx(1 / 64, rel=1e-3)


def test_chunks_of_nothing():
    heads = torch.zeros(0, 2, 4, 5, requires_grad=True)
    assert attention(heads, heads, heads, dropout=0.2, backend="chunked").shape == heads.shape
    none = torch.zeros(2, 2, 0, 5)
    assert attention(none, torch.ones(2, 2, 3, 5), torch.ones(2, 2, 3, 5), backend="chunked").shape == none.shape


def test_chunks_of_no_sample_with_lengths():
    heads, lengths = torch.zeros(0, 2, 4, 5), torch.zeros(0, dtype=torch.int64)
    assert attention(heads, heads, heads, key_lengths=lengths, backend="chunked").shape == heads.shape


@pytest.mark.parametrize(
    ("band", "same"),
    [(torch.tensor([2, 2], dtype=torch.uint8), 2), (torch.tensor([2**63 - 1] * 2), 99), (-(2**70), -99)],
)
def test_bands_of_any_integer_type(band, same):
    heads = torch.randn(2, 2, 6, 5)
    wanted = attention(heads, heads, heads, band=same, backend="reference")
    for backend in ("sdpa", "chunked", "reference"):
        torch.testing.assert_close(attention(heads, heads, heads, band=band, backend=backend), wanted)


def test_backward_of_chunks_is_exact_inside_autocast():
    leaves = [torch.randn(2, 2, 9, 5, requires_grad=True) for _ in range(3)]
    result = attention(*leaves, backend="chunked").square().sum()
    wanted = torch.autograd.grad(result, leaves, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(result, leaves), wanted)


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
    (lambda: attention_with_weights(X, X, X, dropout=1.0), "attention: dropout must be in [0, 1), got 1.0"),
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
