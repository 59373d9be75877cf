"""Fuzz the readers of files from elsewhere: `PYTHONPATH=.:examples/dmd python tests/fuzz.py --seconds 600 --seed 1`.

Good files are changed at random (bytes, pickle operations, members of archives, the trees of configurations) and read.
A finding is anything but a value or a ValueError, TypeError or OSError of one line: another error, more than
`SECONDS`, or memory that could not be had. Each is printed with the seed that makes it again.
"""

import argparse
import json
import pickletools
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import train
import yaml
from dmd.checkpoint import read_config
from dmd.command import printable
from dmd.data import load
from dmd.released_checkpoint import load_state_dict, sizes_of
from jsonargparse import ArgumentError

from tests.example.strangers import archives, pickles

SECONDS = 5
EXPECTED = (ValueError, TypeError, OSError, ArgumentError)
OPERATIONS = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
NUMBERS = [0, 1, -1, 127, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**63, 2**64, 2**70, 1e308, float("nan"), float("inf")]
SPLITS = ("train", "train", "train", "train", "valid", "valid", "test", "test")
LABELS = "".join(["id,value,group,split\n", *(f"s{i},{i / 4 - 1},g{i % 4},{name}\n" for i, name in enumerate(SPLITS))])
TEXTS = ["", "a", "os.system", "model", "class_path", "../x", "x" * 5000, "\x00", "\ud800", "1e400", "[[", "*a"]


def changed_bytes(random_, data, pieces):
    """Bytes with a few changes; `pieces` are put in whole."""
    data = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        place = random_.randrange(len(data) + 1)
        what = random_.randrange(7)
        if what == 0 and data:
            data[place % len(data)] = random_.randrange(256)
        elif what == 1 and data:
            data[place % len(data)] ^= 1 << random_.randrange(8)
        elif what == 2:
            data[place:place] = random_.choice(pieces)
        elif what == 3:
            del data[place : place + random_.choice((1, 2, 8, 64))]
        elif what == 4:
            start = random_.randrange(len(data) + 1)
            data[place:place] = data[start : start + random_.choice((1, 8, 64, 512))]
        elif what == 5:
            data[place : place + 4] = random_.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x40", b"\xff\xff\xff\x7f"))
        elif what == 6 and random_.random() < 0.2:
            del data[place:]
    return bytes(data)


def changed_tree(random_, value):
    """A tree of dicts, lists and values with one part replaced."""
    if isinstance(value, dict) and value and random_.random() < 0.85:
        key = random_.choice(list(value))
        changed = value | {key: changed_tree(random_, value[key])}
        if random_.random() < 0.1:
            changed[random_.choice(TEXTS)] = changed.pop(key)
        return changed
    if isinstance(value, list) and value and random_.random() < 0.7:
        place = random_.randrange(len(value))
        return [*value[:place], changed_tree(random_, value[place]), *value[place + 1 :]]
    odd = [None, True, [], {}, [value] * 3, {"a": value}, {"class_path": "x"}, [[[[[value]]]]], str(value)]
    return random_.choice([*odd, *NUMBERS, *TEXTS])


class Targets:
    """Each reader with its good files, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        cases = [*pickles.executing("canary").values(), *pickles.broken().values()]
        self.pickles = [content for content, _ in cases if len(content) < 20_000]
        self.honest = [*pickles.honest().values()]
        self.members = {f"{key}.npy": archives.npy(value) for key, value in archives.good().items()}
        state = {f"layer.{i}.weight": torch.ones(2, 3) for i in range(3)}
        self.checkpoints = [archives.saved(state), archives.saved(state, _use_new_zipfile_serialization=False)]
        self.checkpoints += [content for content, _ in archives.checkpoints("canary").values() if len(content) < 20_000]
        root = Path(__file__).parents[1] / "examples" / "dmd" / "configs"
        self.configs = [path.read_text() for path in sorted(root.glob("*.yaml"))]
        self.arrays = {f"{name}.npy": archives.npy(np.ones((8, 3, 2), np.float32)) for name in ("text", "audio")}
        self.arrays |= {"audio_lengths.npy": archives.npy(np.full(8, 2)), "labels.csv": LABELS.encode()}
        self.run = {
            "config": yaml.safe_load(self.configs[0]),
            "data": {"dims": {"a": 3}, "task": "regression", "metrics": "mosi", "classes": [], "sha256": ""},
        }

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def pickle(self, random_):
        chosen = random_.choice(self.honest if random_.random() < 0.6 else self.pickles)
        content = changed_bytes(random_, chosen, OPERATIONS)
        load(str(self.write("fuzz.pkl", content)))

    def archive(self, random_):
        if random_.random() < 0.3:
            content = changed_bytes(random_, archives.npz(), [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"])
        else:
            name = random_.choice(list(self.members))
            changed = changed_bytes(random_, self.members[name], [b"(", b"O", b"'", b",", b"9", b"{", b"\x93NUMPY"])
            content = archives.zipped((self.members | {name: changed}).items())
        load(str(self.write("fuzz.npz", content)))

    def arrays_folder(self, random_):
        (self.folder / "arrays").mkdir(exist_ok=True)
        chosen = random_.choice(list(self.arrays))
        for name, content in self.arrays.items():
            pieces = [b"(", b"O", b"'", b",", b"9", b"{", b"\n", b'"', b"nan", b"\x93NUMPY"]
            changed = changed_bytes(random_, content, pieces) if name == chosen else content
            self.write(f"arrays/{name}", changed)
        load(str(self.folder / "arrays"))

    def checkpoint(self, random_):
        chosen = random_.choice(self.checkpoints[:2] if random_.random() < 0.6 else self.checkpoints)
        content = changed_bytes(random_, chosen, OPERATIONS)
        state = load_state_dict(self.write("fuzz.pth", content))
        if random_.random() < 0.05:  # a network is built to compare it with
            sizes_of(state, None, None, None)

    def yaml(self, random_):
        text = random_.choice(self.configs)
        if random_.random() < 0.5:
            pieces = [b": ", b"- ", b"[", b"{", b"&a ", b"*a", b"!!", b"\n", b"'", b"|", b"? ", b"<<: ", b"0x", b"%"]
            content = changed_bytes(random_, text.encode(), pieces)
        else:
            content = yaml.safe_dump(changed_tree(random_, yaml.safe_load(text)), allow_unicode=True)
            content = content.encode("utf-8", "surrogatepass")
        path = self.write("fuzz.yaml", content)
        train.parse(["--config", str(path), "--out", str(self.folder / "out")])

    def json(self, random_):
        content = json.dumps(changed_tree(random_, self.run))
        if random_.random() < 0.3:
            content = changed_bytes(random_, content.encode(), [b"[", b"{", b'"', b"NaN", b"1e999"]).decode("latin-1")
        self.write("config.json", content.encode("latin-1", "replace"))
        read_config(self.folder)


REPEATS = {
    "pickle": 20,
    "archive": 10,
    "arrays_folder": 5,
    "checkpoint": 10,
    "yaml": 1,
    "json": 1,
}  # their costs differ as much
KINDS = tuple(REPEATS)


def one(targets, kind, seed):
    """Read one changed file: ("read" or "refused", None), or ("finding", what happened)."""

    def late(*_):
        raise TimeoutError("too slow")  # an OSError: told from those of the readers by its text

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        getattr(targets, kind)(random.Random(f"{kind} {seed}"))
        return "read", None
    except EXPECTED as error:
        said = printable(str(error))
        is_bad = "too slow" in said or "MemoryError" in said or "allocate" in said or not said
        return ("finding", f"{type(error).__name__}: {said}") if is_bad else ("refused", None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "finding", traceback.format_exc()
    finally:
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    counts, findings, number = Counter(), Counter(), 0
    end = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        targets = Targets(Path(folder))
        while time.monotonic() < end:
            for kind in (name for name in arguments.kinds for _ in range(REPEATS[name])):
                number += 1
                outcome, what = one(targets, kind, arguments.seed * 10**9 + number)
                counts[kind, outcome] += 1
                if what is not None:
                    last = what.strip().splitlines()[-1][:120]
                    findings[kind, last] += 1
                    if findings[kind, last] == 1:
                        print(f"{kind}, seed {arguments.seed * 10**9 + number}:\n{what}", flush=True)
    for kind in arguments.kinds:
        print(kind, {outcome: counts[kind, outcome] for outcome in ("read", "refused", "finding")})
    print(f"{sum(counts.values())} executions, {len(findings)} kinds of finding")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
