"""A disk without room, and a folder that cannot be written: an error says so, and nothing that was there is lost."""

import errno
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from dmd.checkpoint import save_weights
from dmd.durable import replacing
from dmd.report import write_json
from dmd.training_state import checkpoints_of
from safetensors import SafetensorError

from tests.example.forked import EXAMPLE, ROOT
from tests.example.small_runs import content

OPTIONS = ["--data", "synthetic", "--device", "cpu", "--pictures", "false", "--epochs", "3"]
OPTIONS += ["--model.dim=8", "--model.num_heads=2", "--model.num_layers=1"]


@pytest.fixture(scope="module")
def begun(commands, tmp_path_factory):
    """A run that was killed in its second epoch, and what it finds when nothing disturbs it."""
    root = tmp_path_factory.mktemp("begun")
    assert commands.run("train", *OPTIONS, "--out", root / "whole", log=root / "log") == 0
    assert commands.run("train", *OPTIONS, "--out", root / "run", log=root / "log", kill_at=16) < 0
    assert len(checkpoints_of(root / "run")) == 1
    return root


def test_no_room_for_a_checkpoint(commands, begun, tmp_path):
    out = shutil.copytree(begun / "run", tmp_path / "run")
    (before,) = checkpoints_of(out)
    status = commands.run("train", "--resume", out, log=tmp_path / "log", largest_file=50_000)
    text = (tmp_path / "log").read_text()
    assert status == 1, text
    last = text.strip().splitlines()[-1]
    found = re.search(r"error: the file is larger than allowed: (\S+) needs ([\d,]+) bytes, ([\d,]+) are free", last)
    assert found, text
    assert int(found[2].replace(",", "")) > 50_000
    assert last.endswith(f"what was written before is whole; go on with: python examples/dmd/train.py --resume {out}")
    assert "Traceback" not in text
    assert checkpoints_of(out) == [before]
    assert not list(out.rglob("*.tmp"))
    assert commands.run("train", "--resume", out, log=tmp_path / "log") == 0
    assert content(out) == content(begun / "whole")


def in_own_mount(script):
    """Run a shell script where it may mount file systems that only it sees."""
    return subprocess.run(["unshare", "-rm", "sh", "-euc", script], capture_output=True, text=True, timeout=300)


needs_mounts = pytest.mark.skipif(
    not shutil.which("unshare") or in_own_mount("mount -t tmpfs none /mnt").returncode != 0,
    reason="this machine lets nobody mount a file system of his own",
)


@needs_mounts
@pytest.mark.slow
def test_a_file_system_that_is_full_and_one_that_is_read_only(begun, tmp_path):
    python = f"OMP_NUM_THREADS=1 PYTHONPATH={ROOT} {sys.executable} {EXAMPLE / 'train.py'} --resume {tmp_path}/disk/run"
    script = f"""
    mkdir {tmp_path}/disk; mount -t tmpfs -o size=2m none {tmp_path}/disk; cp -r {begun}/run {tmp_path}/disk/run
    head -c 1300k /dev/zero > {tmp_path}/disk/ballast
    set +e; {python} > {tmp_path}/full.txt 2>&1; echo $? >> {tmp_path}/full.txt; set -e
    mount -o remount,ro {tmp_path}/disk
    set +e; {python} > {tmp_path}/locked.txt 2>&1; echo $? >> {tmp_path}/locked.txt; set -e
    mount -o remount,rw {tmp_path}/disk; rm {tmp_path}/disk/ballast; {python}; cp -r {tmp_path}/disk/run {tmp_path}/run
    """
    done = in_own_mount(script)
    assert done.returncode == 0, done.stderr
    *_, error, status = (tmp_path / "full.txt").read_text().strip().splitlines()
    assert status == "1"
    assert re.match(r"error: the disk is full: \S+ needs [\d,]+ bytes, [\d,]+ are free; what was written before", error)
    error, status = (tmp_path / "locked.txt").read_text().strip().splitlines()
    assert (error, status) == (f"error: out: the folder {tmp_path}/disk/run cannot be written", "2")
    assert content(tmp_path / "run") == content(begun / "whole")


def write_half(path, error):
    """Fail while a file is written."""
    with replacing(path, 1_234_567) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left (os error 28)")],
)
def test_what_was_needed_is_said(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")
    wanted = rf"the disk is full: {path} needs 1,234,567 bytes, [\d,]+ are free"
    with pytest.raises(OSError, match=wanted) as said:
        write_half(path, error)
    assert said.value.errno == errno.ENOSPC
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "before")]


def test_another_error_stays_what_it_is(tmp_path):
    for error in (OSError(errno.EIO, "bad disk"), KeyboardInterrupt(), SafetensorError("not about files")):
        with pytest.raises(type(error)) as said:
            write_half(tmp_path / "file", error)
        assert said.value is error
        assert not list(tmp_path.iterdir())
    with pytest.raises(PermissionError, match="file cannot be written: Permission denied"):
        write_half(tmp_path / "file", SafetensorError("I/O error: Permission denied (os error 13)"))


def test_everything_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power failure could leave a name without its content."""
    done = []
    monkeypatch.setattr(os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")))
    whole = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(f"{a} -> {b}"), whole(a, b)))
    write_json(tmp_path / "a.json", {})
    save_weights(tmp_path / "b.safetensors", {"x": torch.ones(2)})
    with replacing(tmp_path / "c", 1) as temporary:
        temporary.mkdir()
        (temporary / "d").write_text("")
    t = str(tmp_path)
    assert done == [
        *(f"{t}/a.json.tmp", f"{t}/a.json.tmp -> {t}/a.json", t),
        *(f"{t}/b.safetensors.tmp", f"{t}/b.safetensors.tmp -> {t}/b.safetensors", t),
        *(f"{t}/c.tmp/d", f"{t}/c.tmp", f"{t}/c.tmp -> {t}/c", t),
    ]
