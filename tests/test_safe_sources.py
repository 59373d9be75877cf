"""No line of the project opens a file in a way that could run what is in it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("gdkit", "examples", "benchmarks", "docs")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "_build" not in path.parts)
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "joblib.load", "marshal.load"),
    *("marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle", "os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
}


def unsafe(source):
    """Lines of a program that open files or shells unsafely, each with what is wrong."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: keyword.value for keyword in node.keywords}

        def is_constant(option, value, options=options):
            return isinstance(options.get(option), ast.Constant) and options[option].value is value

        if name in UNSAFE_NAMES or name in UNSAFE_CALLS:
            yield node.lineno, name
        elif name == "torch.load" and not is_constant("weights_only", True):
            yield node.lineno, "torch.load without weights_only=True"
        elif "allow_pickle" in options and not is_constant("allow_pickle", False):
            yield node.lineno, "allow_pickle"
        elif "shell" in options and not is_constant("shell", False):
            yield node.lineno, "shell"
        elif "trust_remote_code" in options and not is_constant("trust_remote_code", False):
            yield node.lineno, "trust_remote_code"


def test_no_source_opens_files_unsafely():
    assert len(SOURCES) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in SOURCES
        for line, what in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_unsafe_lines_are_found(line):
    assert [number for number, _ in unsafe(line)] == [1]
    assert list(unsafe("torch.load(p, weights_only=True); np.load(p, allow_pickle=False); yaml.safe_load(t)")) == []
