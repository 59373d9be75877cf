"""Several processes whose losses see the global batch compute what one process computes on it."""

import pytest
import torch
from torch import multiprocessing

from tests.example.several_processes import SHARES, STEPPED, TASKS, work


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process has found, of every case."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (folder,), nprocs=3)
    return [torch.load(folder / f"{rank}.pt") for rank in range(3)]


@pytest.mark.parametrize("share", SHARES, ids=str)
@pytest.mark.parametrize("name", TASKS)
def test_losses_and_gradients_are_those_of_one_process(found, name, share):
    for each in found[: len(share)]:
        result = each[name, share]
        assert result["moves"] > 1e-3
        assert result["gradient"] < 1e-10
        assert result["outputs"] < 1e-10


@pytest.mark.parametrize(("name", "share"), STEPPED, ids=str)
def test_training_goes_the_same_way(found, name, share):
    for each in found[: len(share)]:
        result = each[name, share, "steps"]
        assert result["moves"] > 1e-3
        assert result["weights"] < 1e-5
