"""What the files for maintainers name is there: make targets, paths, extras, versions; archives hold what they must."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
GITHUB = sorted(path for path in (ROOT / ".github").rglob("*") if path.suffix == ".yml")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "README.md")]
TEXTS = [*GITHUB, *PAGES, ROOT / ".github/pull_request_template.md", ROOT / "docs/tracking.md", ROOT / ".ci/run"]


def pinned(name):
    lines = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in lines}


def steps():
    """(workflow, job, step) of every workflow."""
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            assert job["timeout-minutes"] <= 60, f"{path.name}: {name}"
            for step in job["steps"]:
                yield path.name, name, step


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(path):
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", path.read_text()))
    prose = {"sure", "it", "another", "them"}  # English
    assert named - prose <= TARGETS


def test_the_workflows_call_what_a_maintainer_calls():
    called = " ".join(step.get("run", "") for _, _, step in steps())
    for target in ("lint", "test", "docs", "test-wheel", "test-lowest"):
        assert re.search(rf"\bmake {target}\b(?!-)", called), target


def test_workflows_have_least_permissions_and_fixed_actions():
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}, path.name
    for workflow, _, step in steps():
        if "uses" in step:
            # The publisher of the package index asks to be named by its branch.
            assert re.search(r"@([0-9a-f]{40}|release/v\d+)$", step["uses"]), f"{workflow}: {step['uses']}"
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_workflows_test_every_python_that_is_claimed():
    content = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    tested = content["jobs"]["tests"]["strategy"]["matrix"]["python"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert claimed
    assert set(claimed) <= set(tested)
    assert min(tested) == PROJECT["project"]["requires-python"].removeprefix(">=")


PATH = re.compile(r"(?<![\w/.*-])((?:docs|tests|examples|benchmarks|gdkit|\.ci|\.github)/[\w./-]*[\w/])")


@pytest.mark.parametrize("path", [*GITHUB, *PAGES[:-1], ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_every_path_that_is_named_exists(path):
    text = re.sub(r"^```diff\n.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not {name for name in PATH.findall(text) if not (ROOT / name).exists() and "_build" not in name}


def test_links_of_pages_lead_somewhere():
    for page in PAGES:
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        assert all("://" in link or (ROOT / link).exists() for link in links), page.name


def test_every_extra_that_is_named_exists():
    extras = PROJECT["project"]["optional-dependencies"].keys()
    for path in [*TEXTS, ROOT / "Makefile"]:
        for named in re.findall(r"'(?:\.|gdkit)\[([\w,]+)\]'", path.read_text()):
            assert set(named.split(",")) <= extras, path.name
    assert set(re.findall(r"\.installed-(\w+)", MAKEFILE)) <= extras


def test_issue_forms_ask_under_names_of_their_own():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        if path.stem == "config":
            continue
        form = yaml.safe_load(path.read_text())
        ids = [field["id"] for field in form["body"] if "id" in field]
        assert len(ids) == len(set(ids)) > 0
        assert form["name"]
        assert form["description"]


def test_pre_commit_runs_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = (each for each in hooks if each["repo"].endswith("/ruff-pre-commit"))
    assert ruff["rev"] == f"v{pinned('constraints.txt')['ruff']}"
    for hook in (hook for each in hooks for hook in each["hooks"]):
        re.compile(hook.get("exclude", ""))


def test_dependabot_looks_after_packages_and_actions():
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"pip", "github-actions"}


def test_lowest_versions_are_those_that_are_allowed():
    lowest = pinned("constraints.txt") | pinned(".ci/lowest.txt")
    for text in PROJECT["project"]["dependencies"]:
        requirement = Requirement(text)
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        tested = lowest[canonicalize_name(requirement.name)]
        assert tested in requirement.specifier, requirement.name
        assert tested.split(".")[: len(bound.version.split("."))] == bound.version.split("."), requirement.name


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Names in the wheel and in the sdist, without the folder on top."""
    folder = tmp_path_factory.mktemp("dist")
    pytest.importorskip("hatchling", reason="hatchling, which builds the archives, is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        source = {name.partition("/")[2] for name in file.getnames()}
    return set(zipfile.ZipFile(wheel).namelist()), source


def test_the_wheel_holds_the_library_and_nothing_else(archives):
    wheel, _ = archives
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gdkit").rglob("*.py")} | {"gdkit/py.typed"}
    assert {name for name in wheel if ".dist-info/" not in name} == code


def test_every_file_that_the_sdist_is_to_hold_is_there():
    wanted = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert not [pattern for pattern in wanted if not list(ROOT.glob(pattern.removeprefix("/")))]


def test_the_sdist_holds_what_builds_and_tests_the_library(archives):
    _, sdist = archives
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", "tests/conftest.py"} <= sdist
    tests = {name for name in sdist if name.startswith("tests/test_")}
    modules = {path.stem for path in (ROOT / "gdkit").glob("*.py")}
    assert {f"tests/test_{name}.py" for name in modules if (ROOT / f"tests/test_{name}.py").exists()} <= tests
    assert {f"tests/errors/{path.name}" for path in (ROOT / "tests/errors").glob("*.py")} <= sdist
    for name in (name for name in sdist if re.match(r"(tests|benchmarks)/.*\.py$", name)):
        imported = re.findall(
            r"^\s*from ((?:tests|benchmarks)[\w.]*) import (\w+)", (ROOT / name).read_text(), re.MULTILINE
        )
        for module, member in imported:
            places = (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/{member}.py")
            assert any(place in sdist for place in places), f"{name} needs {module}.{member}"
        assert not re.search(r"^\s*(from|import) dmd\b", (ROOT / name).read_text(), re.MULTILINE), name
