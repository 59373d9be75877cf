"""How every command ends: wrong input is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jsonargparse

from .wording import reworded


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors about what the user gave into one line; warnings too become a line each.

    Only checks belong inside: an error in the work itself keeps its traceback.
    """
    with one_line_warnings():
        try:
            yield
        except (ValueError, TypeError, OSError, RecursionError, MemoryError, jsonargparse.ArgumentError) as error:
            print(f"error: {printable(reworded(str(error)) or type(error).__name__)}", file=sys.stderr)
            raise SystemExit(2) from None


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show each warning as one line."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def printable(text: str, most: int = 2000) -> str:
    """One line that a terminal only shows: names in a file from elsewhere may hold codes that it would obey."""
    line = " ".join(text[: 4 * most].split())
    line = line if len(line) <= most else f"{line[:most]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def with_underscores(arguments: list[str]) -> list[str]:
    """Options may be spelled with hyphens: ``--batch-size 8`` is ``--batch_size 8``."""
    spelled: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_option = option.startswith("--") and len(option) > 2
        spelled.append((f"--{option[2:].replace('-', '_')}" if is_option else option) + equals + value)
    return spelled


def writable_folder(path: Path) -> Path:
    """Make a folder, and check that it can be written.

    Raises:
        OSError: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"out: {path} cannot be made a folder: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise PermissionError(f"out: the folder {path} cannot be written")
    return path


def writable_file(path: Path) -> Path:
    """A file that can be written; its folder is made.

    Raises:
        OSError: it is a folder, or lies in one that cannot be written.
    """
    writable_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"out must be a file, but {path} is a folder")
    return path


def option_value(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option that must be known before the others are parsed."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
    return None
