"""Every Python block of README.md and of some pages runs, each page from top to bottom in one namespace."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BUILT = ("index", "quickstart", "missing", "guides/precision", "serving", "sharing", "torch-geometric")
PAGES = ("README.md", *(f"docs/{page}.md" for page in BUILT))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    if page == "docs/serving.md":
        for package in ("onnxruntime", "onnxscript"):
            pytest.importorskip(package, reason="the export extra is not installed")
    text = (ROOT / page).read_text()
    blocks = list(BLOCK.finditer(text))
    assert blocks
    monkeypatch.chdir(tmp_path)  # the blocks may write pictures
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # graphs, without a C++ compiler
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        # Blank lines in front give errors the page's own line numbers.
        lines_above = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines_above + block[1], str(ROOT / page), "exec"), namespace)


def test_snippet_is_twelve_lines():
    first = BLOCK.search((ROOT / "README.md").read_text())
    assert first is not None
    assert len(first[1].splitlines()) <= 12


def test_two_commands_stand_in_the_readme():
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("make train", "make test", "pip install -c constraints.txt -e '.[train,plot,test]'"):
        assert command in text
        assert command.removeprefix("make ") in makefile


def test_results_in_the_readme_are_those_of_the_results_page():
    shown = (ROOT / "README.md").read_text().split("\n## Results\n")[1].split("\n## ")[0]
    figures = re.findall(r"\d\.\d+ ± \d\.\d+", shown)
    assert len(figures) > 20
    kept = (ROOT / "docs/results.md").read_text()
    assert not [figure for figure in figures if figure not in kept]
