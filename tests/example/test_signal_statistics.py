"""Moments and oscillations of signals, against NumPy."""

import numpy as np
import pytest
import torch
from dmd.signal_statistics import NUM_FREQUENCIES, SMALLEST, masked_statistics, statistics_width

from gdkit.testing import check_padding_invariance


def sample():
    x, mask = torch.randn(3, 20, 3), torch.ones(3, 20, dtype=torch.bool)
    mask[1, 17:], mask[2] = False, False
    return x, mask


@pytest.mark.parametrize("kind", ["moments", "signal"])
def test_statistics_are_those_of_the_real_steps(kind):
    x, mask = sample()
    found = masked_statistics(x, mask, kind)
    assert found.shape == (3, statistics_width(kind, 3))
    assert not found[2].any()
    check_padding_invariance(lambda x, mask: masked_statistics(x, mask, kind), x, mask)
    steps = x[1, :17].double().numpy()
    mean, deviation = steps.mean(0), steps.std(0)
    if kind == "moments":
        wanted = np.concatenate([mean, deviation])
    else:
        amplitude = np.abs(np.fft.rfft(steps - mean, axis=0)[1 : NUM_FREQUENCIES + 1]) / 17
        amplitude = np.log(np.hypot(amplitude, SMALLEST)).T.ravel()
        correlation = np.corrcoef(steps.T)[np.triu_indices(3, 1)]
        wanted = np.concatenate([mean, np.log(deviation + SMALLEST), correlation, amplitude])
    np.testing.assert_allclose(found[1].numpy(), wanted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("kind", ["moments", "signal"])
def test_gradients_are_finite_where_nothing_moves(kind):
    still = torch.ones(2, 4, 3, requires_grad=True)
    masked_statistics(still, torch.tensor([[True] * 4, [False] * 4]), kind).sum().backward()
    assert still.grad.isfinite().all()
