"""Read an `.npz` from a stranger: plain arrays that are no larger than an archive of its size may honestly hold."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from .pickle_limits import with_real_letters
from .recordings import reason_of

FREE_BYTES = 2**26  # what an archive of any size may unpack to
UNPACKED_FACTOR = 20  # bytes unpacked for a byte of the archive; deflate could make a thousand, recordings make three
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; arrays of objects are refused.

    Raises:
        ValueError: the file is damaged, is no `.npz`, holds objects, or unpacks to far more than its size.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: cannot be read as .npz: it is no such archive, or is damaged")
    try:
        _check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: with_real_letters(file[key]) for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for a damaged file
        raise ValueError(f"{path}: cannot be read as .npz: {reason_of(error)}") from error


def _check_archive(path: Path) -> None:
    """Refuse an archive by what it declares, before anything is unpacked."""
    most = FREE_BYTES + UNPACKED_FACTOR * path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        [(commonest, count), *_] = Counter(entry.filename for entry in entries).most_common(1) or [("", 0)]
        if count > 1:
            raise ValueError(f"it holds {commonest[:80]!r} {count} times")
        if sum(entry.file_size for entry in entries) > most:
            raise ValueError(f"it declares far more than an archive of its size holds (at most {most} bytes)")
        for entry in entries:
            name = entry.filename
            if not name.endswith(".npy") or set(name) & set("/\\\0"):
                raise ValueError(f"it holds {name[:80]!r}, which is no array's name")
            if entry.flag_bits & 1:
                raise ValueError(f"{name[:80]!r} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name[:80]!r} is compressed by a method that numpy does not use")
            _check_header(archive, entry)


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array whose declared shape is not what its bytes hold."""
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{entry.filename[:80]!r} has a header of version {version}")
        shape, _, dtype = HEADERS[version](member)
        num_bytes = entry.file_size - member.tell()
    if dtype.hasobject:
        raise ValueError(
            f"{entry.filename[:80]!r} holds objects, which would need allow_pickle; numbers and strings pass"
        )
    if dtype.kind not in "biufcSU":
        raise ValueError(f"{entry.filename[:80]!r} must hold numbers or strings, got dtype {str(dtype)[:80]}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != num_bytes:
        declared = f"declares shape {str(shape)[:80]} and dtype {dtype}"
        raise ValueError(f"{entry.filename[:80]!r} {declared}, which {num_bytes} bytes do not hold")
