"""What evaluation finds is the same whoever computes it: batches of any size, one process or two."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.example import two_processes
from tests.example.small_runs import RECORDINGS
from tests.example.two_processes import CASES, collections, evaluations

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "examples" / "dmd")))
    ended = subprocess.run(
        [*command, str(Path(two_processes.__file__)), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_two_processes_count_every_sample_once(found):
    alone = evaluations()
    for both in found:
        assert both["processes"] == 2
        for (split, _), got, wanted in zip(CASES, both["evaluations"], alone, strict=True):
            assert got["predictions"]["id"] == RECORDINGS.splits[split].ids
            np.testing.assert_allclose(got["predictions"]["prediction"], wanted["predictions"]["prediction"], atol=1e-6)
            assert got["metrics"] == pytest.approx(wanted["metrics"], rel=1e-5)
            assert got["terms"] == pytest.approx(wanted["terms"], rel=1e-5)
            assert got["edges"].keys() == wanted["edges"].keys() == {"homogeneous", "heterogeneous"}
            for unit, weights in wanted["edges"].items():
                np.testing.assert_allclose(got["edges"][unit], weights, rtol=1e-5)
                for name, values in wanted["features"][unit].items():
                    np.testing.assert_allclose(got["features"][unit][name], values, atol=1e-6)


def test_two_processes_join_their_metrics(found):
    wanted = collections(0, 1)
    for both in found:
        assert both["collections"].keys() == wanted.keys()
        for case, values in wanted.items():
            assert both["collections"][case] == pytest.approx(values, abs=1e-12), case
    assert found[0]["alone"] == 1.5


def test_the_order_of_a_split_is_kept_and_absent_modalities_have_no_features():
    for (split, _), got in zip(CASES, evaluations(), strict=True):
        samples = RECORDINGS.splits[split]
        np.testing.assert_array_equal(got["predictions"]["truth"], samples.labels)
        for unit in ("homogeneous", "heterogeneous"):
            for name, values in got["features"][unit].items():
                absent = [len(x) == 0 for x in samples.inputs[name]]
                np.testing.assert_array_equal(np.isnan(values).all(axis=1), absent)
