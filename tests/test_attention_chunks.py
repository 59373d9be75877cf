"""Attention by chunks of keys: when it is taken, and that it changes nothing."""

import pytest
import torch

from gdkit import _chunked_attention
from gdkit.attention import attention


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
