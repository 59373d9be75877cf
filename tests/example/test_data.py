"""Loading by name, ragged files, the shipped recordings, the synthetic ones, and batches."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from dmd.data import Split, collate, load, make_loader, standardization_statistics, synthetic
from dmd.data.smartwatch import PATH, PEOPLE
from hypothesis import given, settings
from hypothesis import strategies as st

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def means(split: Split, name: str) -> np.ndarray:
    return np.stack([steps.mean(axis=0) if len(steps) else np.zeros(steps.shape[1]) for steps in split.inputs[name]])


# Names and paths


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


# The shipped recordings


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


# Ragged sequences


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


# Synthetic recordings


def test_the_same_seed_draws_the_same_recordings():
    assert load("synthetic", seed=3).sha256 == load("synthetic", seed=3).sha256
    assert load("synthetic", seed=3).sha256 != load("synthetic", seed=4).sha256


def test_synthetic_defaults_are_small_ragged_and_sometimes_absent():
    recordings = load("synthetic")
    assert recordings.names == ("language", "vision", "acoustic")
    assert len(set(recordings.dims.values())) == 3
    for arrays in recordings.splits["train"].inputs.values():
        lengths = {len(steps) for steps in arrays}
        assert 0 in lengths
        assert len(lengths) > 3


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_the_correlation_with_the_label(seed):
    reliability = {"language": 0.9, "vision": 0.6, "acoustic": 0.0}
    recordings = synthetic((2000, 2, 2), reliability=reliability, absent=0.0, seed=seed)
    train = recordings.splits["train"]
    for name, wanted in reliability.items():
        columns = np.c_[means(train, name), np.ones(2000)]
        fitted = columns @ np.linalg.lstsq(columns, train.labels, rcond=None)[0]
        assert abs(np.corrcoef(fitted, train.labels)[0, 1] - wanted) < 0.1


def test_private_signal_is_in_one_modality_only():
    train = synthetic((2000, 2, 2), reliability={"left": 0.5, "right": 0.5}, absent=0.0).splits["train"]
    wave = np.sin(2 * np.pi * np.arange(16) / 8)
    styles = {}
    for name, arrays in train.inputs.items():
        projected = np.stack([wave[: len(steps)] @ (steps - steps.mean(axis=0)) / len(steps) for steps in arrays])
        values, vectors = np.linalg.eigh(np.cov(projected.T))
        assert values[-1] > 3 * values[-2]  # one direction carries the style
        styles[name] = projected @ vectors[:, -1]
    assert abs(np.corrcoef(styles["left"], styles["right"])[0, 1]) < 0.1
    assert abs(np.corrcoef(styles["left"], train.labels)[0, 1]) < 0.1


def test_synthetic_classes_absence_and_missing_labels():
    recordings = synthetic((300, 30, 30), task="classification", absent=0.9, unlabelled=0.5)
    assert (recordings.metrics, recordings.classes) == ("accuracy", ("negative", "neutral", "positive"))
    labels = recordings.splits["train"].labels
    assert 100 < (labels == -100).sum() < 200
    assert np.bincount(labels[labels >= 0]).min() > 30
    assert (recordings.splits["test"].labels >= 0).all()
    present = np.stack([[len(steps) > 0 for steps in arrays] for arrays in recordings.splits["train"].inputs.values()])
    assert present.any(axis=0).all()
    assert 0.3 < present.mean() < 0.5
    assert np.isnan(synthetic(unlabelled=1.0).splits["train"].labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reliability": {"a": 1.5}}, r"a must lie in \[0, 1\], got 1.5"),
        ({"reliability": {}}, "at least one modality"),
        ({"absent": -0.1}, r"absent must lie in \[0, 1\]"),
        ({"dims": {"vision": 1}}, "'vision' needs at least 2 columns"),
        ({"task": "other"}, "task must be"),
    ],
)
def test_synthetic_faults(options, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**options)


# Batches


@st.composite
def splits(draw) -> Split:
    size = draw(st.integers(1, 7))
    dims = draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 3), min_size=1))
    lengths = {name: draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)) for name in dims}
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    inputs = {
        name: [generator.normal(size=(length, dims[name])).astype(np.float32) for length in lengths[name]]
        for name in dims
    }
    labels = generator.normal(size=size).astype(np.float32) if draw(st.booleans()) else generator.integers(0, 3, size)
    return Split([str(i) for i in range(size)], inputs, labels)


@settings(max_examples=60, deadline=None)
@given(split=splits(), batch_size=st.integers(1, 8), shuffle=st.booleans())
def test_batches_hold_every_sample_once_padded_and_masked(split, batch_size, shuffle):
    seen = []
    for batch in make_loader(split, batch_size, shuffle=shuffle, seed=1):
        seen += batch.index.tolist()
        for name, arrays in split.inputs.items():
            x, mask = batch.inputs[name], batch.masks[name]
            assert x.dtype == torch.float32
            assert mask.dtype == torch.bool
            longest = max(1, *(len(arrays[i]) for i in batch.index))
            assert tuple(x.shape) == (len(batch.index), longest, arrays[0].shape[1])
            for row, position in enumerate(batch.index):
                length = len(arrays[position])
                np.testing.assert_array_equal(x[row, :length], arrays[position])
                assert (x[row, length:] == 0).all()
                assert mask[row].tolist() == [True] * length + [False] * (longest - length)
        np.testing.assert_array_equal(batch.labels, split.labels[batch.index])
        assert batch.labels.numpy().dtype == split.labels.dtype
    assert sorted(seen) == list(range(len(split)))


def test_the_order_depends_on_the_seed_alone():
    split = load("synthetic").splits["train"]

    def order(loader) -> list[int]:
        return torch.cat([batch.index for batch in loader]).tolist()

    first = make_loader(split, 16, shuffle=True, seed=5)
    torch.manual_seed(0)
    epochs = [order(first), order(first)]
    torch.manual_seed(1)
    assert order(make_loader(split, 16, shuffle=True, seed=5)) == epochs[0]
    assert epochs[0] != epochs[1]
    assert order(make_loader(split, 16, shuffle=True, seed=6)) != epochs[0]
    assert order(make_loader(split, 16)) == list(range(192))


def test_batch_faults():
    split = synthetic((6, 1, 1)).splits["train"]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        make_loader(split, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        collate(split, [])
    with pytest.raises(ValueError, match="an empty one"):
        make_loader(Split([], {}, np.zeros(0)), 2)


def test_standardization_uses_real_steps_and_spares_constant_columns():
    long = np.array([[1.0, 5, 0.1], [3.0, 5, 0.1], [5.0, 5, 0.1]], np.float32)
    inputs = {"a": [long, np.empty((0, 3), np.float32), long[:1] + np.float32([10, 0, 0])], "b": [np.empty((0, 2))] * 3}
    statistics = standardization_statistics(Split(list("xyz"), inputs, np.zeros(3)))
    mean, std = statistics["a"]
    np.testing.assert_allclose(mean, [5, 5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(std, [np.std([1, 3, 5, 11]), 1, 1], rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_array_equal(statistics["b"], ([0, 0], [1, 1]))


def test_standardization_leaves_rounding_noise_small():
    noise = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 1e-9]
    _, std = standardization_statistics(Split(["x"], {"a": [noise]}, np.zeros(1)))["a"]
    assert std[3] == 1
    assert (std[:3] != 1).all()


def test_centred_statistics_are_those_around_each_samples_mean():
    samples = [np.array([[1.0], [3.0]], np.float32), np.zeros((0, 1), np.float32), np.array([[10.0]], np.float32)]
    split = Split(list("xyz"), {"a": samples}, np.zeros(3))
    mean, std = standardization_statistics(split, centred=True)["a"]
    assert mean == pytest.approx(14 / 3)
    assert std == pytest.approx((2 / 3) ** 0.5)
    empty = Split(["y"], {"a": samples[1:2]}, np.zeros(1))
    assert standardization_statistics(empty, centred=True)["a"][1] == 1
