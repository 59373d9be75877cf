"""The kernels for all pairs of nodes without a GPU: run by Triton's interpreter, and compiled for three generations."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).parent.parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs the package triton, which is made for Linux"
)


@needs_triton
def test_in_the_interpreter():
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels/interpreted_pairs.py"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@needs_triton
@pytest.mark.parametrize(
    "arch", [pytest.param(80, marks=pytest.mark.slow), 90, pytest.param(100, marks=pytest.mark.slow)]
)
def test_compiles_without_spilling_a_register(arch):
    from benchmarks import pair_kernels

    for name in pair_kernels.KERNELS:
        for dtype in pair_kernels.DTYPES:
            for aligned in (True, False):
                kernel = pair_kernels.compile_pairs(name, dtype, arch, aligned)
                assert kernel.spilled == 0, (name, dtype, aligned)
                assert not {"LDL", "STL", "RED", "ATOM"} & set(kernel.instructions), (name, dtype, aligned)


@needs_triton
def test_the_loops_are_little_but_arithmetic():
    from benchmarks import pair_kernels

    for name, most in (("distances", 4.5), ("gradient", 5.5)):
        (loop,) = pair_kernels.compile_pairs(name, torch.float32, 90).loops
        assert loop.total() <= most * pair_kernels.SUMS
