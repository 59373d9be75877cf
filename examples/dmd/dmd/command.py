"""How every command ends: wrong input is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jsonargparse


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors about what the user gave into one line; warnings too become a line each.

    Only checks belong inside: an error in the work itself keeps its traceback.
    """

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        except (ValueError, TypeError, OSError, jsonargparse.ArgumentError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise SystemExit(2) from None


def with_underscores(arguments: list[str]) -> list[str]:
    """Options may be spelled with hyphens: ``--batch-size 8`` is ``--batch_size 8``."""
    spelled: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_option = option.startswith("--") and len(option) > 2
        spelled.append((f"--{option[2:].replace('-', '_')}" if is_option else option) + equals + value)
    return spelled


def option_value(arguments: list[str], option: str) -> str | None:
    """The value of an option that must be known before the others are parsed."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
    return None
