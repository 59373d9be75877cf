"""Every error that the library raises by itself, provoked as a user would meet it, with its whole text.

The tables are in tests/errors. The last test finds every `raise ValueError` and `raise TypeError` in gdkit, and wants a
line of a table for each.
"""

import ast
import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import gdkit

ROOT = Path(gdkit.__file__).parent
HAS_PICTURES = find_spec("matplotlib") is not None and find_spec("sklearn") is not None
PARTS = ("functional", "gd_unit", "graph", "modules", "attention", *(["pictures"] if HAS_PICTURES else []))
TABLE = [
    pytest.param(call, message, id=f"{part}: {message[:70]}")
    for part in PARTS
    for call, message in importlib.import_module(f"tests.errors.{part}").CASES
]


def provoke(call):
    """The text of the error, and where it was raised."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    last = caught.traceback[-1]
    return re.sub(r"<function .*>", "<function>", str(caught.value)), (Path(last.path), last.lineno + 1)


@pytest.mark.parametrize(("call", "message"), TABLE)
def test_message(call, message):
    assert provoke(call)[0] == message


def test_messages_say_whose_argument_it_is():
    owners = r"(DistillationGraph|GDUnit|[A-Z]\w+(Encoder|Transformer|Loss)|[a-z_]+)"
    for case in TABLE:
        assert re.match(rf"{owners}(\.\w+)?(: | has nodes \()\S", case.values[1]), case.values[1]


def sites():
    """File, first and last line of every statement that raises one of the two errors."""
    for path in sorted(ROOT.rglob("*.py")):
        if HAS_PICTURES or path.name not in ("plot.py", "_plotting.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and re.match(r"raise (Value|Type)Error\(", ast.unparse(node)):
                    yield path, node.lineno, node.end_lineno


def test_every_error_of_the_library_is_in_a_table():
    raised = [provoke(case.values[0])[1] for case in TABLE]
    found = list(sites())
    assert len(found) > 50
    missing = [
        f"{path.relative_to(ROOT)}:{first}"
        for path, first, last in found
        if not any(path == where and first <= line <= last for where, line in raised)
    ]
    assert not missing, f"add a case to tests/errors for {', '.join(missing)}"
