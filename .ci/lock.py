"""Write constraints.txt anew: every package that an extra of pyproject.toml brings, directly or not, with its version.

`make lock` keeps the versions that are pinned already and pins what is new; `make lock ARGS=--upgrade` takes the
newest. pip resolves, and installs nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = """\
# The versions that the project is tested with: every package that pyproject.toml names, by its extra, and at the end
# all that those bring along. Written by `make lock`; constraints install nothing, they only choose versions.
# torch is pinned without a local tag, so that it matches the build that your package index offers (CPU or CUDA). What
# only a CUDA build of it needs (nvidia-*, cuda-*) is left out: torch asks for the versions that it was built with.
"""
COMMENTS = {"triton": "  # the one that the CUDA build of this torch asks for"}


def canonical(name: str) -> str:
    """A package's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct(project: dict) -> dict[str, list[str]]:
    """Group -> names of the packages that pyproject.toml names there, each where it comes first."""
    groups = {"core": project["project"]["dependencies"], **project["project"]["optional-dependencies"]}
    groups["build backend"] = project["build-system"]["requires"]
    named: dict[str, list[str]] = {}
    seen: set[str] = set()
    for group, requirements in groups.items():
        names = [canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements]
        named[group] = [name for name in names if name not in seen]
        seen.update(names)
    return named


def resolved(project: dict, upgrade: bool) -> dict[str, str]:
    """Name -> version of all that the extras bring, as pip resolves them."""
    extras = ",".join(project["project"]["optional-dependencies"])
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command += [] if upgrade else ["--constraint", str(ROOT / "constraints.txt")]
    command += [f"{ROOT}[{extras}]", *project["build-system"]["requires"]]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in report["install"]}
    found.pop(canonical(project["project"]["name"]))
    return {name: version.partition("+")[0] for name, version in found.items()}


def main() -> None:
    """Resolve and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of the pinned ones")
    upgrade = parser.parse_args().upgrade
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = resolved(project, upgrade)
    lines = [HEADER.rstrip()]
    for group, names in direct(project).items():
        lines.append(f"# {group}")
        lines += [f"{name}=={versions.pop(name)}{COMMENTS.get(name, '')}" for name in names if name in versions]
    lines.append("# brought along by those above")
    lines += [f"{name}=={versions[name]}" for name in sorted(versions) if not name.startswith(("nvidia-", "cuda-"))]
    (ROOT / "constraints.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
