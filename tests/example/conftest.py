"""What the tests of runs and commands share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Each test may choose device and precision: accelerate keeps the first choice of a process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the pictures out: they cost more than a tiny run."""
    monkeypatch.setattr("dmd.report.write_pictures", lambda *_, **__: [])
