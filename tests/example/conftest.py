"""What the tests of runs and commands share."""

import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the pictures out: they cost more than a tiny run."""
    monkeypatch.setattr("dmd.report.write_pictures", lambda *_, **__: [])
