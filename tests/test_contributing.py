"""CONTRIBUTING.md does what it says: its Python runs, and its changes apply and pass the tests that it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PARTS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
TRIED = {
    "Add a distance": ["tests/test_functional.py", "-k", "largest"],
    "Add a scorer": ["tests/test_gd_unit.py", "-k", "test_unit_keeps_its_contract and product"],
    "Add a data set": ["tests/example/test_data_digits.py"],
}


def blocks(part, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PARTS[part], re.MULTILINE | re.DOTALL)


def apply(part, folder, *options):
    """The changes of a part, by git, which finds their place by what stands around them."""
    (change,) = blocks(part, "diff")
    command = ["git", "apply", *options, "-"]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(
        command, input=change, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_part_has_its_changes():
    assert [part for part in PARTS if blocks(part, "diff")] == list(TRIED)


@pytest.mark.parametrize("part", [part for part in PARTS if blocks(part, "python")])
def test_python_blocks_run(part):
    for block in blocks(part, "python"):
        exec(compile(block, f"CONTRIBUTING.md: {part}", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("part", TRIED)
def test_changes_apply(part):
    applied = apply(part, ROOT, "--check")
    assert applied.returncode == 0, applied.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", TRIED)
def test_changes_pass_the_tests_that_the_page_names(part, tmp_path):
    copy = tmp_path / "copy"
    kept = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "shared", "results", "_build")
    shutil.copytree(ROOT, copy, ignore=kept)
    applied = apply(part, copy)
    assert applied.returncode == 0, applied.stderr
    paths = os.pathsep.join(map(str, (copy, copy / "examples" / "dmd")))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TRIED[part]],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert re.search(r"\d+ passed", ran.stdout)


def test_the_ways_to_deprecate_warn_the_caller():
    """As RELEASING.md shows them."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "RELEASING.md").read_text(), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    exec(compile(block, "RELEASING.md", "exec"), names)
    for call in (lambda: names["old_name"](6), lambda: names["scale"](2, gain=3)):
        with pytest.warns(DeprecationWarning, match=r"deprecated since gdkit 0\.2 and goes in 0\.4: use") as caught:
            assert call() == 6
        assert [warning.filename for warning in caught] == [__file__]
    assert names["scale"](2, factor=3) == 6
