"""The fused kernels in Triton's interpreter, on a CPU; tests/test_kernels.py runs this file in a process of its own.

Not collected by itself: TRITON_INTERPRET=1 must be set before Triton is imported.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdkit import _attention_choice
from gdkit.attention import attention, packed_attention
from gdkit.kernels import _launch
from tests.kernels.oracle import plain, shown_pairs
from tests.kernels.philox import kept

SHARE = float(os.environ.get("SHARE_OF_EXAMPLES", "1"))


def examples(most):
    """So many, or the share of them that is asked for."""
    return settings(max_examples=max(2, round(SHARE * most)))


settings.register_profile("interpreter", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("interpreter")


@st.composite
def calls(draw, widths, dtypes=(torch.float32,)):
    batch, heads = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    num_queries, num_keys = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    width, dtype = draw(st.sampled_from(widths)), draw(st.sampled_from(dtypes))
    # Strides as in a model: heads that are slices of one projection.
    steps = [torch.randn(batch, t, heads * 3 * width, generator=generator).to(dtype) for t in (num_queries, num_keys)]
    query, (key, value) = steps[0].chunk(3, -1)[0], steps[1].chunk(3, -1)[1:]
    tensors = [x.unflatten(-1, (heads, width)).transpose(1, 2) for x in (query, key, value)]

    def lengths(most):
        return st.lists(st.integers(0, most), min_size=batch, max_size=batch).map(torch.tensor)

    options = {
        "key_lengths": draw(st.none() | lengths(num_keys)),
        "query_lengths": draw(st.none() | lengths(num_queries)),
        "key_mask": draw(st.none() | st.just(torch.rand(batch, num_keys, generator=generator) > 0.4)),
        "band": draw(st.none() | st.integers(-num_queries, num_keys) | lengths(num_keys)),
    }
    return tensors, options, draw(st.sampled_from((0.0, 0.0, 0.3, 0.999))), draw(st.integers(0, 2**62 - 1))


def check(call, tolerance):
    tensors, options, dropout, seed = call
    batch, heads, num_queries, _ = tensors[0].shape
    num_keys = tensors[1].shape[2]
    shown = shown_pairs(batch, num_queries, num_keys, **options)
    keep, gain = kept(seed, batch, heads, num_queries, num_keys, dropout) if dropout else (None, 1.0)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    wanted = plain(*exact, shown, keep, gain)
    ours = [x.detach().requires_grad_() for x in tensors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda *_, **__: torch.tensor([seed]))
        result = attention(*ours, **options, dropout=dropout, backend="triton")
    assert result.dtype == tensors[0].dtype
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(0)).to(result.dtype)
    largest = max(1.0, wanted.abs().max().item())
    torch.testing.assert_close(result.double(), wanted, rtol=tolerance, atol=tolerance * largest)
    gradients = torch.autograd.grad(result, ours, upstream)
    for got, exactly in zip(gradients, torch.autograd.grad(wanted, exact, upstream.double())):
        largest = max(1.0, exactly.abs().max().item())
        torch.testing.assert_close(got.double(), exactly, rtol=tolerance, atol=tolerance * largest)
        assert got.isfinite().all()


@given(calls(widths=range(1, 9)))
@examples(25)
def test_narrow_heads_are_the_plain_attention(call):
    check(call, 2e-5)


@given(calls(widths=(9, 10, 16, 17, 32, 33, 64)))
@examples(15)
def test_wide_heads_are_the_plain_attention(call):
    check(call, 2e-5)


@given(calls(widths=(5, 10, 40), dtypes=(torch.float16,)))
@examples(10)
def test_sixteen_bits(call):
    check(call, 2e-2)


@given(calls(widths=(3, 12)))
@examples(5)
def test_tf32_takes_the_matrix_unit(call):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_launch, "_tf32", lambda: True)
        assert (
            _launch.choose(torch.float32, 3, 9, masked=False, tf32=True, backward=False).function
            is _launch._wide.forward
        )
        check(call, 2e-5)  # the interpreter does not round


@given(st.data())
@examples(12)
def test_several_pairs_in_one_launch(data):
    batch, heads = 2, 2
    pairs = data.draw(st.integers(1, 6))
    width = data.draw(st.sampled_from((3, 5, 8, 12)))
    counts = [data.draw(st.lists(st.integers(0, 70), min_size=pairs, max_size=pairs)) for _ in range(2)]
    if not all(sum(numbers) for numbers in counts):
        return
    bands = data.draw(st.lists(st.none() | st.integers(-20, 60), min_size=pairs, max_size=pairs))
    dropout = data.draw(st.sampled_from((0.0, 0.4)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shapes = [(batch, heads, sum(counts[kind]), width) for kind in (0, 1, 1)]
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in ours]
    key_lengths = torch.tensor([[data.draw(st.integers(0, n)) for n in counts[1]] for _ in range(batch)])
    key_mask = torch.rand(batch, sum(counts[1]), generator=generator) > 0.2
    seed = 12345678901234
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda *_, **__: torch.tensor([seed]))
        options = {"key_lengths": key_lengths, "key_mask": key_mask, "bands": bands, "dropout": dropout}
        result = packed_attention(*ours, *counts, **options, backend="triton")
    parts = []
    of_query, of_key, of_value = (x.split(counts[kind], dim=2) for x, kind in zip(exact, (0, 1, 1)))
    of_mask = key_mask.split(counts[1], dim=1)
    for pair, (num_queries, num_keys) in enumerate(zip(*counts)):
        shown = shown_pairs(batch, num_queries, num_keys, key_lengths[:, pair], None, of_mask[pair], bands[pair])
        keep, gain = kept(seed, batch, heads, num_queries, num_keys, dropout, pair, pairs) if dropout else (None, 1.0)
        parts.append(plain(of_query[pair], of_key[pair], of_value[pair], shown, keep, gain))
    wanted = torch.cat(parts, dim=2)
    torch.testing.assert_close(result.double(), wanted, rtol=2e-5, atol=2e-5)
    gradients = torch.autograd.grad(result.sin().sum(), ours)
    for got, exactly in zip(gradients, torch.autograd.grad(wanted.sin().sum(), exact)):
        torch.testing.assert_close(got.double(), exactly, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("width", [5, 12])
def test_numbers_beyond_32_bits_do_not_wrap(width):
    heads = torch.randn(2, 2, 40, width)
    for band in (2**31 - 1, 2**40, 2**63 - 1, -(2**31), -(2**40)):
        given = {"band": torch.tensor([band] * 2), "key_lengths": torch.tensor([2**40, 3])}
        wanted = attention(heads, heads, heads, **given, backend="reference")
        torch.testing.assert_close(attention(heads, heads, heads, **given, backend="triton"), wanted)


def test_large_scores_do_not_overflow():
    for width in (5, 12):
        query = torch.full((1, 1, 9, width), 1e4).requires_grad_()
        key = -1e4 * torch.rand(1, 1, 40, 1).expand(1, 1, 40, width)
        result = attention(query, key, key, band=3, backend="triton")
        assert result.isfinite().all()
        (gradient,) = torch.autograd.grad(result.sum(), query)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("width", [5, 20])
def test_the_operator_is_a_good_citizen_of_pytorch(width):
    heads = [torch.randn(2, 2, steps, width) for steps in (9, 11, 11)]
    tensors = [torch.tensor([11, 4]), torch.tensor([9, 2]), torch.rand(2, 11) > 0.2, None, torch.tensor([7])]
    torch.library.opcheck(torch.ops.gdkit.attention.default, (*heads, *tensors, [9], [11], [2], 0.2))
    result, log_sums = torch.ops.gdkit.attention(*heads, *tensors, [9], [11], [2], 0.2)
    saved = [torch.randn_like(result), *heads, result, log_sums]
    torch.library.opcheck(torch.ops.gdkit.attention_backward.default, (*saved, *tensors, [9], [11], [2], 0.2))


def test_the_operator_compiles_in_one_graph(monkeypatch):
    monkeypatch.setattr(_attention_choice, "_why_not_triton", lambda _: None)  # for compile, only a GPU would do

    def loss(query, key, lengths):
        options = {"key_lengths": lengths, "query_lengths": lengths, "band": 2, "dropout": 0.0}
        other = attention(query, query, query, **options, backend="triton")  # one tensor in three places
        return (other + attention(query, key, key, **options, backend="triton")).square().sum()

    query, key = torch.randn(2, 2, 9, 5, requires_grad=True), torch.randn(2, 2, 11, 5)
    lengths = torch.tensor([11, 3])
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    wanted = torch.autograd.grad(loss(query, key, lengths), query)
    torch.testing.assert_close(torch.autograd.grad(compiled(query, key, lengths), query), wanted)


def test_autocast_decides_the_dtype():
    query, key = torch.randn(2, 2, 9, 5, requires_grad=True), torch.randn(2, 2, 11, 5).half()
    with torch.autocast("cpu", torch.float16):
        result = attention(query, key, key, backend="triton")
    assert result.dtype == torch.float16
    (gradient,) = torch.autograd.grad(result.float().sum(), query)
    assert gradient.dtype == torch.float32


def test_the_same_call_gives_the_same_bits():
    heads = torch.randn(2, 3, 70, 5, requires_grad=True)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        result = attention(heads, heads, heads, dropout=0.3, backend="triton")
        results.append((result, *torch.autograd.grad(result.square().sum(), heads)))
    for first, second in zip(*results):
        assert torch.equal(first, second)
    torch.manual_seed(1)
    assert not torch.equal(results[0][0], attention(heads, heads, heads, dropout=0.3, backend="triton"))


def test_merging_the_heads_of_a_result_copies_nothing():
    heads = torch.randn(2, 3, 7, 5)
    result = attention(heads, heads, heads, backend="triton")
    assert result.transpose(1, 2).flatten(2).data_ptr() == result.data_ptr()


def test_what_the_kernels_cannot_take_says_why():
    heads = torch.zeros(1, 1, 2, 65)
    with pytest.raises(ValueError, match="takes heads up to 64 wide, got 65"):
        attention(heads, heads, heads, backend="triton")
    with pytest.raises(ValueError, match=r"takes float32, float16 and bfloat16, got torch.float64"):
        attention(*[heads[..., :5].double()] * 3, backend="triton")
