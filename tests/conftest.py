"""What holds for every test: the same numbers in every run, one thread, and a moderate number of drawn examples."""

import sys

import pytest
import torch
from hypothesis import settings

from tests.browser import chromium

settings.register_profile("gdkit", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("gdkit")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Each test may choose device and precision: accelerate keeps the first choice of a process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium for the tests that look at pages; they skip where there is none."""
    with chromium() as running:
        yield running
