"""The line that a run ends with when it cannot go on."""

import errno

import pytest
from dmd.ending import told
from dmd.stopping import Stopped

AGAIN = "go on with: python examples/dmd/train.py --resume 'my run'"
WHOLE = f"; what was written before is whole; {AGAIN}"
ENDINGS = {
    "a signal": (
        Stopped(15, "after epoch 2, step 7"),
        143,
        f"SIGTERM after epoch 2, step 7, with a checkpoint; {AGAIN}",
    ),
    "between runs": (KeyboardInterrupt(), 130, f"interrupted; {AGAIN}"),
    "a shard": (
        OSError("https://host/x could not be fetched"),
        1,
        f"error: https://host/x could not be fetched{WHOLE}",
    ),
    "no room": (OSError(errno.ENOSPC, "the disk is full: x"), 1, f"error: the disk is full: x{WHOLE}"),
    "a file": (
        PermissionError(errno.EACCES, "Permission denied", "x.csv"),
        1,
        f"error: x.csv: Permission denied{WHOLE}",
    ),
    "another process": (
        RuntimeError("[/gloo/transport/tcp/pair.cc] Connection closed by peer"),
        1,
        f"error: another process of this run has ended, or cannot be reached; {AGAIN}",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_one_line_says_what_to_do(capsys, name):
    error, status, text = ENDINGS[name]
    with pytest.raises(SystemExit) as ended, told("my run"):
        raise error
    assert ended.value.code == status
    assert capsys.readouterr().err == f"\n{text}\n"


def test_of_several_processes_one_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="143"), told("my run"):
        raise Stopped(15, "after epoch 2, step 7")
    assert capsys.readouterr().err == ""


def test_a_mistake_in_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="shapes"), told("my run"):
        raise RuntimeError("shapes do not fit")
