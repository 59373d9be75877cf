"""Several runs side by side on one page: `python examples/dmd/compare.py runs/* --out compare.html`."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from dmd.command import one_line_errors, writable_file
from dmd.page import Group, read_group, write_comparison


def parse(arguments: list[str]) -> tuple[list[Path], Path]:
    """The folders of the runs, and the file to write.

    Raises:
        ValueError, OSError: what is wrong with the arguments.
    """
    parser = argparse.ArgumentParser(prog="compare.py", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs, or of runs over several seeds")
    parser.add_argument("--out", default="compare.html", help="the page to write (compare.html)")

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = refuse  # pyright: ignore[reportAttributeAccessIssue]  (one line, as every command)
    parsed = parser.parse_args(arguments)
    folders = [Path(run) for run in parsed.runs]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"runs: {folder} is not the folder of a run")
    resolved = [folder.resolve() for folder in folders]
    if twice := [str(folder) for folder in folders if resolved.count(folder.resolve()) > 1]:
        raise ValueError(f"runs: {twice[0]} is given more than once")
    return folders, writable_file(Path(parsed.out))


def read(folders: list[Path]) -> list[Group]:
    """The finished runs in each folder.

    Raises:
        ValueError, OSError: a folder holds no run, a file is damaged, or no run is finished.
    """
    names = [folder.resolve().name for folder in folders]
    titles = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    groups: list[Group] = []
    for folder, title in zip(folders, titles, strict=True):
        group, unfinished = read_group(folder, title)
        for one in unfinished:
            warnings.warn(f"{one} is left out: its run is not finished (no results.json)", stacklevel=2)
        groups += [group] if group.runs else []
    if not groups:
        raise ValueError(f"none of the {len(folders)} runs is finished")
    return groups


def main(arguments: list[str]) -> None:
    """Check, read, write."""
    with one_line_errors():
        folders, out = parse(arguments)
        groups = read(folders)
    path = write_comparison(out, groups)
    print(f"{len(groups)} runs are side by side in {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
