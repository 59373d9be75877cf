"""Samples at other speeds."""

import numpy as np
import torch
from dmd.augmentation import stretch

from tests.example.small import make_batch, make_model


def test_stretch_interpolates_as_numpy_does():
    x, mask = torch.randn(4, 12, 2), torch.ones(4, 12, dtype=torch.bool)
    mask[0, 6:], mask[1, 9:], mask[2] = False, False, False
    longer, real = stretch(x, mask, torch.tensor([1.5, 0.5, 1.0, 2.0]))
    assert real.sum(dim=1).tolist() == [9, 4, 0, 12]  # the last is as long as the batch already
    for i, (old, new) in {0: (6, 9), 1: (9, 4), 3: (12, 12)}.items():
        places = np.linspace(0, old - 1, new)
        wanted = np.stack([np.interp(places, np.arange(old), x[i, :old, c].numpy()) for c in range(2)], axis=1)
        np.testing.assert_allclose(longer[i, :new].numpy(), wanted, atol=1e-5)
    assert not longer[~real].any()


def test_the_same_speed_changes_nothing():
    x, mask = torch.randn(2, 7, 3), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    same, real = stretch(x, mask, torch.ones(2))
    torch.testing.assert_close(same, torch.where(mask[..., None], x, 0.0))
    assert torch.equal(real, mask)
    assert stretch(x[:, :0], mask[:, :0], torch.ones(2))[0].shape == (2, 0, 3)
    assert stretch(x, mask & False, torch.ones(2))[1].sum() == 0
    single = torch.zeros_like(mask).index_fill(1, torch.tensor([0]), True)
    torch.testing.assert_close(stretch(x, single, torch.full((2,), 2.0))[0][:, :2], x[:, :1].expand(2, 2, 3))


def test_only_training_warps_time():
    batch, model = make_batch(), make_model(warp=0.5)
    still = model(batch.inputs, batch.masks).output
    torch.testing.assert_close(model(batch.inputs, batch.masks).output, still)
    model.train()
    torch.manual_seed(1)
    assert not torch.allclose(model(batch.inputs, batch.masks).output, still, atol=1e-3)
