"""Every package that the project asks for is pinned, with all that it brings along, and has a reason in the docs."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = {
    "core": PROJECT["project"]["dependencies"],
    **PROJECT["project"]["optional-dependencies"],
    "build": PROJECT["build-system"]["requires"],
}
DIRECT = {canonicalize_name(Requirement(text).name) for texts in GROUPS.values() for text in texts}
LINES = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
PINS = [line.split("==") for line in LINES if line]


def closure(requirements):
    """Names of all that these requirements bring, as far as it is installed."""
    found, left = set(), [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        wanted = {(name, option) for option in ("", *requirement.extras)} - found
        try:
            inner = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found |= wanted
        left += [(Requirement(text), option) for _, option in wanted for text in inner]
    return {name for name, _ in found}


def test_constraints_pin_each_package_once():
    names = [canonicalize_name(name) for name, _ in PINS]
    assert len(set(names)) == len(names)
    assert set(names) >= DIRECT
    assert all(re.fullmatch(r"[\w.!]+", version) for _, version in PINS)  # no local tags


@pytest.mark.parametrize("group", GROUPS)
def test_constraints_pin_all_that_a_group_brings(group):
    brought = closure(GROUPS[group])
    assert {name for name in brought if not name.startswith(("nvidia-", "cuda-"))} <= {
        canonicalize_name(name) for name, _ in PINS
    }
    assert group != "train" or len(brought) > 20


def test_every_dependency_has_a_reason():
    rows = re.findall(r"^\| ([\w.-]+) \| (.+) \|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    reasons = {name: reason for name, reason in rows if name not in ("package", "---")}
    assert reasons.keys() == DIRECT
    assert all(len(reason) > 5 for reason in reasons.values())
