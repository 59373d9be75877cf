"""Files that appear whole or not at all, whatever happens meanwhile: a kill, a full disk, a power failure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed",
}
_UMASK = os.umask(0o077)  # it can only be read by setting it
os.umask(_UMASK)


@contextmanager
def replacing(path: Path, size: int) -> Iterator[Path]:
    """A new neighbour of a file or folder to write in its place: synced, then renamed; gone if anything goes wrong.

    Args:
        path: what is replaced, or made.
        size: bytes that will be written, for the message if there is no room.

    Raises:
        OSError: it cannot be written; where there is no room, with what was needed and what is free.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    _remove(temporary)  # what a kill has left
    try:
        with _said_how_much(path, size):
            yield temporary
            for written in [*temporary.rglob("*"), temporary]:
                if written.is_file():
                    os.chmod(written, 0o666 & ~_UMASK)  # safetensors leaves its files to their owner alone
                sync(written)
            if path.is_dir():
                _remove(path)  # a folder cannot replace another
            os.replace(temporary, path)
            sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(temporary)
        raise


@contextmanager
def _said_how_much(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number is None and (found := re.search(r"os error (\d+)", str(error))):
            number = int(found[1])
        if number in FULL:
            free = shutil.disk_usage(path.parent).free
            raise OSError(number, f"{FULL[number]}: {path} needs {size:,} bytes, {free:,} are free") from error
        if isinstance(error, SafetensorError) and number is not None:
            raise OSError(number, f"{path} cannot be written: {os.strerror(number)}") from error
        raise


def sha256_of(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
