"""Try the wheel as its users would: in environments of their own, with the library's tests out of the sdist.

`make test-wheel` does so for every Python that is found, `make test-lowest` with the lowest versions that are allowed.
PyTorch is installed where the package index has it without CUDA; elsewhere (`--any-torch` takes it as it is) what can
be said without PyTorch is checked: that the wheel installs, compiles, and carries types, licence and metadata.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"  # where `make wheel` has put one of each
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
WITHOUT_TORCH = """
import compileall, importlib.metadata, importlib.util, pathlib, sys
place = pathlib.Path(importlib.util.find_spec("gdkit").origin).parent
assert place.is_relative_to(sys.prefix), place
assert (place / "py.typed").is_file()
assert compileall.compile_dir(place, quiet=1, force=True)
found = importlib.metadata.distribution("gdkit")
assert found.metadata["License-Expression"] == "MIT"
assert any(file.match("licenses/LICENSE") for file in found.files)
"""
WITH_TORCH = """
import torch, gdkit
graph = gdkit.DistillationGraph.complete(["a", "b", "c"])
unit = gdkit.GDUnit(graph, feature_dim=4, logit_dim=2, distance="kl")
out = unit(torch.randn(8, 3, 2, requires_grad=True), torch.randn(8, 3, 4))
out.loss.backward()
print(f"gdkit {gdkit.__version__}, torch {torch.__version__}, loss {out.loss.item():.4f}")
"""


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> None:
    """Run, away from the repository; end this program where that fails."""
    ended = subprocess.run(command, cwd=cwd, env=os.environ | (environment or {}), check=False)
    if ended.returncode:
        sys.exit(f"exit status {ended.returncode}: {' '.join(map(str, command))[:200]}")


def interpreters() -> list[str]:
    """One command for each supported version of Python on the path or in pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for version in VERSIONS:
        places = [shutil.which(f"python{version}"), *sorted(root.glob(f"{version}.*/bin/python"), reverse=True)]
        # A shim of pyenv stands for a version that may not be chosen, and then only says so.
        works = (each for each in places if each and starts(each))
        if (python := next(works, None)) is not None:
            found.append(str(python))
    return found


def starts(python: str | Path) -> bool:
    """Whether an interpreter runs at all."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def has_plain_torch(pip: list[str], constraints: Path, cwd: Path) -> bool:
    """Whether pip would install a PyTorch that asks for no CUDA packages, as all but those for Linux do not."""
    if sys.platform != "linux":
        return True
    asked = [*pip, "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", "-c", str(constraints), "torch"]
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=cwd, check=False)
    if ended.returncode:
        print(f"  {ended.stderr.strip().splitlines()[-1]}")
        return False
    (found,) = json.loads(ended.stdout)["install"]
    return not any(each.startswith(("nvidia-", "cuda-")) for each in found["metadata"].get("requires_dist", []))


def try_wheel(python: str, constraints: Path, arguments: argparse.Namespace, folder: Path) -> str:
    """One environment; returns what was done in it."""
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(python, "-m", "venv", folder / "venv", cwd=folder)
    inside = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(inside), "-m", "pip", "--disable-pip-version-check"]
    if not arguments.any_torch and not has_plain_torch(pip, constraints, folder):
        run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=folder)
        run(inside, "-c", WITHOUT_TORCH, cwd=folder)
        return "installs and compiles; NOT RUN: the package index has no PyTorch without CUDA for it"
    extras = f"[{','.join(arguments.extras)}]" if arguments.extras else ""
    run(*pip, "install", "--quiet", "-c", constraints, f"{wheel}{extras}", cwd=folder)
    run(inside, "-c", WITHOUT_TORCH + WITH_TORCH, cwd=folder)
    run(*pip, "check", cwd=folder)
    if not arguments.tests:
        return "installs and computes"
    run(*pip, "install", "--quiet", "-c", constraints, "pytest", "pytest-xdist", "hypothesis[numpy]", cwd=folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("gdkit-*")
    shutil.rmtree(source / "gdkit")  # so that the wheel is what is tested
    pytest = [inside, "-m", "pytest", "--quiet", "--numprocesses", "auto", "--maxprocesses", "4"]
    run(*pytest, *arguments.tests, cwd=source, environment={"OMP_NUM_THREADS": "1"})
    return "installs and computes; its tests pass"


def main() -> None:
    """Try every interpreter that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", nargs="+", help="interpreters; by default one of each version that is found")
    parser.add_argument(
        *("--constraints", "-c"), nargs="+", type=Path, default=[ROOT / "constraints.txt"], help="the later file wins"
    )
    parser.add_argument("--extras", nargs="*", default=[], help="to install with the wheel")
    parser.add_argument("--tests", nargs="*", default=["tests/test_gd_unit.py"], help="of the sdist; may be none")
    parser.add_argument("--any-torch", action="store_true", help="install PyTorch with CUDA where there is no other")
    arguments = parser.parse_args()
    said, required = {}, [path.resolve() for path in arguments.constraints]
    for python in arguments.python or interpreters():
        if (found := shutil.which(python)) is None:
            sys.exit(f"--python: there is no {python}")
        python = str(Path(found).absolute())  # it is run in other folders
        print(f"== {python}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            merged = folder / "constraints.txt"
            merged.write_text(merge([path.read_text() for path in required]))
            said[python] = try_wheel(python, merged, arguments, folder)
    if not said:
        sys.exit(f"no Python of {', '.join(VERSIONS)} is found; name one with --python")
    print(*(f"{python}: {what}" for python, what in said.items()), sep="\n")


def merge(texts: list[str]) -> str:
    """Constraints of several files, of which a later one wins."""
    lines = {}
    for line in "\n".join(texts).splitlines():
        if "==" in line and not line.startswith("#"):
            lines[line.partition("==")[0].strip()] = line
    return "\n".join(lines.values()) + "\n"


if __name__ == "__main__":
    main()
