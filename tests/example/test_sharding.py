"""FSDP2 trains what is sharded as if it were whole, and its checkpoints fit everything else."""

import pytest
import torch
from torch import multiprocessing

from tests.example.sharded_processes import work


@pytest.mark.slow
def test_sharded_parameters_are_trained_as_whole_ones(tmp_path):
    multiprocessing.spawn(work, (tmp_path,), nprocs=2)  # all cases at once, as it takes seconds to start
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert len(found) == 18
        for case, result in found.items():
            assert result.pop("moves") > 1e-4, case
            assert result.pop("weights") < 1e-5, (case, result)
            assert not any(result.values()), (case, result)  # checkpoints change nothing
