"""The notebooks in docs/tutorials: fit to be read and opened; and, marked slow, run from start to end."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the test extra is not installed")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# What the extras train and plot bring, the project's own packages, and the standard library.
INSTALLED = {"torch", "numpy", "matplotlib", "gdkit", "dmd", "six_views"} | sys.stdlib_module_names
INDEX = (FOLDER / "index.md").read_text(encoding="utf-8")


def code_cells(name):
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_all_five_are_there():
    wanted = {"six_views", "own_data", "own_graph", "big_teachers_small_students", "reading_edges"}
    assert wanted <= {name.removesuffix(".ipynb") for name in NOTEBOOKS}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_a_notebook_without_outputs(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source)
    assert "Install: `pip install" in first.source
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell.source.strip()
        assert cell.cell_type == "code" or not re.search(r"^# ", cell.source, re.MULTILINE) or cell is first
    assert json.loads((FOLDER / name).read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_code_parses_imports_what_is_installed_and_checks_its_claims(name):
    trees = [ast.parse(source) for source in code_cells(name)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in imported} <= INSTALLED
    assert any(isinstance(node, ast.Assert) for node in nodes)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_code_fits_the_page(name):
    lines = [line for source in code_cells(name) for line in source.splitlines()]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_index_lists_it(name):
    assert f"]({name}): " in INDEX
    assert re.search(rf"^{name.removesuffix('.ipynb')}$", INDEX, re.MULTILINE)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_links_lead_somewhere(name):
    cells = [cell for cell in nbformat.read(FOLDER / name, as_version=4).cells if cell.cell_type == "markdown"]
    links = [link for cell in cells for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", cell.source)]
    assert not [link for link in links if "://" not in link and not (FOLDER / link).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["docs/tutorials", "."])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name, start, monkeypatch):
    if start == "." and "root = next" not in "".join(code_cells(name)):
        pytest.skip("it reads nothing of the project's folder")
    nbclient = pytest.importorskip("nbclient", reason="the test extra is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # Jupyter brings ipywidgets, the tests need none
    notebook = nbformat.read(FOLDER / name, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT / start)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    complaints = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not complaints


SECTION = re.search(
    r"^## From three arrays to a trained model$(.*?)^## ",
    (ROOT / "docs" / "data.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)[1]
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)).splitlines()
ARRAYS = re.search(r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)[1]


def run(command, folder):
    """A command of the page, in a folder that stands for the project's."""
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in command.split()]
    if words[0] == "python":
        words[0] = sys.executable
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment, check=True)


def test_the_page_converts_three_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(ARRAYS, "docs/data.md", "exec"), {})
    assert len(COMMANDS) == 6
    [command] = [line for line in COMMANDS if "convert.py" in line]
    done = run(command, tmp_path)
    assert done.stdout.strip() in SECTION
    assert done.stderr.strip() in SECTION


@pytest.mark.slow
def test_the_page_trains_on_three_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(ARRAYS, "docs/data.md", "exec"), {})
    for command in COMMANDS:
        run(command, tmp_path)
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[0] == "split,id,prediction,probability of calm,probability of glad,probability of sad"
    assert len(rows) == 121
    assert {row.split(",")[0] for row in rows[1:]} == {"new"}
    shutil.rmtree(tmp_path / "runs")
