"""A user's programs run, and a strict type checker finds the types that they claim, in gdkit as it is installed."""

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PROGRAMS = ("typed_user.py", "typed_pictures.py")


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(program, monkeypatch):
    if program == "typed_pictures.py":
        for package in ("matplotlib", "sklearn"):
            pytest.importorskip(package, reason="the plot extra is not installed")
    monkeypatch.syspath_prepend(TESTS)
    runpy.run_path(str(TESTS / program))


@pytest.mark.slow  # `make lint` does the same; this looks from outside of the project, as a user's checker does
@pytest.mark.skipif(find_spec("pyright") is None, reason="the dev extra is not installed")
def test_strict_types_from_outside(tmp_path):
    for program in PROGRAMS:
        (tmp_path / program).write_bytes((TESTS / program).read_bytes())
    config = f'{{"typeCheckingMode": "strict", "extraPaths": ["{TESTS.parent}"]}}'
    (tmp_path / "pyrightconfig.json").write_text(config)
    wrong = "from gdkit import GDOutput, GDUnit\n\ndef f(unit: GDUnit) -> str:\n    return unit()\n"
    (tmp_path / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    errors = [line for line in done.stdout.splitlines() if " error: " in line or " warning: " in line]
    assert len(errors) == 2, done.stdout  # both of the program that is wrong: the unused import, and what it returns
    assert all("wrong.py" in line for line in errors)
    assert 'Type "GDOutput" is not assignable to return type "str"' in done.stdout
