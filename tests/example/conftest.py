"""What the tests of runs and commands share."""

import os

import pytest
from filelock import FileLock

from tests.example.forked import Commands
from tests.example.small_runs import content, prepare


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the pictures and the page out: they cost more than a tiny run."""
    monkeypatch.setattr("dmd.report.write_pictures", lambda *_, **__: {})
    monkeypatch.setattr("dmd.page.write_report", lambda *_, **__: None)


@pytest.fixture(scope="session")
def commands():
    """Commands in processes of their own that start at once."""
    with Commands() as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run of three epochs finds when nothing comes between."""
    out = tmp_path_factory.mktemp("undisturbed")
    prepare(out, epochs=3, pictures=False).train()
    return content(out)


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Tiny finished runs with a page each; tests that change a folder take a copy. One process trains for all."""
    from tests.example.page_runs import make_runs

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "reported.lock"):
        return make_runs(base / "reported")
