"""How a run ends that cannot go on: one line on stderr, with what to do next, and an exit status."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .finite import NotFinite
from .stopping import Stopped


@contextmanager
def told(out: Path) -> Iterator[None]:
    """Say why the run in this folder has stopped, and exit: 128 + the signal's number, or 1."""
    again = f"go on with: python examples/dmd/train.py --resume {shlex.quote(str(out))}"
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes, which all stop
    try:
        yield
    except Stopped as stopped:
        text = f"{signal.Signals(stopped.number).name} {stopped.said}, with a checkpoint; {again}"
        _exit(text if is_first else "", stopped.status)
    except KeyboardInterrupt:
        _exit(f"interrupted; {again}", 128 + signal.SIGINT)
    except NotFinite as error:
        hint = f"everything is in {error.path}; a lower --learning-rate may help, in a new --out"
        _exit(f"error: {error}; {hint}" if is_first else "", 1)
    except OSError as error:
        # Without the number; what the system says of a file, with its name.
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        _exit(f"error: {text}; what was written before is whole; {again}", 1)
    except RuntimeError as error:
        if not _is_of_another_process(error):
            raise
        _exit(f"error: another process of this run has ended, or cannot be reached; {again}", 1)


def _is_of_another_process(error: RuntimeError) -> bool:
    """Whether processes could not exchange something; gloo has no error class of its own."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


def _exit(text: str, status: int) -> None:
    if text:
        print(f"\n{text}", file=sys.stderr, flush=True)
    raise SystemExit(status) from None
