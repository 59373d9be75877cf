"""What lies in the folder of a run and beside it: baselines, nothing that can be listed, fewer files, packages."""

import json
import shutil
from pathlib import Path

import pytest
from dmd import environment
from dmd.page import check_report, write_report

from tests.example.page_runs import Page


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_baselines_beside_a_run(reported, tmp_path):
    run = shutil.copytree(reported["regression"], tmp_path / "mine")
    for name, sha256 in (("early", None), ("other data", "0" * 64)):
        folder = tmp_path / name
        folder.mkdir()
        found = results(run)
        found["config"]["network"] = "early_fusion"
        found["test"]["mae"] = 0.12345
        found["data"]["sha256"] = sha256 or found["data"]["sha256"]
        (folder / "results.json").write_text(json.dumps(found))
    page = Page(write_report(run))
    assert "test, early_fusion (early)" in page.sections["results"]
    assert "0.1235" in page.sections["results"] or "0.1234" in page.sections["results"]
    assert "other data" not in page.sections["results"]


def test_a_folder_beside_which_nothing_can_be_listed(reported, tmp_path, monkeypatch):
    run = shutil.copytree(reported["regression"], tmp_path / "run")
    listed = Path.iterdir

    def refuse(folder):
        if folder == tmp_path.resolve():
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "test, always" in Page(write_report(run)).sections["results"]


def test_a_folder_that_holds_no_more_than_a_shared_model(reported, tmp_path):
    run = tmp_path / "shared"
    run.mkdir()
    shutil.copy(reported["regression"] / "config.json", run)
    found = results(reported["regression"])
    kept = {key: found[key] for key in ("test", "valid", "seed", "best_epoch", "data")}
    (run / "results.json").write_text(json.dumps(kept))
    page = Page(write_report(run))
    assert list(page.sections) == ["results", "run"]
    assert f"epoch kept {found['best_epoch']}" in page.sections["results"]
    assert "of 0" not in page.sections["results"]


@pytest.mark.parametrize("package", ["plotly", "jinja2", "sklearn"])
def test_a_package_of_the_page_is_missed_before_anything_is_computed(reported, monkeypatch, package):
    whole = environment.find_spec
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == package else whole(name))
    with pytest.raises(ValueError, match=f"need {package}: install the 'train' and 'plot' extras"):
        environment.check_machine("cpu")
    with pytest.raises(ValueError, match=f"need {package}"):
        check_report(reported["regression"])
