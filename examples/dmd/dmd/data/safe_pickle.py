"""Read a pickle from a stranger: numpy arrays of plain numbers and strings in builtin containers, and nothing else.

A pickle is a program. The machine that runs it here knows the names in `_MAKERS`, and each leads to a function below,
never to numpy itself: `numpy.dtype.__setstate__` believes the flags that a file gives it, so that a crafted file could
have numbers treated as pointers.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from .pickle_limits import key_of, with_real_letters
from .pickle_machine import Machine, Maker, Pending
from .recordings import reason_of
from .safe_npz import HEADERS

_PLAIN = re.compile(r"[<>=|]?([biufcSU])\d{0,9}|[<>=|]?\?")
_OBJECTS = re.compile(r"\|?O8?")


def load_pickle(path: Path) -> Any:
    """Load a pickle of numpy arrays and builtin containers.

    Args:
        path: the file.

    Returns:
        What the file holds; its arrays are read-only.

    Raises:
        ValueError: the file asks for anything else (its name is in the message; nothing of it has run), holds arrays
            of objects, is damaged, or is far larger in memory than a file of its size should be.
    """
    with path.open("rb") as file:
        return _load(path, file, _MAKERS)


def load_object_npy(path: Path) -> Any:
    """Load a `.npy` file of an array of objects: arrays and builtin containers, read as :func:`load_pickle` does.

    Returns:
        The array of objects, or the object itself where the array has no axes.

    Raises:
        ValueError: as :func:`load_pickle`, or it is no `.npy` file.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            _, _, dtype = HEADERS[version](file)
        except Exception as error:  # numpy's reader of headers fails in any way, from SyntaxError to MemoryError
            raise ValueError(f"{path}: cannot be read as .npy: {reason_of(error)}") from None
        if dtype != np.dtype("O"):
            raise ValueError(f"{path}: must hold an array of objects, got dtype {dtype}")
        content = _load(path, file, _MAKERS | {("numpy", "dtype"): _any_dtype})
    if not isinstance(content, np.ndarray):
        raise ValueError(f"{path}: must hold an array of objects, got a {type(content).__name__}")
    return content[()] if content.ndim == 0 else content


def _load(path: Path, file: BinaryIO, makers: dict[tuple[str, str], Maker]) -> Any:
    left = os.fstat(file.fileno()).st_size - file.tell()
    try:
        return Machine(file, left, makers).load()
    except EOFError:
        raise ValueError(f"{path}: the file is cut short, or is no pickle") from None
    except Exception as error:  # a damaged pickle can fail in any way, from IndexError to UnicodeDecodeError
        raise ValueError(f"{path}: cannot be read as a feature file: {reason_of(error)}") from error


def _dtype(_: Machine, arguments: tuple[Any, ...]) -> Pending:
    """`numpy.dtype`: booleans, numbers and strings of fixed length."""
    text = arguments[0] if arguments and isinstance(arguments[0], str) else "?"
    if not _PLAIN.fullmatch(text) or not isinstance(arguments[0], str):
        shown = text[:40] if isinstance(arguments[0], str) else type(arguments[0]).__name__
        raise UnpicklingError(f"dtype {shown!r} is refused; numbers and strings of fixed length pass")
    return _with_byte_order(np.dtype(text))


def _any_dtype(machine: Machine, arguments: tuple[Any, ...]) -> Pending:
    """`numpy.dtype` where arrays of objects are welcome; the objects are the file's own values."""
    if arguments and isinstance(arguments[0], str) and _OBJECTS.fullmatch(arguments[0]):
        return _with_byte_order(np.dtype("O"))
    return _dtype(machine, arguments)


def _with_byte_order(dtype: np.dtype) -> Pending:
    def build(state: Any) -> np.dtype:
        _, byte_order, subarray, names, fields, *_ = state
        if subarray is not None or names is not None or fields is not None:
            raise UnpicklingError("a structured dtype is refused; numbers and strings of fixed length pass")
        return dtype.newbyteorder(byte_order)

    return Pending(build)


def _array(machine: Machine, _: tuple[Any, ...]) -> Pending:
    """The function that pickled arrays begin with."""

    def build(state: Any) -> np.ndarray:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple):
            raise UnpicklingError("an array needs a shape and a dtype")
        if len(shape) > 8 or not all(isinstance(size, int) and 0 <= size < 2**48 for size in shape):
            raise UnpicklingError(f"an array of shape {shape[:8]!r:.80} is refused")
        order = "F" if is_fortran else "C"
        if dtype.hasobject:
            return _array_of_objects(machine, data, shape, order)
        data = _bytes(machine, data)
        if math.prod(shape) * dtype.itemsize != len(data):
            declared = f"an array of shape {shape} and dtype {dtype} is declared"
            raise UnpicklingError(f"{declared}, which {len(data)} bytes do not hold")
        flat = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
        return with_real_letters(flat).reshape(shape, order=order)

    return Pending(build)


def _array_of_objects(machine: Machine, items: Any, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if not isinstance(items, list) or len(items) != math.prod(shape):
        raise UnpicklingError("an array of objects needs a list of as many as its shape says")
    machine.spend(8 * len(items))
    flat = np.empty(len(items), object)
    for position, item in enumerate(items):
        flat[position] = item
    return flat.reshape(shape, order=order)


def _scalar(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    dtype, data = arguments
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise UnpicklingError("a single number needs a dtype")
    data = _bytes(machine, data)
    machine.spend(len(data))
    if len(data) != dtype.itemsize:
        raise UnpicklingError(f"a {dtype} takes {dtype.itemsize} bytes, got {len(data)}")
    return with_real_letters(np.ndarray((), dtype, buffer=data))[()]


def _bytes(machine: Machine, data: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as text."""
    if isinstance(data, str):
        machine.spend(len(data))
        return data.encode("latin-1")
    if not isinstance(data, bytes):
        raise UnpicklingError(f"an array needs bytes, got a {type(data).__name__}")
    return data


def _encoded(machine: Machine, arguments: tuple[Any, ...]) -> bytes:
    """`_codecs.encode`, as which the protocols 0 to 2 spell bytes."""
    text, encoding = arguments
    if encoding != "latin1" or not isinstance(text, str):
        raise UnpicklingError("refused to encode anything but bytes written as latin1")
    return _bytes(machine, text)


def _no_bytes(_: Machine, arguments: tuple[Any, ...]) -> bytes:
    """`bytes()`, as which the protocols 0 to 2 spell empty bytes."""
    if arguments:
        raise UnpicklingError("refused to load builtins.bytes with arguments")
    return b""


def _plain_array_class(_: Machine, __: tuple[Any, ...]) -> Any:
    raise UnpicklingError("an array must be pickled as numpy does it, not by its class")


def _container(kind: type) -> Maker:
    """A builtin container, of nothing or of one list: the protocols 0 to 3 write sets so."""

    def make(machine: Machine, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) > 1 or any(not isinstance(items, list) for items in arguments):
            raise UnpicklingError(f"a {kind.__name__} must be made of a list")
        items = arguments[0] if arguments else []
        machine.spend(224 + 32 * len(items))
        return kind(map(key_of, items) if kind in (set, frozenset, dict) else items)

    return make


_MAKERS: dict[tuple[str, str], Maker] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _plain_array_class,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{
        (module, kind.__name__): _container(kind)
        for kind in (dict, list, tuple, set, frozenset)
        for module in ("builtins", "__builtin__")
    },
}
