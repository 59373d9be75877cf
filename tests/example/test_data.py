"""Loading by name, ragged files, the shipped recordings, the synthetic ones, and batches."""

import numpy as np
import pytest
from dmd.data import load
from dmd.data.smartwatch import PATH, PEOPLE


@pytest.mark.parametrize("name", ["moseley", "smartwatch.csv", "", "data"])
def test_an_unknown_name_lists_what_is_possible(name):
    with pytest.raises(ValueError, match=r"must be 'smartwatch', 'synthetic', the path of .* or its URL, got"):
        load(name)


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_a_missing_file(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=f"no data file at .*missing{suffix}"):
        load(str(tmp_path / f"missing{suffix}"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetic", {"task": "ranking"}, "task must be 'regression' or 'classification', got 'ranking'"),
        ("synthetic", {"metrics": "f1"}, "metrics must be 'mosi', 'sims' or 'accuracy', got 'f1'"),
        ("synthetic", {"metrics": "sims"}, "'mosi' or 'accuracy', got 'sims'"),
        ("synthetic", {"task": "regression", "metrics": "accuracy"}, "goes with task 'classification' only"),
        ("synthetic", {"task": "classification", "metrics": "mosi"}, "goes with task 'classification' only"),
        ("smartwatch", {"task": "regression"}, "smartwatch holds classes"),
        ("smartwatch", {"metrics": "mosi"}, "smartwatch holds classes"),
    ],
)
def test_what_cannot_be_forced(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def test_smartwatch():
    recordings = load("smartwatch")
    assert recordings.sizes == {"train": 1043, "valid": 246, "test": 364}
    assert recordings.dims == {"accelerometer": 3, "gyroscope": 3}
    assert (recordings.task, recordings.metrics, recordings.label_range) == ("classification", "accuracy", None)
    assert len(recordings.classes) == 7
    ids = [sample_id for split in recordings.splits.values() for sample_id in split.ids]
    assert len(set(ids)) == len(ids)
    for split in recordings.splits.values():
        assert split.labels.dtype == np.int64
        assert set(split.labels) == set(range(7))
        assert all(steps.shape == (100, 3) for arrays in split.inputs.values() for steps in arrays)
    gravity = np.linalg.norm(np.concatenate(recordings.splits["train"].inputs["accelerometer"]), axis=1)
    assert 0.9 < np.median(gravity) < 1.2


def test_smartwatch_people_are_in_one_split_each():
    with np.load(PATH) as file:
        person, exercise = file["person"], file["exercise"]
    assert sorted(sum(PEOPLE.values(), ())) == sorted(set(person.tolist()))
    recordings = load("smartwatch")
    for name, split in recordings.splits.items():
        numbers = [int(sample_id[len("recording") :][:3]) for sample_id in split.ids]
        assert set(person[numbers].tolist()) == set(PEOPLE[name])
        np.testing.assert_array_equal(split.labels, exercise[numbers])


def test_smartwatch_file_is_small_and_attributed():
    assert PATH.stat().st_size <= 1_500_000
    licence = (PATH.parent / "LICENSE.md").read_text()
    assert "seglearn 1.2.5" in licence
    assert "Redistribution" in licence
