"""SIGTERM and Ctrl-C: the run finishes its step and writes a checkpoint first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run has stopped because a signal asked for it.

    Args:
        number: the signal.
        said: what is to be told of it.
    """

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(said)
        self.number, self.said = number, said

    @property
    def status(self) -> int:
        """What the process is to exit with, as a shell has it."""
        return 128 + self.number


class StopRequest:
    """While it is entered, the first signal is taken note of; a second Ctrl-C ends the process at once.

    Attributes:
        received: the signal, once there is one.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python lets no other set handlers
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set by Python
        if self.received is not None and kind is None:
            raise Stopped(self.received)  # it came too late for this run; none is to begin after it

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        if self._raises:
            raise Stopped(self.received)

    @contextmanager
    def at_once(self, *, alone: bool = True) -> Iterator[None]:
        """In here a signal raises :class:`Stopped` right away, as nothing is lost by leaving.

        Not with several processes: the others would wait for one that leaves.
        """
        if not alone:
            yield
            return
        if self.received is not None:
            raise Stopped(self.received)
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
