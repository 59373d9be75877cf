"""Several processes whose losses see the global batch compute what one process computes on it."""

import torch
from torch import multiprocessing

from tests.example.several_processes import SHARES, STEPPED, TASKS, work


def test_gradients_and_training_are_those_of_one_process(tmp_path):
    multiprocessing.spawn(work, (tmp_path,), nprocs=3)  # all cases at once, as it takes seconds to start
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for share in SHARES:
        for name in TASKS:
            for rank in range(len(share)):
                result = found[rank][name, share]
                where = name, share, rank, result
                assert result["moves"] > 1e-3, where
                assert result["gradient"] < 1e-10, where
                assert result["outputs"] < 1e-10, where
    for name, share in STEPPED:
        for rank in range(len(share)):
            result = found[rank][name, share, "steps"]
            assert result["moves"] > 1e-3, (name, result)
            assert result["weights"] < 1e-5, (name, result)
