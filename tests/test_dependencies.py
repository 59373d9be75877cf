"""Every dependency has a reason in the docs, and a version in constraints.txt, as have all that it needs in turn."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"core": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
PINNED = {
    canonicalize_name(name): number
    for name, number in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def closure(requirements):
    """Names of everything that is installed for these requirements; what only a CUDA build needs is left out."""
    found, waiting = set(), [(Requirement(text), "") for text in requirements]
    done = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name.startswith(("nvidia-", "cuda-")):
            continue
        found.add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in done:
                done.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in requires(name) or ()]
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_all_that_an_extra_needs_is_pinned(extra):
    try:
        needed = closure(EXTRAS[extra])
    except PackageNotFoundError as missing:
        pytest.skip(f"the extra {extra} is not installed: {missing}")
    assert needed >= {canonicalize_name(Requirement(text).name) for text in EXTRAS[extra]}
    assert needed - PINNED.keys() == set()
    installed = {name: version(name).partition("+")[0] for name in needed}
    assert installed == {name: PINNED[name] for name in needed}


def test_every_dependency_has_a_reason():
    rows = re.findall(
        r"^\| (\w+) \| ([\w.-]+) \| (.+) \|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE
    )
    assert rows.pop(0)[:2] == ("extra", "package")
    asked = [(extra, Requirement(text).name) for extra, texts in EXTRAS.items() for text in texts]
    assert sorted((extra, package) for extra, package, _ in rows) == sorted(asked)
