"""What no pickle may do, however harmless its names: declare more than it holds, and make more than it declares."""

from __future__ import annotations

from collections.abc import Iterator
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

DEEPEST = 32  # containers inside each other; feature files have about 4
_CONTAINERS = (list, tuple, dict, set, frozenset)


class BoundedFile:
    """A file that refuses to be asked for more bytes than are left in it, instead of making room for them."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self.left = file, left

    def read(self, size: int) -> bytes:
        if size > self.left:
            if self.left == 0:
                raise EOFError
            raise UnpicklingError(f"the file is cut short: {size} bytes are declared where {self.left} are left")
        data = self._file.read(size)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self._file.readline(self.left)
        self.left -= len(line)
        return line


def key_of(value: Any) -> Any:
    """A key of a dict or member of a set: text or a small whole number.

    Numbers can be chosen so that all share a place in the table, which then takes for ever to fill; text cannot.
    """
    if isinstance(value, str | bytes) or value is None or (isinstance(value, int) and -1 <= value < 2**16):
        return value
    raise UnpicklingError(f"a key must be text or a whole number below {2**16}, got a {type(value).__name__}")


def number(value: int) -> int:
    """A whole number of a moderate length: printing long ones takes for ever."""
    if value.bit_length() <= 128:
        return value
    raise UnpicklingError("a whole number of more than 128 bits is refused")


def with_real_letters(array: np.ndarray) -> np.ndarray:
    """The array; one of text whose numbers are no letters is refused: numpy fails in odd ways where it is read."""
    if array.dtype.kind == "U" and array.nbytes:
        codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > 0x10FFFF:
            raise ValueError("an array of text holds numbers that are no letters")
    return array


def check_unfolded(value: Any, most: int) -> None:
    """Refuse a value that holds itself, is nested deeply, or uses its parts so often that a copy would be huge.

    Args:
        value: of builtin containers, arrays and plain values.
        most: bytes, about, that a copy without shared parts may take.

    Raises:
        UnpicklingError: it is so.
    """
    done: dict[int, tuple[int, int]] = {}  # id -> bytes, height

    def visit(part: Any, depth: int) -> tuple[int, int]:
        if not _is_container(part):
            return (len(part) if isinstance(part, str | bytes) else getattr(part, "nbytes", 1)) + 1, 0
        if id(part) in done:
            return done[id(part)]
        size, height = 1, 0
        for child in _children(part):
            child_size, child_height = visit(child, depth + 1) if depth < DEEPEST else (1, DEEPEST)
            size, height = size + child_size, max(height, child_height)
            if height >= DEEPEST:
                raise UnpicklingError(f"the values are nested deeper than {DEEPEST}, or one holds itself")
            if size > most:
                raise UnpicklingError("the values use shared parts so often that they are far larger than the file")
        done[id(part)] = size, height + 1
        return done[id(part)]

    visit(value, 0)


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS) or (isinstance(value, np.ndarray) and value.dtype.hasobject)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    else:
        yield from value.flat if isinstance(value, np.ndarray) else value
