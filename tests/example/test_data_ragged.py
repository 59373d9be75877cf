"""Ragged files: as they are written, and everything that can be wrong with one."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from dmd.data import load

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Six recordings of the people 1, 2, 3, 4, 7, 8; the second modality is absent in the third recording."""
    return {
        "left": np.arange(24, dtype=np.float32).reshape(12, 2),
        "left_offsets": np.array([0, 2, 4, 6, 8, 10, 12]),
        "right": np.ones((5, 3), np.float16),
        "right_offsets": np.array([0, 1, 2, 2, 3, 4, 5]),
        "action": np.array([1, 2, 1, 2, 1, 2]),
        "subject": np.array([1, 2, 3, 4, 7, 8]),
    }


def save(path: Path, arrays: dict) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_ragged(tmp_path, arrays):
    recordings = load(save(tmp_path / "file.npz", arrays))
    assert recordings.sizes == {"train": 2, "valid": 1, "test": 3}
    assert recordings.dims == {"left": 2, "right": 3}
    assert recordings.classes == ("1", "2")
    train = recordings.splits["train"]
    assert train.ids == ["0", "2"]
    assert train.labels.tolist() == [0, 0]
    assert [len(steps) for steps in train.inputs["right"]] == [1, 0]
    np.testing.assert_array_equal(train.inputs["left"][1], [[8, 9], [10, 11]])
    assert train.inputs["right"][0].dtype == np.float32


def test_ragged_with_names_splits_and_real_labels(tmp_path, arrays):
    arrays |= {
        "ids": np.array(list("abcdef")),
        "classes": np.array(["none", "walk", "run"]),
        "split": np.array(["test", "train", "valid", "train", "train", "test"]),
    }
    recordings = load(save(tmp_path / "file.npz", arrays))
    assert recordings.classes == ("none", "walk", "run")
    assert recordings.splits["train"].ids == ["b", "d", "e"]
    assert recordings.splits["train"].labels.tolist() == [2, 2, 1]
    arrays["regression_labels"] = np.array([0.5, np.nan, -1, 1, 0, 0.25])
    path = save(tmp_path / "file.npz", arrays)
    recordings = load(path)
    assert (recordings.task, recordings.metrics, recordings.classes) == ("regression", "mosi", ())
    np.testing.assert_array_equal(recordings.splits["train"].labels, np.array([np.nan, 1, 0], np.float32))
    assert load(path, metrics="sims").label_range == (-1.0, 1.0)
    assert load(path, task="classification").task == "classification"


def test_ragged_recordings_without_a_class(tmp_path, arrays):
    arrays["action"][:3] = [-100, 5, -100]
    splits = load(save(tmp_path / "file.npz", arrays)).splits
    assert (splits["train"].labels.tolist(), splits["valid"].labels.tolist()) == ([-100, -100], [0])
    arrays["classes"] = np.array(list("abcdef"))
    splits = load(save(tmp_path / "file.npz", arrays)).splits
    assert (splits["train"].labels.tolist(), splits["test"].labels.tolist()) == ([-100, -100], [5, 2, 2])


def test_ragged_replaces_nan_with_one_warning(tmp_path, arrays):
    arrays["left"][0, 0] = np.nan
    arrays["left"][5] = np.inf
    with pytest.warns(UserWarning, match="replaced by 0: 3 in 'left'"):
        recordings = load(save(tmp_path / "file.npz", arrays))
    assert recordings.splits["train"].inputs["left"][0][0].tolist() == [0, 1]


RAGGED_FAULTS = [
    ({"action": None}, "lacks the key 'action'"),
    ({"subject": None}, "lacks the key 'subject'"),
    ({"left": None}, "lacks the key 'left' that 'left_offsets' belongs to"),
    ({"left_offsets": None, "right_offsets": None}, "has no key '<modality>_offsets'; got"),
    ({"action": np.array([1, 2])}, r"key 'subject': must have shape \(2,\), got \(6,\)"),
    ({"action": np.zeros(6)}, "key 'action': must hold whole numbers, got dtype float64"),
    ({"left": np.zeros(12)}, r"key 'left': must be numbers \(steps, dim\), got float64 \(12,\)"),
    ({"left_offsets": np.array([0, 2, 4, 3, 8, 10, 12])}, "key 'left_offsets': must rise from 0 to 12"),
    ({"left_offsets": np.array([0, 2, 4, 6, 8, 10, 13])}, "key 'left_offsets': must rise from 0 to 12"),
    ({"left_offsets": np.array([0, 12])}, r"key 'left_offsets': must have shape \(7,\), got \(2,\)"),
    ({"subject": np.array([1, 2, 3, 4, 5, 8])}, "split 'valid' has no samples"),
    ({"split": np.array(["train"] * 5 + ["dev"])}, "key 'split': must be 'train', 'valid' or 'test', got 'dev'"),
    ({"classes": np.array(["a", "b"])}, "key 'action': must lie in 0 to 1, got 2"),
    ({"regression_labels": np.full(6, 4.0)}, r"'regression_labels': labels must lie in \[-3, 3\] .*got 4"),
    ({"left": np.array([[None, 1]] * 12, dtype=object)}, r"cannot be read as \.npz: .*allow_pickle"),
]


@pytest.mark.parametrize(("changes", "message"), RAGGED_FAULTS)
def test_every_ragged_fault_is_named(tmp_path, arrays, changes, message):
    arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=r"file\.npz.*" + message):
        load(save(tmp_path / "file.npz", arrays))


def test_a_ragged_file_that_is_damaged_or_hides_a_pickle(tmp_path, arrays):
    path = Path(save(tmp_path / "file.npz", arrays))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        load(str(path))

    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'canary'}",)

    path.write_bytes(pickle.dumps(Touch()))
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        load(str(path))
    assert not (tmp_path / "canary").exists()


def test_utd_mhad():
    path = SHARED / "utd_mhad" / "utd_mhad.npz"
    if not path.exists():
        pytest.skip("the UTD-MHAD file is not on this machine")
    recordings = load(str(path))
    assert recordings.sizes == {"train": 323, "valid": 108, "test": 430}
    assert recordings.dims == {"skeleton": 60, "inertial": 6, "depth": 32}
    assert len(recordings.classes) == 27
    people = {name: {i.split("_")[1] for i in split.ids} for name, split in recordings.splits.items()}
    assert people == {"train": {"s1", "s3", "s5"}, "valid": {"s7"}, "test": {"s2", "s4", "s6", "s8"}}
