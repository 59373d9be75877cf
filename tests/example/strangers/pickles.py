"""Pickles from strangers, by name: the bytes of a file, and what the reader must say of it."""

import collections
import functools
import operator
import os
import pickle
import struct

import numpy as np
import torch

CUT = r"cut short|cannot be read"
LARGER = r"far more than|far larger than|nested deeper|holds itself"


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def good(num_samples=3):
    """What an honest file holds."""
    generator = np.random.default_rng(0)
    split = {
        "id": [f"video$_${i}" for i in range(num_samples)],
        "text": generator.normal(size=(num_samples, 4, 6)).astype(np.float32),
        "vision": generator.normal(size=(num_samples, 4, 4)).astype(np.float32),
        "audio": generator.normal(size=(num_samples, 4, 3)).astype(np.float32),
        "regression_labels": np.linspace(-2, 2, num_samples),
    }
    return dict.fromkeys(("train", "valid", "test"), split)


def with_entry(key, value, protocol=4):
    """The honest file with one entry of train replaced."""
    content = good()
    return pickle.dumps(content | {"train": content["train"] | {key: value}}, protocol=protocol)


def text(value):
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def program(*parts, protocol=4):
    return bytes([0x80, protocol]) + b"".join(parts) + b"."


def as_entry(value, key="vision"):
    """A file that is a dict of the splits, each with this value (opcodes) under a key."""
    begin = b"}(" + text("id") + b"](" + text("a") + text("b") + b"e" + text(key) + value + b"u\x94"
    return program(b"}(", text("train"), begin, text("valid"), b"}", text("test"), b"}", b"u")


def laughs(opener, closer, levels=40, width=10):
    """Containers that each hold the one before ten times."""
    parts = [opener, text("ha"), closer, b"\x94"]
    for level in range(levels):
        parts += [opener, (b"h" + bytes([level])) * width, closer, b"\x94"]
    return b"(" + b"".join(parts) + b"t"


def dict_laughs(levels=40, width=10):
    parts = [b"}\x94"]
    for level in range(levels):
        items = b"".join(text(f"k{i}") + b"h" + bytes([level]) for i in range(width))
        parts += [b"}(", items, b"u\x94"]
    return b"(" + b"".join(parts) + b"t"


def raw_array(shape, dtype, data, order=b"\x89", state=(b"<",)):
    """An array spelled opcode by opcode, whatever it declares."""
    shape = b"(" + b"".join(pickle.dumps(size, 2)[2:-1] for size in shape) + b"t"
    kind = text("numpy") + text("dtype") + b"\x93" + text(dtype) + b"\x89\x88\x87R"
    kind += b"(K\x03" + text(state[0].decode()) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    make = text("numpy._core.multiarray") + text("_reconstruct") + b"\x93" + text("numpy") + text("ndarray") + b"\x93"
    make += b"K\x00\x85C\x01b\x87R"
    return make + b"(K\x01" + shape + kind + order + data + b"tb"


def executing(canary):
    """Files that would run something, had they their way; protocol by protocol."""
    touch = f"touch {canary}"
    opens = f"open({str(canary)!r}, 'w')"
    calls = {
        "os.system": Calls(os.system, touch),
        "builtins.eval": Calls(eval, opens),
        "builtins.exec": Calls(exec, opens),
        "open": Calls(open, str(canary), "w"),
        "functools.partial": Calls(functools.partial(os.system, touch)),
        "functools.reduce": Calls(functools.reduce, operator.add, [1, 2]),
        "operator.attrgetter": Calls(operator.attrgetter("system")),
        "operator.methodcaller": Calls(operator.methodcaller("touch")),
        "numpy.load": Calls(np.load, str(canary)),
        "numpy.memmap": Calls(np.memmap, str(canary), "u1", "w+", 0, (4,)),
        "numpy tofile": np.ndarray.tofile,
        "numpy.fromfile": Calls(np.fromfile, str(canary)),
        "numpy generator": np.random.default_rng(0),
        "numpy masked": np.ma.masked_array([1.0]),
        "torch.load": Calls(torch.load, str(canary)),
        "torch tensor": torch.ones(2),
        "OrderedDict": collections.OrderedDict(a=1),
        "defaultdict": collections.defaultdict(list),
        "nested pickle": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "bytearray": Calls(bytearray, 10**10),
    }
    files = {}
    for name, value in calls.items():
        for protocol in range(6) if name in ("os.system", "builtins.eval") else (4,):
            data = pickle.dumps(good() | {"evil": value}, protocol=protocol)
            files[f"{name}, protocol {protocol}"] = data, r"refused to load|protocol 4"
    chain = text("builtins") + text("getattr") + b"\x93" + text("os") + text("system") + b"\x93" + text("x") + b"\x86R"
    files |= {
        "getattr chain": (program(chain), "refused to load builtins.getattr"),
        "pandas-like names": (program(text("pandas.core.frame"), text("DataFrame"), b"\x93)\x81"), "refused to load"),
        "pandas eval": (program(text("pandas"), text("eval"), b"\x93", text(opens[:80]), b"\x85R"), "refused to load"),
        "dotted name": (
            program(text("numpy"), text("ndarray.tofile"), b"\x93"),
            "numpy.ndarray.tofile",
        ),
        "GLOBAL": (b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.", "refused to load os.system"),
        "INST": (b"(S'" + touch.encode() + b"'\nios\nsystem\n.", "refused to load os.system"),
        "OBJ": (b"(cos\nsystem\nS'" + touch.encode() + b"'\no.", "refused to load os.system"),
        "OBJ of an allowed class": (b"(cbuiltins\nlist\no.", "operation OBJ is refused"),
        "NEWOBJ of an allowed class": (program(text("builtins"), text("list"), b"\x93)\x81"), "NEWOBJ is refused"),
        "NEWOBJ_EX": (program(text("numpy"), text("ndarray"), b"\x93)}\x92"), "NEWOBJ_EX is refused"),
        "extension registry": (program(b"\x82\x01"), "operation EXT1 is refused"),
        "persistent id": (program(text("id"), b"Q"), "persistent id"),
        "persistent id as text": (b"Pid\n.", "operation PERSID is refused"),
        "BUILD on an allowed name": (program(text("builtins"), text("list"), b"\x93}b"), "sets the state of a Name"),
        "BUILD on a list": (program(b"]}b"), "sets the state of a list"),
        "BUILD with __class__": (program(b"}", b"N}(", text("__class__"), text("x"), b"u\x86b"), "sets the state"),
        "call of a value": (program(text("os.system"), text(touch[:90]), b"\x85R"), "calls something that is no name"),
        "out-of-band buffer": (program(b"\x97", protocol=5), "operation NEXT_BUFFER is refused"),
    }
    return files


def broken():
    """Files that would take the memory, the time or the sense of a reader that believes them."""
    honest = pickle.dumps(good(), protocol=4)
    huge = struct.pack("<Q", 2**40)
    objects = np.array([{"a": 1}, None], dtype=object)
    itself = []
    itself.append(itself)
    shared = np.zeros(2**16)
    many_long = b"](" + b"X" + struct.pack("<I", 2**16) + b"a" * 2**16 + (b"\x8c\x00" * 2**16) + b"e"
    alike = b"".join(b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") + b"N" for i in range(1, 9))
    large = b"".join(b"J" + struct.pack("<i", i << 20) + b"N" for i in range(9))
    files = {
        "array of objects": (with_entry("vision", objects), "dtype 'O8' is refused"),
        "array of objects as ids": (with_entry("id", objects), "dtype 'O8' is refused"),
        "record dtype": (with_entry("vision", np.zeros(3, [("a", "f4"), ("b", "O")])), "dtype 'V"),
        "dates": (with_entry("vision", np.zeros(3, "M8[s]")), "dtype 'M8"),
        "a dtype that parses for ever": (as_entry(raw_array((2,), "f8," * 60, b"C\x10" + b"a" * 16)), "dtype"),
        "sub-array dtype": (as_entry(raw_array((2,), "(999999,99999)f8", b"C\x10" + b"a" * 16)), "dtype"),
        "declared shape too large": (as_entry(raw_array((2**20, 2**20), "f8", b"C\x10" + b"a" * 16)), "do not hold"),
        "negative shape": (as_entry(raw_array((-1,), "f8", b"C\x10" + b"a" * 16)), "shape"),
        "shape of huge sizes": (as_entry(raw_array((2**62, 4), "f8", b"C\x10" + b"a" * 16)), "shape"),
        "shape of 2**40 nothings": (as_entry(raw_array((2**40, 0), "f8", b"C\x00")), "must have shape"),
        "bytes that do not divide": (as_entry(raw_array((2,), "f8", b"C\x0f" + b"a" * 15)), "do not hold"),
        "byte order that is none": (as_entry(raw_array((2,), "f8", b"C\x10" + b"a" * 16, state=(b"x",))), "cannot be"),
        "array that is never filled": (program(raw_array((2,), "f8", b"C\x10").split(b"(K\x01")[0]), "before all"),
        "text that is no letters": (as_entry(raw_array((2,), "U1", b"C\x08" + b"\xff" * 8), "id"), "no letters"),
        "list that holds itself": (with_entry("vision", itself), LARGER),
        "memoised lists": (as_entry(laughs(b"](", b"e")), LARGER),
        "memoised tuples": (as_entry(laughs(b"(", b"t")), LARGER),
        "memoised dicts": (as_entry(dict_laughs()), LARGER),
        "memoised lists, 12 levels": (as_entry(laughs(b"](", b"e", levels=12)), LARGER),
        "memoised tuples as ids": (as_entry(b"](" + laughs(b"(", b"t") + b"e", "id"), LARGER),
        "tuples as a key": (program(b"}", laughs(b"(", b"t"), b"Ns"), "a key must be text"),
        "an array used 10,000 times": (with_entry("vision", [shared] * 10_000), LARGER),
        "nested 100,000 deep": (program(b"]" * 100_000, b"a" * 99_999), LARGER),
        "nested tuples 100,000 deep": (program(b")", b"\x85" * 100_000), LARGER),
        "marks, 500,000": (program(b"(" * 500_000), LARGER),
        "empty sets, 500,000": (program(b"(", b"\x8f" * 500_000, b"t"), LARGER),
        "empty dicts, 500,000": (program(b"](", b"}" * 500_000, b"e"), LARGER),
        "strings of one long and many": (as_entry(many_long), "must hold numbers, got a str"),
        "keys that share a place": (program(b"}(", alike, b"u"), "a key must be"),
        "large keys": (program(b"}(", large, b"u"), "a key must be"),
        "an unhashable key": (program(b"}]Ns"), "a key must be text"),
        "an unhashable member": (program(b"\x8f(]\x90"), "a key must be text"),
        "LONG4 of 8 million bits": (program(b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6), "128 bits"),
        "LONG1 beyond 128 bits": (with_entry("vision", 2**200), "128 bits"),
        "decimal of 100,000 digits": (b"I" + b"9" * 100_000 + b"\n.", "cannot be read"),
        "memo index of 4 billion": (program(b"]r\xff\xff\xff\xff"), "in a place far"),
        "memo index in text": (b"]p99999999999\n.", "in a place far"),
        "memo that is not there": (program(b"h\x07"), "before it is complete"),
        "a stack that is empty": (program(b"a"), "more values than there are"),
        "an end without a beginning": (program(b"t"), "not begun"),
        "values left over": (program(b"NN"), "left over"),
        "no values": (program(), "left over"),
        "text entry": (with_entry("vision", "x" * 10**6), "must have shape"),
        "huge id": (with_entry("id", ["x" * 10**6, "b", "c"]), "text of at most"),
        "id that cannot be written": (with_entry("id", ["\ud800", "b", "c"]), "text of at most"),
        "id of another kind": (with_entry("id", [{}, "b", "c"]), "must be a list of strings"),
        "ids in a dict": (with_entry("id", {"a": 1}), "must be a list of strings"),
        "rows of different lengths": (with_entry("vision", [[1.0], [1.0, 2.0]]), "rows of different shapes"),
        "labels of text": (with_entry("regression_labels", ["a", "b", "c"]), "must hold numbers"),
        "complex features": (with_entry("vision", np.zeros((3, 4, 4), complex)), "must hold numbers"),
        "a terminal's codes in a name": (program(text("\x1b[2J\n\x07os"), text("system"), b"\x93"), r"\\x1b\[2J"),
        "no pickle at all": (b"\x7fELF" + bytes(range(256)), CUT),
        "empty": (b"", CUT),
        "zeros": (bytes(1000), CUT),
        "a newer protocol's operation": (program(b"\xff"), CUT),
    }
    declared = {"BINUNICODE8": b"\x8d", "BINBYTES8": b"\x8e", "BYTEARRAY8": b"\x96"}
    files |= {f"{name} of 2**40": (program(op + huge + b"abc"), "declared|cut short") for name, op in declared.items()}
    files["FRAME of 2**40"] = program(b"\x95" + huge, b"](h\x00e"), r"."
    files["BINBYTES of 4 GB"] = program(b"B\xff\xff\xff\xffabc"), "declared where"
    files["LONG4 of 2 GB"] = program(b"\x8b\xff\xff\xff\x7fabc"), "declared where"
    for part in range(64):
        files[f"cut at {part}/64"] = honest[: len(honest) * part // 64], r"cut short|cannot be read"
    return files


def honest():
    """Odd files that hold what they say: each must load, with the right values."""
    content = good()
    swapped = {
        key: value.astype(value.dtype.newbyteorder(">")) for key, value in content["train"].items() if key != "id"
    }
    strided = {key: np.asfortranarray(content["train"][key]) for key in ("text", "vision", "audio")}
    files = {f"protocol {protocol}": pickle.dumps(content, protocol=protocol) for protocol in range(5)}
    files["big-endian"] = pickle.dumps(content | {"train": content["train"] | swapped}, protocol=4)
    files["Fortran order"] = pickle.dumps(content | {"train": content["train"] | strided}, protocol=4)
    return files
