"""Every Python block of README.md and of some pages runs, each page from top to bottom in one namespace."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *(
        f"docs/{page}.md"
        for page in ("index", "quickstart", "missing", "serving", "sharing", "torch-geometric", "guides/precision")
    ),
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


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


@pytest.mark.parametrize("page", ["README.md", "examples/six_views/README.md", "examples/dmd/README.md"])
def test_links_lead_somewhere(page):
    targets = [link for link in LINK.findall((ROOT / page).read_text()) if "://" not in link]
    missing = [link for link in targets if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def test_two_commands_stand_in_the_readme():
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("make train", "make test", "pip install -c constraints.txt -e '.[train,plot,test]'"):
        assert command in text
        assert command.removeprefix("make ") in makefile
