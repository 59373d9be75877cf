"""Read a pickle from a stranger: numpy arrays of plain numbers and strings in builtin containers, and nothing else.

A pickle is a program. Here every name it may call stands in `_ALLOWED`, and each leads to one of the three stand-ins
below, never to numpy itself: `numpy.dtype.__setstate__` believes the flags that a file gives it, so that a crafted
file could have numbers treated as pointers.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np


class _Dtype:
    """Stands in for `numpy.dtype`: booleans, numbers and strings of fixed length."""

    def __init__(self, text: str, *_: object) -> None:
        self.plain = np.dtype(text) if isinstance(text, str) else np.dtype("O")
        if self.plain.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"dtype {text!r} is refused; numbers and strings of fixed length pass")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, subarray, names, fields, *_ = state
        if subarray is not None or names is not None or fields is not None:
            raise pickle.UnpicklingError("a structured dtype is refused; numbers and strings of fixed length pass")
        self.plain = self.plain.newbyteorder(byte_order)


class _Array:
    """Stands in for `numpy.ndarray` and for the function that pickled arrays begin with."""

    def __init__(self, *_: object) -> None:
        self.value: Any = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = np.frombuffer(data, dtype.plain).reshape(shape, order="F" if is_fortran else "C")


class _Scalar(_Array):
    """Stands in for numpy's `scalar`."""

    def __init__(self, dtype: _Dtype, data: bytes) -> None:
        self.value = np.ndarray((), dtype.plain, buffer=data)[()]


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{
        (module, kind.__name__): kind
        for kind in (dict, list, tuple, set, frozenset)
        for module in ("builtins", "__builtin__")
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> type:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            # Arrays that were pickled with protocol 5 name _frombuffer: harmless, but the fix is easy to say.
            hint = "; save the file with pickle protocol 4" if global_name == "_frombuffer" else ""
            raise pickle.UnpicklingError(f"refused to load {module_name}.{global_name}{hint}") from None


def _resolve(value: Any) -> Any:
    """Replace the stand-ins by what they hold."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Dtype):
        return value.plain
    if isinstance(value, dict):
        return {_resolve(key): _resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_resolve(item) for item in value)
    return value


def load_pickle(path: Path) -> Any:
    """Load a pickle of numpy arrays and builtin containers.

    Args:
        path: the file.

    Returns:
        What the file holds; its arrays are read-only.

    Raises:
        ValueError: the file asks for anything else (its name is in the message; nothing of it has run), holds arrays
            of objects, or is cut short.
    """
    with path.open("rb") as file:
        try:
            return _resolve(_Unpickler(file).load())
        except EOFError:
            raise ValueError(f"{path}: the file is cut short, or is no pickle") from None
        except Exception as error:  # a damaged pickle can fail in any way, from IndexError to UnicodeDecodeError
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: cannot be read as a feature file: {reason}") from error
