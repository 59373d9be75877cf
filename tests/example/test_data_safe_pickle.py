"""A feature file from a stranger: plain arrays load, and nothing else runs."""

import contextlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from dmd.data.safe_pickle import load_object_npy, load_pickle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


class Touch:
    """An object whose pickle runs a shell command when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


class Evaluate:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w')",)


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=hnp.arrays(
        dtype=st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(endianness="?"),
            hnp.floating_dtypes(endianness="?"),
            hnp.unicode_string_dtypes(min_len=1, max_len=4, endianness="?"),
            hnp.byte_string_dtypes(min_len=1, max_len=4),
        ),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    is_fortran=st.booleans(),
    protocol=st.sampled_from([3, 4]),
)
def test_arrays_and_scalars_come_back_as_they_were(tmp_path, array, is_fortran, protocol):
    array = np.asfortranarray(array) if is_fortran else array
    first = array.ravel()[:1]
    content = {"array": array, "nested": [(array, "text", 3, None)], "scalars": list(first), "set": {1, 2}}
    loaded = load_pickle(write(tmp_path / "file.pkl", content, protocol))
    for got in (loaded["array"], loaded["nested"][0][0]):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
    assert loaded["nested"][0][1:] == ("text", 3, None)
    assert loaded["set"] == {1, 2}
    np.testing.assert_array_equal(np.array(loaded["scalars"], array.dtype), first)


def test_files_of_the_older_numpy_load(tmp_path):
    content = {"array": np.arange(3.0), "scalar": np.float32(2)}
    data = pickle.dumps(content, protocol=3)
    assert b"numpy._core.multiarray" in data
    (tmp_path / "old.pkl").write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    loaded = load_pickle(tmp_path / "old.pkl")
    np.testing.assert_array_equal(loaded["array"], np.arange(3.0))
    assert loaded["scalar"] == 2


@pytest.mark.parametrize("kind", [Touch, Evaluate])
@pytest.mark.parametrize("protocol", range(6))
def test_foreign_names_are_refused_before_they_run(tmp_path, kind, protocol):
    canary = tmp_path / "canary"
    path = write(tmp_path / "file.pkl", {"train": np.zeros(2), "evil": kind(canary)}, min(protocol, 4))
    if protocol == 5:
        path = write(tmp_path / "file.pkl", {"evil": kind(canary)}, protocol)
    with pytest.raises(
        ValueError, match=r"refused to load (posix\.system|nt\.system|builtins\.eval|__builtin__\.eval|_codecs)"
    ):
        load_pickle(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (OrderedDict(a=1), r"collections\.OrderedDict"),
        (Path("x"), r"pathlib"),
        (np.random.default_rng(0), r"numpy\.random"),
        (np.load, r"numpy\.load"),
        (np.ndarray.tofile, r"builtins\.getattr"),
        (np.ma.masked_array([1]), r"numpy\.ma"),
    ],
)
def test_refusal_names_what_the_file_asked_for(tmp_path, content, name):
    with pytest.raises(ValueError, match=rf"file\.pkl: .*refused to load {name}"):
        load_pickle(write(tmp_path / "file.pkl", content))


def test_dotted_names_do_not_reach_into_allowed_classes(tmp_path):
    # protocol 4, stack_global: module "numpy", name "ndarray.tofile"
    data = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    (tmp_path / "file.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"refused to load numpy\.ndarray\.tofile"):
        load_pickle(tmp_path / "file.pkl")


def test_protocol_5_arrays_say_how_to_save_them(tmp_path):
    with pytest.raises(ValueError, match=r"refused to load numpy\._core\.numeric\._frombuffer; save .* protocol 4"):
        load_pickle(write(tmp_path / "file.pkl", np.zeros(3), 5))


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, "a"], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="M8[s]"),
    ],
)
def test_arrays_of_objects_and_records_are_refused(tmp_path, array):
    with pytest.raises(ValueError, match="strings of fixed length pass"):
        load_pickle(write(tmp_path / "file.pkl", {"train": array}))


def test_a_crafted_dtype_state_is_refused_or_without_effect(tmp_path):
    class Crafted:
        """A float64 dtype whose pickled state has all flags of an object dtype set, or a sub-array."""

        def __init__(self, subarray: object) -> None:
            self.subarray = subarray

        def __reduce__(self):
            return np.dtype, ("f8", False, True), (3, "<", self.subarray, None, None, -1, -1, 63)

    loaded = load_pickle(write(tmp_path / "flags.pkl", Crafted(None)))
    assert loaded == np.dtype("f8")
    assert not loaded.hasobject
    with pytest.raises(ValueError, match="structured dtype"):
        load_pickle(write(tmp_path / "sub.pkl", Crafted((np.dtype("f8"), (2,)))))


def test_every_cut_of_a_file_is_one_clear_error(tmp_path):
    data = pickle.dumps({"train": {"text": np.arange(6.0).reshape(2, 3), "id": ["a", "b"]}}, protocol=4)
    path = tmp_path / "cut.pkl"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.pkl: ") as caught:
            load_pickle(path)
        assert "\n" not in str(caught.value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_never_breaks_anything_but_the_load(tmp_path, position, value):
    data = bytearray(pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1), "x"]}, protocol=4))
    data[position % len(data)] = value
    (tmp_path / "file.pkl").write_bytes(bytes(data))
    with contextlib.suppress(ValueError):  # and nothing but a ValueError
        load_pickle(tmp_path / "file.pkl")


@pytest.mark.parametrize("data", [b"", b"hello\nworld\n", b"\x00" * 20, b"PK\x03\x04"])
def test_what_is_no_pickle_is_one_clear_error(tmp_path, data):
    (tmp_path / "no.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"no\.pkl: (the file is cut short|cannot be read)"):
        load_pickle(tmp_path / "no.pkl")


def test_arrays_of_objects_load_without_their_pickle_running(tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "objects.npy"
    content = {"X": [np.ones((2, 3)), np.zeros((4, 3))], "y": np.arange(2), "names": ["a", "b"]}
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    loaded = load_object_npy(path)
    assert loaded.keys() == content.keys()
    np.testing.assert_array_equal(loaded["X"][1], content["X"][1])
    nested = np.empty(2, object)
    nested[:] = [np.arange(3), "text"]
    np.save(path, nested, allow_pickle=True)
    np.testing.assert_array_equal(load_object_npy(path)[0], np.arange(3))
    for value in (Touch(canary), Evaluate(canary)):
        np.save(path, np.array({"X": value}, dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match=r"objects\.npy: cannot be read .*refused to load"):
            load_object_npy(path)
    assert not canary.exists()
    for content in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"objects\.npy"):
            load_object_npy(path)
