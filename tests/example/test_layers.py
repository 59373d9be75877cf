"""The layers around gdkit's pieces: standardisation, pooling, the stem, hidden modalities."""

import math

import numpy as np
import pytest
import torch
from dmd.augmentation import drop_modalities
from dmd.front import ConvolutionStem
from dmd.layers import (
    FeatureFusion,
    InputAdapter,
    MaskedBatchNorm,
    ResidualHead,
    masked_mean,
    per_modality,
)
from dmd.readout import Readout
from torch.nn import functional as F

from gdkit.testing import check_padding_invariance, check_permutation_equivariance


def adapter(pool=1, standardize="column", gain=0.0):
    return InputAdapter({"sound": 2}, pool, 0.0, standardize, gain).eval()


def test_masked_mean():
    x = torch.tensor([[[1.0], [2.0], [9.0]], [[5.0], [9.0], [9.0]], [[9.0], [9.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert masked_mean(x, mask).tolist() == [[1.5], [5.0], [0.0]]
    spoiled = torch.where(mask[..., None], x, torch.nan)
    assert masked_mean(spoiled, mask).tolist() == [[1.5], [5.0], [0.0]]


def test_one_value_or_one_a_modality():
    names = ("left", "right")
    assert per_modality("pool", 3, names, 1) == {"left": 3, "right": 3}
    assert per_modality("pool", {"right": 2}, names, 1) == {"left": 1, "right": 2}
    with pytest.raises(ValueError, match="pool names nose; the modalities are left, right"):
        per_modality("pool", {"nose": 2}, names, 1)


STATISTICS = {"sound": (np.float32([1.0, 10.0]), np.float32([3.0, 4.0]))}
ROOT = math.sqrt((3.0**2 + 4.0**2) / 2)  # the common deviation of both columns
STANDARDISED = {
    "column": [[0.0, -2.0], [2.0, 0.0]],
    "modality": [[0.0, -8 / ROOT], [6 / ROOT, 0.0]],
    "sample": [[-1.0, -1.0], [1.0, 1.0]],
}


@pytest.mark.parametrize("standardize", STANDARDISED)
def test_standardised_values(standardize):
    layer = adapter(standardize=standardize)
    layer.fit(STATISTICS)
    x = torch.tensor([[[1.0, 2.0], [7.0, 10.0], [99.0, 99.0]]])
    out, mask = layer("sound", x, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(out[:, :2], torch.tensor([STANDARDISED[standardize]]))
    assert not out[:, 2].any()
    assert mask.tolist() == [[True, True, False]]


def test_far_values_are_cut():
    out, _ = adapter()("sound", torch.tensor([[[1e6, -1e6]]]), torch.ones(1, 1, dtype=torch.bool))
    assert out.tolist() == [[[10.0, -10.0]]]


def test_gain_multiplies_each_column_of_a_sample_in_training():
    layer, x, mask = adapter(gain=0.5), torch.rand(500, 3, 2) + 1, torch.ones(500, 3, dtype=torch.bool)
    assert torch.equal(layer("sound", x, mask)[0], x)
    factors = layer.train()("sound", x, mask)[0] / x  # (batch, time, dim)
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3, -1))
    drawn = factors[:, 0].log()
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 0.5) < 0.05
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 0.15


def test_pool_averages_the_real_steps():
    x = torch.arange(10.0).reshape(1, 5, 2).repeat(2, 1, 1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    out, pooled = adapter(pool={"sound": 2})("sound", x, mask)
    assert out[..., 0].tolist() == [[1.0, 5.0, 8.0], [1.0, 4.0, 0.0]]
    assert pooled.tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("pool", [0, {"sound": -1}])
def test_a_pool_below_one_step(pool):
    with pytest.raises(ValueError, match=r"pool must be at least 1 step, got .* for 'sound'"):
        adapter(pool=pool)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_stem_sees_no_padding(batch_norm, stride):
    stem = ConvolutionStem(3, 4, 2, 3, dropout=0.0, batch_norm=batch_norm, stride=stride)
    x, mask = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    for training in (True, False):
        stem.train(training)
        before = {name: value.clone() for name, value in stem.state_dict().items()}
        result, real = stem(torch.where(mask[..., None], x, 0.0), mask)
        assert result.shape == (2, -(-6 // stride**2), 4)
        assert real.sum(dim=1).tolist() == [-(-6 // stride**2), -(-4 // stride**2)]
        assert not result[~real].any()
        stem.load_state_dict(before)
        longer = F.pad(torch.where(mask[..., None], x, 0.0), (0, 0, 0, 4))
        again, _ = stem(longer, F.pad(mask, (0, 4)))
        torch.testing.assert_close(again[:, : result.shape[1]], result)


def test_batch_norm_is_that_of_torch_over_the_real_steps():
    ours, theirs = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    x, mask = 3 + 2 * torch.randn(4, 7, 5), torch.rand(4, 7) > 0.4
    for _ in range(3):
        result = ours(torch.where(mask[..., None], x, 0.0), mask)
        torch.testing.assert_close(result[mask], theirs(x[mask]))
        assert not result[~mask].any()
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x, mask)[mask], theirs(x[mask]))
    before = ours.train().running_mean.clone()
    assert not ours(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.bool)).any()
    assert torch.equal(ours.running_mean, before)
    single = torch.zeros(2, 3, dtype=torch.bool).index_fill(1, torch.tensor([1]), True) & torch.tensor(
        [[True], [False]]
    )
    alone = ours(torch.where(single[..., None], 7.0, torch.zeros(2, 3, 5)), single)[single]
    assert torch.equal(ours.running_mean, before)  # one step has no spread: the running statistics serve
    torch.testing.assert_close(alone, (7 - before) * torch.rsqrt(ours.running_variance + 1e-5)[None])


@pytest.mark.parametrize("kind", ["mean", "mean_max", "attention"])
def test_readout_sees_no_padding(kind):
    readout = Readout(4, kind)
    x, mask = torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:], mask[2] = False, False
    assert readout(x, mask).shape == (3, readout.width)
    assert not readout(x, mask)[2].any()
    check_padding_invariance(readout, x, mask)
    one = readout(x[:, :1], mask[:, :1])[0]
    torch.testing.assert_close(one[:4], x[0, 0])  # of a single step, every readout is that step
    x.requires_grad_()
    readout(x, mask).sum().backward()
    assert x.grad.isfinite().all()
    assert not x.grad[~mask].any()


def test_normalised_readout_is_that_of_rectified_batch_norm():
    readout, norm = Readout(4, "mean_max", normalize=True), torch.nn.BatchNorm1d(4)
    x, mask = 3 + 2 * torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:], mask[2] = False, False
    steps = norm(x[mask]).relu()  # of both samples that have some
    wanted = [torch.cat([part.mean(dim=0), part.amax(dim=0)]) for part in steps.split([5, 2])]
    torch.testing.assert_close(readout(x, mask), torch.stack([*wanted, torch.zeros(8)]))
    check_padding_invariance(readout.eval(), x, mask)


def test_heads():
    check_permutation_equivariance(ResidualHead(4, 2, 0.0), torch.randn(3, 4))
    fusion = FeatureFusion([4, 6], 2, 0.0)
    assert fusion([torch.randn(3, 4), torch.randn(3, 6)]).shape == (3, 2)
    check_permutation_equivariance(lambda a, b: fusion([a, b]), torch.randn(3, 4), torch.randn(3, 6))


def test_hidden_modalities():
    present = torch.tensor([[True, True, True], [True, True, False], [False, True, False], [False, False, False]])
    present = present.repeat(2000, 1)
    chances = torch.tensor([0.0, 0.5, 0.9])
    kept = drop_modalities(present, chances)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(dim=1), present.any(dim=1))  # none loses its last
    assert kept[0::4, 0].all()  # a chance of 0 hides nothing
    shares = kept[0::4].float().mean(dim=0)
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.5, 0.1]), atol=0.04, rtol=0)
    # Where the last must stay, high chances favour nobody.
    rest = drop_modalities(torch.ones(6000, 3, dtype=torch.bool), torch.full((3,), 0.999)).float().mean(dim=0)
    torch.testing.assert_close(rest, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_mixing_is_one_matrix_a_sample_and_only_in_training():
    layer = InputAdapter({"sound": 2}, 1, 0.0, "column", 0.0, 0.3)
    x, mask = torch.randn(3, 6, 2), torch.ones(3, 6, dtype=torch.bool)
    mask[2, 4:] = False
    torch.testing.assert_close(layer.eval()("sound", x, mask)[0], torch.where(mask[..., None], x, 0.0))
    torch.manual_seed(0)
    mixed, _ = layer.train()("sound", x, mask)
    for sample, result in zip(x, mixed):
        matrix = torch.linalg.lstsq(sample[:4], result[:4]).solution
        torch.testing.assert_close(sample[:4] @ matrix, result[:4])
        assert 0 < (matrix - torch.eye(2)).abs().max() < 1
    assert not mixed[2, 4:].any()
