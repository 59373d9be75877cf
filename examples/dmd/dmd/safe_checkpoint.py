"""Read a state dict that PyTorch saved and a stranger sent.

`torch.load(weights_only=True)` imports nothing that a file names, but it calls what it knows with whatever the file
gives: `bytearray(10**12)` is among that. So the file's pickle is first run by our own machine with stand-ins that only
look at it, and every tensor must lie inside the file.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from .data.pickle_machine import Machine, Maker

LARGEST_PICKLE = 2**26  # bytes of names and shapes; the largest published networks have about 2**20
_STORAGES = {
    **{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2},
    **{"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1},
}


class _Seen:
    """Stands in for a storage or a tensor."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes


class _Storage(_Seen):
    def __init__(self, num_bytes: int, itemsize: int) -> None:
        super().__init__(num_bytes)
        self.itemsize = itemsize


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """A plain state dict, read without running anything that the file may hold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds something else, or declares more than it holds.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        _check(path)
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can fail in any way
        reason = f": {' '.join(str(error)[:300].split())}" if isinstance(error, UnpicklingError) else ""
        what = f"is damaged, or holds more than the weights of a PyTorch network ({type(error).__name__}){reason}"
        raise ValueError(f"{path} {what}") from error
    if not isinstance(state, Mapping) or not state:
        length = len(state) if hasattr(state, "__len__") else 0
        raise ValueError(f"{path} must hold a state dict, got {type(state).__name__} of length {length}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            shown = repr(key[:80]) if isinstance(key, str) else type(key).__name__
            raise ValueError(f"{path} must hold a state dict, name -> tensor, got {shown} -> {type(value).__name__}")
    return dict(state)


def _check(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):  # before PyTorch 1.6: three short pickles, the content, and the storages
            file.seek(0)
            for _ in range(4):
                _check_pickle(file, size - file.tell(), size)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UnpicklingError("a part is compressed, which PyTorch does not do")
        if sum(entry.file_size for entry in entries) > size:
            raise UnpicklingError("its parts are declared larger than the file")
        found = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(found) != 1:
            raise UnpicklingError(f"it must have one data.pkl, got {len(found)}")
        with archive.open(found[0]) as member:
            _check_pickle(member, found[0].file_size, size)


def _check_pickle(file: Any, num_bytes: int, file_size: int) -> None:
    """Run a pickle of the file with stand-ins; the position is behind it afterwards."""
    used = [0]

    def storage(described: Any) -> _Storage:
        kind, make, _, _, count, *_ = described
        itemsize = _STORAGES.get(make.text.removeprefix("torch."), 0) if hasattr(make, "text") else 0
        if kind != "storage" or not itemsize or not isinstance(count, int) or not 0 <= count * itemsize <= file_size:
            raise UnpicklingError("a storage is declared larger than the file")
        return _Storage(count * itemsize, itemsize)

    def tensor(_: Machine, arguments: tuple[Any, ...]) -> _Seen:
        where, offset, shape, stride, *_ = arguments
        numbers = (offset, *shape, *stride)
        if not isinstance(where, _Storage) or not all(isinstance(each, int) and each >= 0 for each in numbers):
            raise UnpicklingError("a tensor needs a storage, an offset, a shape and strides")
        num_bytes = math.prod(shape) * where.itemsize
        used[0] += num_bytes
        if num_bytes > where.num_bytes or used[0] > 4 * file_size:
            raise UnpicklingError("a tensor is declared larger than its storage")
        return _Seen(num_bytes)

    def parameter(_: Machine, arguments: tuple[Any, ...]) -> Any:
        return arguments[0]

    def ordered_dict(_: Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        if arguments:
            raise UnpicklingError("refused to load collections.OrderedDict with arguments")
        return {}

    def no_call(_: Machine, __: tuple[Any, ...]) -> Any:
        raise UnpicklingError("a storage must not be made by the pickle")

    makers: dict[tuple[str, str], Maker] = {
        ("collections", "OrderedDict"): ordered_dict,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        **{("torch", name): no_call for name in _STORAGES},
    }
    Machine(file, min(num_bytes, LARGEST_PICKLE), makers, persistent=storage, ignores_state=True).load()
