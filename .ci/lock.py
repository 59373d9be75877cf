"""Write constraints.txt: the version of every package that any extra of this project brings along.

`make lock` keeps the versions that are written there, drops what is no longer needed and adds what is missing; to move
a package, take its line out first. `make lock ARGS=--upgrade` moves all but torch.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "constraints.txt"
HEADER = """\
# The versions that the project is tested with, of every package that it needs and all that these need. Written by
# `make lock` on Linux (x86-64) with Python 3.11; elsewhere a package may need others besides, which are then free.
# torch is pinned without a local tag, so that it matches the build that your package index offers (CPU or CUDA); the
# packages that only a CUDA build needs follow from it.
"""


def normal(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements: list[str]) -> list[str]:
    """The names of requirements."""
    return [normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements]


def resolve(extras: list[str], constraints: Path) -> dict[str, str]:
    """What pip would install for these extras."""
    asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    asked += ["--constraint", str(constraints), "--editable", f"{ROOT}[{','.join(extras)}]"]
    report = json.loads(subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout)
    found = {normal(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}
    return {name: version.partition("+")[0] for name, version in found.items()}


def main(arguments: list[str]) -> None:
    """Resolve, and write."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    before = TARGET.read_text() if "--upgrade" not in arguments else ""
    torch = re.search(r"^torch==.*$", TARGET.read_text(), re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(f"{before}\n{torch[0] if torch else ''}\n")
        file.flush()
        versions = resolve(list(extras), Path(file.name))
    versions.pop(normal(project["name"]))
    groups = {"core": named(project["dependencies"]), **{name: named(each) for name, each in extras.items()}}
    groups["build backend"] = named(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", TARGET.read_text(), re.MULTILINE))
    lines, written = [HEADER], set()
    for group, names in groups.items():
        chosen = [name for name in names if name not in written]
        lines += [f"# {group}"] * bool(chosen) + [*(f"{name}=={versions.get(name) or pinned[name]}" for name in chosen)]
        written.update(chosen)
    rest = sorted(name for name in versions.keys() - written if not name.startswith(("nvidia-", "cuda-")))
    lines += ["", "# what these need", *(f"{name}=={versions[name]}" for name in rest)]
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{TARGET.name}: {len(written)} packages that pyproject.toml names, {len(rest)} that these need")


if __name__ == "__main__":
    main(sys.argv[1:])
