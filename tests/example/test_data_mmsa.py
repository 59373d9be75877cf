"""The reader of MMSA feature files: sizes, lengths, absent modalities, labels, and an error for every fault."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dmd.data import load

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZES = {"train": 5, "valid": 3, "test": 4}


def entries(size: int, seed: int = 0) -> dict:
    """One split with every key of the format: text 6 x 4, audio 9 x 3, vision 7 x 2 (all steps real)."""
    generator = np.random.default_rng(seed)
    return {
        "raw_text": np.array([f"words {i}" for i in range(size)]),
        "id": [f"video$_${i}" for i in range(size)],
        "text": generator.normal(size=(size, 6, 4)).astype(np.float32),
        "text_bert": np.stack([np.ones((size, 6))] * 3, axis=1).astype(np.float32),
        "audio": generator.normal(size=(size, 9, 3)).astype(np.float32),
        "vision": generator.normal(size=(size, 7, 2)),
        "audio_lengths": [9] * size,
        "vision_lengths": [7] * size,
        "annotations": np.array(["Neutral"] * size),
        "classification_labels": np.arange(size) % 3.0,
        "regression_labels": np.linspace(-3, 3, size).astype(np.float32),
    }


@pytest.fixture
def content() -> dict:
    return {split: entries(size, seed) for seed, (split, size) in enumerate(SIZES.items())}


@pytest.fixture
def read(tmp_path, content) -> Callable:
    """Write the content as it is now, and load it."""

    def write_and_load(**options):
        path = tmp_path / "file.pkl"
        path.write_bytes(pickle.dumps(content, protocol=4))
        return load(str(path), **options)

    return write_and_load


def lengths(recordings, split: str, name: str) -> list[int]:
    return [len(steps) for steps in recordings.splits[split].inputs[name]]


def test_a_whole_file(read, content):
    recordings = read()
    assert recordings.names == ("language", "vision", "acoustic")
    assert recordings.dims == {"language": 4, "vision": 2, "acoustic": 3}
    assert recordings.sizes == SIZES
    assert (recordings.task, recordings.metrics, recordings.classes) == ("regression", "mosi", ())
    assert recordings.label_range == (-3.0, 3.0)
    assert len(recordings.sha256) == 64
    train = recordings.splits["train"]
    assert train.ids == content["train"]["id"]
    assert train.labels.dtype == np.float32
    for name, key in (("language", "text"), ("vision", "vision"), ("acoustic", "audio")):
        np.testing.assert_array_equal(np.stack(train.inputs[name]), content["train"][key].astype(np.float32))
        assert train.inputs[name][0].dtype == np.float32


def test_lengths_come_from_the_file_the_attention_mask_or_the_trailing_zeros(read, content):
    train = content["train"]
    train["audio_lengths"] = [1, 9, 4, 5, 6]
    train["text_bert"][0, 1, 3:] = 0  # three word pieces, though text has numbers beyond them
    for split in content.values():
        del split["vision_lengths"]
    train["vision"][1, 4:] = 0
    train["vision"][2, 2:4] = 0  # zero frames between real ones are kept
    recordings = read()
    assert lengths(recordings, "train", "acoustic") == [1, 9, 4, 5, 6]
    assert lengths(recordings, "train", "language") == [3, 6, 6, 6, 6]
    assert lengths(recordings, "train", "vision") == [7, 4, 7, 7, 7]


def test_text_without_token_ids_goes_by_trailing_zeros(read, content):
    for split in content.values():
        del split["text_bert"]
    content["test"]["text"][3, 2:] = 0
    assert lengths(read(), "test", "language") == [6, 6, 6, 2]


def test_an_all_zero_modality_is_absent(read, content):
    content["train"]["audio"][2] = 0
    content["train"]["text"][0] = 0
    content["train"]["vision"][1] = np.nan  # replaced by zero, so absent too
    with pytest.warns(UserWarning, match="14 in 'vision'"):
        recordings = read()
    assert lengths(recordings, "train", "acoustic") == [9, 9, 0, 9, 9]
    assert lengths(recordings, "train", "language") == [0, 6, 6, 6, 6]
    assert lengths(recordings, "train", "vision") == [7, 0, 7, 7, 7]
    assert recordings.splits["train"].inputs["acoustic"][2].shape == (0, 3)


def test_nan_and_infinity_are_replaced_and_counted_in_one_warning(read, content):
    content["train"]["audio"][0, 0, 0] = -np.inf
    content["test"]["audio"][1, 2, :2] = np.nan
    content["valid"]["vision"][0, 0, 0] = np.inf
    content["valid"]["vision"][0, 1, 0] = 1e300  # beyond float32
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recordings = read()
    assert len(caught) == 1
    assert "3 in 'audio'" in str(caught[0].message)
    assert "2 in 'vision'" in str(caught[0].message)
    assert "text" not in str(caught[0].message)
    assert recordings.splits["train"].inputs["acoustic"][0][0, 0] == 0
    for split in recordings.splits.values():
        assert all(np.isfinite(steps).all() for arrays in split.inputs.values() for steps in arrays)


def test_a_file_may_lack_modalities_and_unneeded_keys(read, content):
    for split in content.values():
        for key in ("vision", "vision_lengths", "raw_text", "annotations", "classification_labels", "audio_lengths"):
            del split[key]
    assert read().names == ("language", "acoustic")


def test_nan_labels_are_unlabelled(read, content):
    content["train"]["regression_labels"][1] = np.nan
    assert np.isnan(read().splits["train"].labels).tolist() == [False, True, False, False, False]
    content["train"]["classification_labels"][1] = np.nan
    content["train"]["classification_labels"][2] = -100
    assert read(task="classification").splits["train"].labels.tolist() == [0, -100, -100, 0, 1]


@pytest.mark.parametrize("options", [{"task": "classification"}, {"metrics": "accuracy"}])
def test_forced_classification(read, options):
    recordings = read(**options)
    assert (recordings.task, recordings.metrics) == ("classification", "accuracy")
    assert recordings.classes == ("negative", "neutral", "positive")
    assert recordings.label_range is None
    assert recordings.splits["train"].labels.dtype == np.int64


def test_without_real_labels_it_is_classification(read, content):
    for split in content.values():
        del split["regression_labels"]
    assert read().task == "classification"


def test_sims_is_known_by_its_range_and_its_labels_of_single_modalities(read, content):
    for split in content.values():
        split["regression_labels"] = split["regression_labels"] / 3
    assert read().metrics == "mosi"
    assert read(metrics="sims").label_range == (-1.0, 1.0)
    for split in content.values():
        for letter in "TAV":
            split[f"regression_labels_{letter}"] = split["regression_labels"]
    assert (read().metrics, read().label_range) == ("sims", (-1.0, 1.0))
    assert read(metrics="mosi").metrics == "mosi"
    content["test"]["regression_labels"][0] = 1.5
    assert read().metrics == "mosi"


def drop(split: str, key: str) -> Callable:
    return lambda content: content[split].pop(key)


def put(split: str, key: str, value: Callable | object) -> Callable:
    def change(content: dict) -> None:
        content[split][key] = value(content[split][key]) if callable(value) else value

    return change


def at(position: object, value: object) -> Callable:
    def change(array):
        array = np.array(array)
        array[position] = value
        return array

    return change


FAULTS = [
    (lambda content: content.pop("valid"), "'valid' is missing"),
    (lambda content: content.update(test=[1]), "'test' is missing"),
    (drop("valid", "regression_labels"), "split 'valid' lacks the key 'regression_labels'"),
    (drop("test", "vision"), "split 'test' lacks the key 'vision'"),
    (drop("train", "text"), "split 'train' lacks the key 'text'"),
    (drop("train", "id"), "split 'train' lacks the key 'id'"),
    (
        put("train", "text", lambda x: x[:4]),
        r"split 'train', key 'text': must have shape \(5, time, dim\), got \(4, 6, 4\)",
    ),
    (
        put("test", "audio", lambda x: x[0]),
        r"split 'test', key 'audio': must have shape \(4, time, dim\), got \(9, 3\)",
    ),
    (put("test", "audio", lambda x: x[:, :0]), r"key 'audio': must have shape .*, got \(4, 0, 3\)"),
    (put("test", "audio", lambda x: x[:, :, :2]), r"'audio' must be equally wide in every split, got .*'test': 2"),
    (
        put("valid", "regression_labels", lambda x: x[:2]),
        r"split 'valid', key 'regression_labels': must have shape \(3,\)",
    ),
    (put("valid", "regression_labels", at(1, 3.5)), r"split 'valid', key 'regression_labels': .*\[-3, 3\] .*got 3\.5"),
    (put("valid", "regression_labels", at(1, -np.inf)), r"split 'valid', key 'regression_labels': .*got -inf"),
    (put("train", "audio_lengths", at(2, 10)), r"split 'train', key 'audio_lengths': .*1 to 9, .*got 10"),
    (put("train", "audio_lengths", at(2, 0)), r"split 'train', key 'audio_lengths': .*got 0"),
    (put("train", "audio_lengths", [2.5, 1, 1, 1, 1]), r"key 'audio_lengths': must hold whole numbers .*got 2\.5"),
    (put("train", "audio_lengths", [9, 9]), r"split 'train', key 'audio_lengths': must have shape \(5,\), got \(2,\)"),
    (put("valid", "text_bert", lambda x: x[:, :2]), r"'text_bert': must have shape \(3, 3, 6\), got \(3, 2, 6\)"),
    (put("valid", "text_bert", lambda x: x[..., :5]), r"'text_bert': must have shape \(3, 3, 6\), got \(3, 3, 5\)"),
    (put("train", "vision", lambda x: x.astype("U4")), "split 'train', key 'vision': must hold numbers, got dtype <U4"),
    (put("train", "vision", lambda x: [[1.0], [1.0, 2.0]]), "key 'vision': must be one array"),
    (put("train", "id", None), "split 'train', key 'id': must be a list of strings, got None"),
    (put("train", "id", []), "split 'train' has no samples"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_every_fault_is_named(read, content, fault, message):
    fault(content)
    with pytest.raises(ValueError, match=r"file\.pkl: .*" + message) as caught:
        read()
    assert "\n" not in str(caught.value)


def test_faults_of_forced_tasks(read, content):
    with pytest.raises(ValueError, match=r"key 'regression_labels': .*\[-1, 1\] \(metrics 'sims'\), got -3"):
        read(metrics="sims")
    with pytest.raises(ValueError, match="'accuracy' goes with task 'classification' only"):
        read(task="regression", metrics="accuracy")
    with pytest.raises(ValueError, match="'accuracy' goes with task 'classification' only"):
        read(task="classification", metrics="mosi")
    content["valid"]["classification_labels"][0] = 3
    with pytest.raises(ValueError, match="split 'valid', key 'classification_labels': labels must be 0, 1 or 2, got 3"):
        read(task="classification")
    content["valid"]["classification_labels"][0] = 0.5
    with pytest.raises(ValueError, match=r"got 0\.5"):
        read(task="classification")
    for split in content.values():
        for key in ("text", "vision", "audio"):
            del split[key]
    with pytest.raises(ValueError, match="none of the keys 'text', 'vision', 'audio'"):
        read()


def test_a_pickle_of_something_else(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2], protocol=4))
    with pytest.raises(ValueError, match="must hold a dict of the splits"):
        load(str(tmp_path / "list.pkl"))


@pytest.mark.parametrize(
    ("file", "sizes", "dims"),
    [
        ("mosi400/unaligned_50.pkl", (276, 26, 98), {"language": 384, "vision": 69, "acoustic": 35}),
        ("mosi2199/language_acoustic.pkl", (1221, 226, 752), {"language": 128, "acoustic": 73}),
        ("mmmo120/aligned_20.pkl", (72, 16, 32), {"language": 300, "vision": 36, "acoustic": 74}),
    ],
)
def test_real_files(file, sizes, dims):
    if not (SHARED / file).exists():
        pytest.skip(f"the feature file {file} is not on this machine")
    recordings = load(str(SHARED / file))
    assert tuple(recordings.sizes.values()) == sizes
    assert recordings.dims == dims
    assert (recordings.task, recordings.metrics) == ("regression", "mosi")
    for split in recordings.splits.values():
        assert len(set(split.ids)) == len(split.ids)
        for name, arrays in split.inputs.items():
            assert len(arrays) == len(split.ids)
            assert all(steps.ndim == 2 and steps.shape[1] == dims[name] and len(steps) > 0 for steps in arrays)
