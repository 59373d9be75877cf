"""A short cut of the fuzzing in tests/fuzz.py, the same in every run."""

import warnings

import pytest

from tests import fuzz

EXECUTIONS = {"pickle": 1500, "archive": 200, "arrays_folder": 60, "checkpoint": 150, "yaml": 20, "json": 20}


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_changed_files_are_read_or_refused_in_one_line(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    targets = fuzz.Targets(tmp_path)
    with warnings.catch_warnings(action="ignore"):
        outcomes = [fuzz.one(targets, kind, seed) for seed in range(EXECUTIONS[kind])]
    assert [what for _, what in outcomes if what is not None] == []
    assert {outcome for outcome, _ in outcomes} == {"read", "refused"}
