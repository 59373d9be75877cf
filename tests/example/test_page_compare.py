"""compare.py: several runs in one page, and one line for what is wrong."""

import json
import re
import shutil

import compare
import numpy as np
import pytest

from tests.example.page_runs import Page, check_figure


@pytest.fixture(scope="module")
def compared(reported, tmp_path_factory):
    """The page that compares a run over two seeds with one of its seeds, whose configuration is made to differ."""
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(reported["seeds"], root / "both")
    shutil.copytree(reported["seeds"] / "seed-2", root / "other")
    path = root / "other" / "config.json"
    content = json.loads(path.read_text())
    content["config"]["learning_rate"] = 0.25
    content["config"]["data"] = "<b>elsewhere</b>.npz"
    path.write_text(json.dumps(content))
    compare.main([str(root / "both"), str(root / "other"), "--out", str(root / "page.html")])
    return root


def mae(folder):
    return json.loads((folder / "results.json").read_text())["test"]["mae"]


def test_means_and_the_best(compared):
    page = Page(compared / "page.html")
    seeds = [mae(compared / "both" / f"seed-{seed}") for seed in (1, 2)]
    text = " ".join(page.sections["results"].split())
    cells = f"{np.mean(seeds):.4f} ± {np.std(seeds, ddof=1):.4f}", f"{seeds[1]:.4f}"
    better = np.argmin([np.mean(seeds), seeds[1]])
    assert f"mae ↓ {cells[0]}{' ★' if better == 0 else ''} {cells[1]}{' ★' if better == 1 else ''} corr" in text
    for chart in page.figures.values():
        check_figure(chart)
    assert len(page.labels()) == 3 + 2 * 2  # curves; two graphs a run


def test_only_differences_are_listed(compared):
    page = Page(compared / "page.html")
    rows = re.findall('<tr><th scope="row">(.+?)</th>', page.source[page.source.index('id="options"') :])
    assert rows[:2] == ["data", "learning_rate"]
    assert "<b>elsewhere</b>" not in page.source
    assert "&lt;b&gt;elsewhere&lt;/b&gt;.npz" in page.source


def test_graphs_are_means_over_the_seeds(compared, reported):
    weights = []
    for seed in (1, 2):
        folder = reported["seeds"] / f"seed-{seed}"
        best = json.loads((folder / "results.json").read_text())["best_epoch"]
        lines = [line.split(",") for line in (folder / "edges.csv").read_text().splitlines()]
        weights.append([float(line[4]) for line in lines if line[0] == str(best) and line[1] == "homogeneous"])
    shown = [
        chart["data"][-3]["text"] for chart in Page(compared / "page.html").figures.values() if len(chart["data"]) > 8
    ]
    assert shown[0] == [f"{weight:.3f}" for weight in np.mean(weights, axis=0)]


def test_different_data_and_an_unfinished_run(reported, tmp_path, capsys):
    unfinished = shutil.copytree(reported["classes"], tmp_path / "half")
    (unfinished / "results.json").unlink()
    out = tmp_path / "new folder" / "page.html"
    compare.main([str(reported["regression"]), str(reported["classes"]), str(unfinished), "--out", str(out)])
    said = capsys.readouterr()
    assert said.err == f"warning: {unfinished} is left out: its run is not finished (no results.json)\n"
    assert said.out == f"2 runs are side by side in {out}\n"
    page = Page(out)
    assert "different data" in page.sections["warnings"]
    assert "different tasks" in page.sections["warnings"]
    assert "—" in page.sections["results"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: runs"),
        (["{runs}/nowhere"], "runs: {runs}/nowhere is not the folder of a run"),
        (["{runs}"], "{runs} is not the folder of a run: it has no config.json"),
        (["{runs}/classes", "{runs}/seeds/../classes"], "is given more than once"),
        (["{runs}/classes", "--out", "{runs}"], "out must be a file, but {runs} is a folder"),
        (["{runs}/classes", "--colour", "red"], "unrecognized arguments: --colour red"),
        (["{half}"], "none of the 1 runs is finished"),
        (["{broken}"], "results.json is damaged"),
    ],
)
def test_wrong_input_is_one_line(reported, tmp_path, capsys, arguments, message):
    folders = {"runs": reported["classes"].parent, "half": tmp_path / "half", "broken": tmp_path / "broken"}
    for name in ("half", "broken"):
        shutil.copytree(reported["classes"], folders[name])
    (folders["half"] / "results.json").unlink()
    (folders["broken"] / "results.json").write_text("{")
    with pytest.raises(SystemExit, match="2"):
        compare.main([text.format(**folders) for text in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert message.format(**folders) in lines[-1]
    assert len(lines) == (2 if arguments == ["{half}"] else 1)
