"""benchmarks/cuda: the kernel's per-thread code against plain float64, its compiled form, and (on a GPU) the kernel."""

import math

import pytest
import torch

from benchmarks.cuda.attention import SPLITS, WIDTHS, attention
from benchmarks.cuda.build import compiled, find_tool
from benchmarks.cuda.inspect import SCORES, instructions, resources
from gdkit.attention import attention as gdkit_attention
from tests.kernels.philox import kept, philox

needs_nvcc = pytest.mark.skipif(find_tool("nvcc") is None, reason="there is no nvcc")
SEED = -0x123456789ABCDEF  # as a 64-bit pattern, both halves matter


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    if find_tool("nvcc") is not None:
        compiled()


def plain(query, key, value, key_lengths=None, band=None, dropout=0.0, seed=SEED):
    """The same in float64, all weights in memory."""
    query, key, value = (x.cpu().double() for x in (query, key, value))
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 * math.log2(math.e)
    i, j = torch.arange(scores.shape[2])[:, None], torch.arange(scores.shape[3])
    visible = torch.ones_like(scores, dtype=torch.bool)
    if key_lengths is not None:
        visible &= j < key_lengths.cpu()[:, None, None, None]
    if band is not None:
        visible &= j - i <= band
    log_sums = torch.where(visible, scores, -torch.inf).mul(math.log(2)).logsumexp(-1) / math.log(2)
    log_sums = torch.where(visible.any(-1), log_sums, torch.inf)
    weights = torch.where(visible, torch.exp2(scores - log_sums[..., None]), 0.0)
    if dropout > 0:
        keep, factor = kept(seed, *scores.shape, dropout)
        weights = weights * keep * factor
    return weights @ value, log_sums


def heads_of(batch, heads, time, width):
    """A third of one projection of (batch, time): no stride is what it would be in a tensor of its own."""
    return torch.randn(batch, time, heads, 3 * width)[..., width : 2 * width].transpose(1, 2)


def assert_agree(got, wanted, atol=5e-6):
    for one, other in zip(got, wanted):
        torch.testing.assert_close(one.cpu(), other.float(), rtol=1e-5, atol=atol)


CASES = {
    "one of each": {"sizes": (1, 1, 1, 1)},
    "plain": {"sizes": (2, 3, 37, 150)},
    "band": {"sizes": (1, 2, 150, 131), "band": 19},
    "band below zero": {"sizes": (1, 1, 30, 40), "band": -7},
    "all hidden by the band": {"sizes": (1, 1, 5, 9), "band": -5},
    "lengths": {"sizes": (4, 2, 21, 300), "lengths": torch.tensor([0, 1, 129, 400])},
    "lengths of 32 bits": {
        "sizes": (3, 1, 9, 70),
        "lengths": torch.tensor([8, 0, 64, 0, 70, 0], dtype=torch.int32)[::2],
    },
    "no keys": {"sizes": (2, 1, 3, 0)},
    "no queries": {"sizes": (2, 1, 0, 3)},
    "dropout": {"sizes": (2, 3, 33, 145), "dropout": 0.3},
    "nearly everything dropped": {"sizes": (1, 2, 9, 200), "dropout": 0.999999},
    "everything": {"sizes": (3, 2, 70, 141), "dropout": 0.1, "band": 71, "lengths": torch.tensor([141, 0, 77])},
}


def drawn(width, sizes, lengths=None, **options):
    batch, heads, num_queries, num_keys = sizes
    inputs = [heads_of(batch, heads, time, width) for time in (num_queries, num_keys, num_keys)]
    return inputs, {"key_lengths": lengths, **options}


def seeded(options, device="cpu"):
    return {**options, "seed": torch.tensor([SEED], device=device)}


@needs_nvcc
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", WIDTHS)
def test_per_thread_code_is_exact(width, case):
    inputs, options = drawn(width, **CASES[case])
    for split in SPLITS:
        result, log_sums = attention(*inputs, **seeded(options), split=split)
        assert_agree((result, log_sums), plain(*inputs, **options))
        assert result.transpose(1, 2).is_contiguous()


@needs_nvcc
@pytest.mark.parametrize("factor", [10.0, 300.0])
def test_weights_never_overflow(factor):
    """Scores that rise by far more than a weight's room above the first key's move the reference, again and again."""
    (query, key, value), _ = drawn(5, (1, 2, 12, 200))
    query, key = query.abs() * factor, key.abs() * torch.linspace(0.01, 1, 200)[:, None]
    for options in ({}, {"band": 3}, {"dropout": 0.2}):
        got = attention(query, key, value, **seeded(options))
        assert_agree(got, plain(query, key, value, **options), atol=2e-6 * factor)
    falling = attention(query, key.flip(2), value)
    assert_agree(falling, plain(query, key.flip(2), value), atol=2e-6 * factor)


@needs_nvcc
def test_hidden_keys_do_not_move_the_reference():
    query, key = torch.zeros(1, 1, 4, 5), torch.zeros(1, 1, 16, 5)
    query[..., 0] = 5**0.5
    key[..., 8:12, 0] = torch.tensor([100.0, 1000.0, 10000.0, 100000.0])  # query i sees those up to 8 + i
    value = torch.randn(1, 1, 16, 5)
    assert_agree(attention(query, key, value, band=8), plain(query, key, value, band=8))


def test_the_tests_philox_gives_the_published_numbers():
    """Of the generator's own known answers (Random123, philox4x32 with 7 rounds)."""
    ones = 0xFFFFFFFF
    assert [int(x) for x in philox([0] * 4, (0, 0))] == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]
    assert [int(x) for x in philox([ones] * 4, (ones, ones))] == [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]


@needs_nvcc
def test_nothing_is_spilled():
    rows = resources()
    wanted = [(width, split, dropout) for width in WIDTHS for split in SPLITS for dropout in (False, True)]
    assert [row[:3] for row in rows] == wanted
    assert all(row.spilled == 0 for row in rows), rows


@needs_nvcc
@pytest.mark.skipif(find_tool("cuobjdump") is None, reason="there is no cuobjdump")
def test_inner_loop_is_short():
    for (width, _, dropout), counts in instructions().items():
        products = counts.inner["FFMA"] / SCORES
        assert products == 2 * width
        assert counts.inner["MUFU"] == SCORES
        assert counts.inner["LDS"] == 4 * width
        overhead = (sum(counts.inner.values()) - counts.inner["LDS"]) / SCORES - products
        assert overhead <= (9 if dropout else 3), (width, dropout, overhead)
        assert not {"ATOM", "ATOMG", "RED", "LDL", "STL"} & set(counts.all)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"width": 6}, ValueError, "one of (5, 8, 10, 16), got 6"),
        ({"split": 3}, ValueError, "split must be one of (4, 8), got 3"),
        ({"dropout": 1.0}, ValueError, "dropout must be in [0, 1), got 1.0"),
        ({"dropout": 0.1}, ValueError, "dropout needs a seed"),
        ({"band": 1.5}, TypeError, "band must be an integer"),
        ({"key_lengths": torch.ones(3)}, TypeError, "key_lengths must be int32 or int64"),
        ({"key_lengths": torch.ones(2, dtype=torch.long)}, ValueError, "key_lengths must be (3,), got (2,)"),
        ({"value": torch.ones(3, 2, 6, 5)}, ValueError, "must be (3, 2, key, 5), got (3, 2, 7, 5) and (3, 2, 6, 5)"),
        ({"value": torch.ones(3, 2, 7, 5).double()}, TypeError, "value must be float32, got torch.float64"),
        ({"value": torch.ones(3, 2, 5, 7).mT}, ValueError, "value must have stride 1 along its last axis"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    width = change.pop("width", 5)
    query, key, value = (torch.ones(3, 2, time, width) for time in (4, 7, 7))
    with pytest.raises(error) as caught:
        attention(**{"query": query, "key": key, "value": value, **change})
    assert message in str(caught.value)


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr("benchmarks.cuda.build.find_tool", lambda name: None)
    with pytest.raises(RuntimeError, match="no nvcc; install the CUDA toolkit"):
        compiled.__wrapped__()


def is_sm_90():
    return torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)


@pytest.mark.gpu
@needs_nvcc
@pytest.mark.skipif(not is_sm_90(), reason="the GPU is not of compute capability 9.0")
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("width", WIDTHS)
def test_kernel_on_a_gpu(width, split):
    sizes = [{"sizes": (16, 10, 496, 371), "band": 125}, {"sizes": (2, 3, 128, 128), "dropout": 0.2}]
    for case in [*CASES.values(), *sizes]:
        inputs, options = drawn(width, **case)
        wanted = plain(*inputs, **options)
        inputs = [torch.empty_strided(x.shape, x.stride(), device="cuda").copy_(x) for x in inputs]
        if options["key_lengths"] is not None:
            options["key_lengths"] = options["key_lengths"].cuda()
        got = attention(*inputs, **seeded(options, "cuda"), split=split)
        assert_agree(got, wanted, atol=1e-5)
        again = attention(*inputs, **seeded(options, "cuda"), split=split)
        assert all(torch.equal(one, other) for one, other in zip(got, again))
        if not options.get("dropout"):
            lengths = options["key_lengths"]
            mask = None if lengths is None else torch.arange(inputs[1].shape[2]).cuda() < lengths[:, None]
            same = gdkit_attention(*inputs, key_mask=mask, band=options.get("band"), backend="reference")
            torch.testing.assert_close(got[0], same, rtol=1e-5, atol=1e-5)
