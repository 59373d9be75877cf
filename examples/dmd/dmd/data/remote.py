"""Shards on another machine: the index first, then each shard whole, into a cache of bounded size, when it is needed.

Reads go through fsspec, so any of its file systems will do (`https://`, `s3://`, ...). What fails in passing is tried
again after a growing pause; what was fetched is compared with the checksum in the index before it is used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..durable import FULL, sha256_of
from .recordings import Recordings
from .shard_cache import CACHE_GB, TEMPORARY, cache_bytes, cache_folder, make_room
from .shard_index import INDEX, MAX_INDEX_BYTES, Shard
from .shards import open_shards

ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; each pause is twice the one before, and somewhat random
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 30.0  # of HTTP: to connect, and between two parts of an answer
PASSING_STATUS = (408, 425, 429)  # of HTTP, beside 500 to 599: the others say that asking again is no use


class RemoteError(OSError):
    """A file could not be fetched; the message names its URL, the attempts and the cause."""

    def __init__(self, message: str) -> None:
        # A loader's worker hands its traceback on as the message; the last line is what was said there.
        super().__init__(message.strip().splitlines()[-1].removeprefix(f"{__name__}.RemoteError: "))


def read_remote_shards(url: str, *, task: str | None = None, metrics: str | None = None) -> Recordings:
    """Recordings of a folder of shards at a URL.

    Args:
        url: of the folder that holds index.json.
        task, metrics: must be those that the shards were written for, or None.

    Raises:
        ValueError: the URL or the index is wrong, or a package is missing.
        OSError: the index cannot be fetched.
    """
    if find_spec("fsspec") is None or find_spec("tenacity") is None:
        raise ValueError("data at a URL needs fsspec and tenacity: install the 'remote' extra")
    source = RemoteFolder(url, cache_folder(), cache_bytes())
    recordings, files = open_shards(source, url, task=task, metrics=metrics, in_blocks=True)
    for shard in files.shards:
        source.require_fitting(shard)  # now, and not after hours of training
    return recordings


class RemoteFolder:
    """A :class:`dmd.data.shards.Source` at a URL.

    Shards are kept under their checksum, so that a shard is fetched once, whatever URL it has; the ones used last stay.

    Args:
        url: of the folder.
        cache: folder on this machine, which several processes may share.
        max_bytes: of the cache; a shard more while it is fetched. A larger shard is refused.
    """

    def __init__(self, url: str, cache: Path, max_bytes: int) -> None:
        self.url, self.cache, self.max_bytes = url.rstrip("/"), cache, max_bytes
        self._checked: set[str] = set()  # checksums of files that this process has read in the cache
        self._system: tuple[int, Any] | None = None  # of fsspec, and the process that made it

    def index(self) -> bytes:
        self.cache.mkdir(parents=True, exist_ok=True)
        with self._temporary() as path:
            self._fetch(INDEX, path, MAX_INDEX_BYTES)
            return path.read_bytes()

    def require_fitting(self, shard: Shard) -> None:
        """Refuse a shard that the cache cannot hold.

        Raises:
            ValueError: naming its URL, its size and the cache's.
        """
        if shard.bytes > self.max_bytes:
            wanted = f"a shard must have at most the {self.max_bytes} bytes of the cache ({CACHE_GB})"
            raise ValueError(f"{self.url}/{shard.file}: {wanted}, got {shard.bytes}, as {INDEX} says")

    def fetch(self, shard: Shard) -> Path:
        self.require_fitting(shard)
        path = self.cache / f"{shard.sha256}.safetensors"
        self.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one fetches, the others wait
            if not self._has(path, shard):
                with self._temporary() as temporary:
                    self._fetch(shard.file, temporary, shard.bytes, shard.sha256)
                    make_room(self.cache, self.max_bytes, temporary)  # only now: what an index says costs no shard
                    os.replace(temporary, path)
                self._checked.add(shard.sha256)
            with contextlib.suppress(FileNotFoundError):  # another process makes room; whoever opens it, asks again
                os.utime(path)  # the ones used last stay
        return path

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A new file in the cache, of a name that nobody could plant a link at; gone afterwards, or renamed."""
        descriptor, name = tempfile.mkstemp(suffix=TEMPORARY, dir=self.cache)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _has(self, path: Path, shard: Shard) -> bool:
        """Whether the cache has the shard as it should be; each process reads it through once to know."""
        try:
            if path.stat().st_size != shard.bytes:
                return False
            if shard.sha256 not in self._checked and sha256_of(path) == shard.sha256:
                self._checked.add(shard.sha256)
        except FileNotFoundError:  # never fetched, or another process makes room
            return False
        return shard.sha256 in self._checked

    def _fetch(self, name: str, path: Path, size: int, sha256: str | None = None) -> None:
        """Fetch a file of this size, or with no checksum of at most this size.

        Raises:
            RemoteError: it cannot be had, or is another one, also after the last attempt.
            ValueError: fsspec does not know the protocol, or lacks a package for it.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

        system, url = self._connect(), f"{self.url}/{name}"
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=FIRST_PAUSE),
            retry=retry_if_exception(_may_pass),
            before_sleep=partial(_say, url),
            reraise=True,
        )
        try:
            attempts(_fetch_once, system, url, path, size, sha256)
        except Exception as error:  # every file system has its own
            number = attempts.statistics["attempt_number"]
            tried = "1 attempt" if number == 1 else f"{number} attempts"
            cause = " ".join(str(error).split())
            cause = f"{type(error).__name__}: {cause}" if cause else type(error).__name__
            raise RemoteError(f"{url} could not be fetched in {tried}: {cause}") from error

    def _connect(self) -> Any:
        """The file system; each process has its own, since no connection survives a fork."""
        if self._system is None or self._system[0] != os.getpid():
            try:
                from fsspec.core import url_to_fs

                options: dict[str, Any] = {}
                if self.url.startswith(("http://", "https://")):
                    from aiohttp import ClientTimeout

                    limits = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
                    options["client_kwargs"] = {"timeout": limits}
                self._system = os.getpid(), url_to_fs(self.url, skip_instance_cache=True, **options)[0]
            except (ImportError, ValueError) as error:
                raise ValueError(
                    f"data: {self.url} cannot be read: {error}; is the 'remote' extra installed?"
                ) from error
        return self._system[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_system": None}


class _WrongContent(Exception):
    """What came is not the file that the index names."""


def _fetch_once(system: Any, url: str, path: Path, size: int, sha256: str | None) -> None:
    from fsspec.callbacks import Callback

    class AtMost(Callback):
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > size:  # before it fills the disk
                raise _WrongContent(f"more than the {size} bytes that were expected")

    system.get_file(url, str(path), callback=AtMost())
    found = path.stat().st_size
    if found > size:  # not every file system calls back
        raise _WrongContent(f"{found} bytes came, at most {size} were expected")
    if sha256 is None:
        return
    if found != size:
        raise _WrongContent(f"{found} bytes came, {size} were expected")
    if (checksum := sha256_of(path)) != sha256:
        raise _WrongContent(f"its SHA-256 is {checksum}, {sha256} was expected")


def _say(url: str, state: Any) -> None:
    """Tell of a failed attempt: otherwise the waits, up to half a minute, look as if nothing happened."""
    error, pause = state.outcome.exception(), state.next_action.sleep
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    text = f"{url}: {cause}; attempt {state.attempt_number + 1} of {ATTEMPTS} follows in {pause:.1f} s"
    warnings.warn(text, stacklevel=2)


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, FileNotFoundError | PermissionError | ImportError | ValueError | NotImplementedError):
        return False
    if getattr(error, "errno", None) in FULL:
        return False
    status = getattr(error, "status", None)  # of HTTP
    return not isinstance(status, int) or status >= 500 or status in PASSING_STATUS
