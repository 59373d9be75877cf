"""Archives of arrays and published checkpoints from strangers: a function that writes each file, and what is said."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import torch

from tests.example.strangers.pickles import Calls, laughs, program, text

NPZ = r"cannot be read as \.npz: "
PTH = "is damaged, or holds more than the weights"


def good():
    """What an honest .npz holds."""
    return {
        "watch": np.arange(24, dtype=np.float32).reshape(12, 2),
        "watch_offsets": np.arange(0, 13, 2),
        "action": np.array([0, 1, 0, 1, 0, 1]),
        "split": np.array(["train", "train", "valid", "valid", "test", "test"]),
    }


def npy(array, **options):
    target = io.BytesIO()
    np.lib.format.write_array(target, np.asarray(array), **options)
    return target.getvalue()


def header(text, version=b"\x01\x00"):
    body = text.encode()
    size = struct.pack("<H", len(body)) if version == b"\x01\x00" else struct.pack("<I", len(body))
    return b"\x93NUMPY" + version + size + body


def declared(shape, dtype="<f4", data=b"abcd"):
    return header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n") + data


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def npz(**changes):
    return zipped(
        [(f"{key}.npy", value if isinstance(value, bytes) else npy(value)) for key, value in (good() | changes).items()]
    )


def patched(data, old, new, count=-1):
    assert old in data
    return data.replace(old, new, count)


def archives(canary):
    objects = np.empty(1, object)
    objects[0] = Calls(os.system, f"touch {canary}")
    zeros = zipped([("watch.npy", npy(np.zeros(2**22)))])  # 32 MB: harmless; its declared sizes are raised below
    stored = zipped([(f"{key}.npy", npy(value)) for key, value in good().items()], zipfile.ZIP_STORED)
    encrypted = bytearray(npz())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = encrypted.find(signature)
        while start >= 0:
            encrypted[start + place] |= 1
            start = encrypted.find(signature, start + 4)
    bomb = zipped([(f"a{i}.npy", npy(np.zeros(2**23))) for i in range(4)])
    small, large = struct.pack("<I", 2**25 + 128), struct.pack("<I", 2**32 - 2)
    many = zipped([(f"{i}.npy", b"") for i in range(20_000)], zipfile.ZIP_STORED)
    deep = "(" * 9000
    files = {
        "bomb of 256 MB": (bomb, "far more than an archive of its size"),
        "bomb that declares 4 GB": (patched(zeros, small, large), "far more than an archive of its size"),
        "absolute name": (zipped([("/etc/watch.npy", npy([1.0]))]), "no array's name"),
        "../ name": (zipped([("../watch.npy", npy([1.0]))]), "no array's name"),
        "backslash name": (zipped([("..\\watch.npy", npy([1.0]))]), "no array's name|cannot"),
        "a member that is no array": (zipped([("run.py", b"x")]), "no array's name"),
        "a pickle as member": (zipped([("watch.npy", pickle.dumps(objects))]), NPZ),
        "nested object array": (npz(watch=npy(objects)), "holds objects"),
        "record array": (npz(watch=np.zeros(2, [("a", "f4")])), "must hold numbers or strings"),
        "dates": (npz(watch=np.zeros(2, "M8[s]")), "must hold numbers or strings"),
        "huge shape": (npz(watch=declared((2**40, 2**20))), "do not hold"),
        "negative shape": (npz(watch=declared((-1, 2))), "do not hold"),
        "shape of nothings": (npz(watch=declared((2**40, 0), data=b"")), "must be numbers"),
        "shape of text": (npz(watch=declared("'a'")), NPZ),
        "header of parentheses": (npz(watch=header(deep)), NPZ),
        "header too long": (npz(watch=header("{'a': [" + "[]," * 30_000 + "]}", b"\x02\x00")), NPZ),
        "header that calls": (npz(watch=header(f"{{'descr': __import__('os').system('touch {canary}')}}")), NPZ),
        "header of a newer version": (npz(watch=b"\x93NUMPY\x09\x00" + b"a" * 40), "version"),
        "header length beyond the member": (npz(watch=b"\x93NUMPY\x02\x00" + b"\xff" * 4), NPZ),
        "array cut short": (npz(watch=npy(good()["watch"])[:-4]), "do not hold"),
        "array with bytes behind": (npz(watch=npy(good()["watch"]) + b"abcd"), "do not hold"),
        "encrypted": (bytes(encrypted), "encrypted"),
        "bad checksum": (patched(stored, good()["watch"].tobytes(), good()["watch"][::-1].tobytes()), "CRC"),
        "compressed by bzip2": (zipped([("watch.npy", npy([1.0]))], zipfile.ZIP_BZIP2), "does not use"),
        "compressed by lzma": (zipped([("watch.npy", npy([1.0]))], zipfile.ZIP_LZMA), "does not use"),
        "letters that are none": (npz(split=declared((6,), "<U5", b"\xff" * 120)), "no letters"),
        "id that cannot be written": (npz(ids=np.array(["\ud800"] * 6)), "text of at most"),
        "huge ids": (npz(ids=np.array(["a" * 5000] * 6)), "text of at most"),
        "20,000 empty members": (many, NPZ),
        "one array twice": (patched(npz(b=[1.0]), b"b.npy", b"a.npy") + b"", NPZ + "|lacks|must"),
        "offsets that fall": (npz(watch_offsets=np.array([0, 5, 2, 6, 8, 10, 12])), "must rise"),
        "offsets beyond 64 bits": (npz(watch_offsets=np.full(7, 2**64 - 1, np.uint64)), "must rise"),
        "no archive": (b"PK\x03\x04" + bytes(100), "no such archive"),
        "empty": (b"", "no such archive"),
    }
    whole = zipped([("a.npy", npy([1.0])), ("b.npy", npy([1.0]))])
    files["duplicate names"] = patched(whole, b"b.npy", b"a.npy"), "2 times"
    del files["one array twice"]
    files |= {f"cut at {part}/16": (npz()[: len(npz()) * part // 16], "no such archive") for part in range(16)}
    return files


def saved(content, **options):
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


def with_pickle(data, **options):
    """A checkpoint whose program is this one."""
    members = [("archive/data.pkl", data), ("archive/version", b"3\n"), ("archive/data/0", b"abcd" * 4)]
    return zipped(members, **({"compression": zipfile.ZIP_STORED} | options))


def calling(module, name, rest):
    """A checkpoint whose program calls something that PyTorch knows."""
    return with_pickle(program(b"c" + module + b"\n" + name + b"\n" + rest, protocol=2))


def tensor(shape, strides, count=4, storage="FloatStorage"):
    """The program of a state dict with one tensor."""
    number = [b"(" + b"".join(pickle.dumps(size, 2)[2:-1] for size in sizes) + b"t" for sizes in (shape, strides)]
    where = b"(" + text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text("0") + text("cpu")
    where += pickle.dumps(count, 2)[2:-1] + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + where + b"K\x00" + number[0] + number[1] + b"\x89}tR"
    return program(b"}", text("a"), call, b"s", protocol=2)


def checkpoints(canary):
    touch = Calls(os.system, f"touch {canary}")
    honest = saved({"a": torch.ones(3)})
    old = saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False)
    tuples, lists = laughs(b"(", b"t"), laughs(b"](", b"e")
    twice = [("a/data.pkl", program(b"}")), ("b/data.pkl", program(b"}"))]
    files = {
        "os.system": (saved({"a": touch}), "refused to load"),
        "os.system before 1.6": (saved({"a": touch}, _use_new_zipfile_serialization=False), "refused to load"),
        "eval": (saved({"a": Calls(eval, f"open({str(canary)!r}, 'w')")}), "refused to load"),
        "a plain pickle": (pickle.dumps(touch), PTH),
        "a whole module": (saved(torch.nn.Linear(1, 1)), "refused to load"),
        "bytearray of 10 GB": (
            calling(b"builtins", b"bytearray", b"\x8a\x06\0\0\0\0\x02\0\x85R"),
            "refused to load",
        ),
        "torch.Tensor of 1 TB": (
            calling(b"torch", b"FloatTensor", b"J\0\0\0\x40\x85R"),
            "refused to load",
        ),
        "sparse tensor": (
            calling(b"torch._utils", b"_rebuild_sparse_tensor", b")R"),
            "refused to load",
        ),
        "zip bomb": (with_pickle(bytes(2**25), compression=zipfile.ZIP_DEFLATED), "compressed"),
        "tensor of one repeated value": (with_pickle(tensor((2**40,), (0,))), "larger than its storage"),
        "storage larger than the file": (with_pickle(tensor((4,), (1,), count=2**40)), "larger than the file"),
        "storage of negative size": (with_pickle(tensor((4,), (1,), count=-4)), "larger than the file"),
        "storage of an unknown kind": (with_pickle(tensor((4,), (1,), storage="QInt8Storage")), "refused to load"),
        "negative strides": (with_pickle(tensor((4,), (-1,))), "needs a storage"),
        "memoised tuples as a key": (
            with_pickle(program(b"}", tuples, b"Ns")),
            "a key must be",
        ),
        "memoised lists": (
            with_pickle(program(b"}", text("a"), lists, b"s")),
            "far larger|nested",
        ),
        "memo bomb": (with_pickle(program(b"]r\xff\xff\xff\xff", protocol=2)), "in a place far"),
        "declared string of 4 GB": (with_pickle(program(b"X\xff\xff\xff\xff", protocol=2)), "declared where"),
        "two programs": (
            zipped(twice, zipfile.ZIP_STORED),
            "one data.pkl",
        ),
        "no program": (zipped([("archive/version", b"3")], zipfile.ZIP_STORED), "one data.pkl"),
        "state within a state": (saved({"model": {"a": torch.ones(1)}}), "must hold a state dict"),
        "ordered state with attributes": (saved(collections.Counter(a=1)), "refused to load"),
        "not the network's": (honest, "missing"),
        "text": (b"hello\n" * 100, PTH),
        "empty": (b"", PTH),
    }
    files |= {f"cut at {part}/16": (honest[: len(honest) * part // 16], PTH) for part in range(16)}
    files |= {f"before 1.6, cut at {part}/16": (old[: len(old) * part // 16], PTH) for part in range(16)}
    return files
