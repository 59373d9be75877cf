"""A folder with one .npy a modality and labels: what is read of it, which split is drawn, and what each fault says."""

import os
import warnings

import convert as command
import numpy as np
import predict
import pytest
import train
from dmd.data import load
from dmd.data.array_columns import read_columns
from dmd.data.drawn_split import by_groups, stratified

SPLITS = ["train", "train", "valid", "valid", "test", "test"]


@pytest.fixture
def folder(tmp_path):
    """Six samples of two classes with a split: `vision` of up to three steps, `text` of one."""
    source = tmp_path / "mine"
    source.mkdir()
    np.save(source / "vision.npy", np.arange(1, 37, dtype=np.float64).reshape(6, 3, 2))
    np.save(source / "text.npy", np.arange(1, 25).reshape(6, 4))
    np.save(source / "labels.npy", np.array(["sad", "glad"] * 3))
    np.save(source / "split.npy", np.array(SPLITS))
    return source


def write(folder, name, content):
    """A file of the folder: CSV as text, arrays as .npy; None takes it away."""
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, str | bytes):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        np.save(folder / name, content)


def steps_of(recordings, name):
    return [array.tolist() for split in recordings.splits.values() for array in split.inputs[name]]


def test_arrays_and_class_names(folder):
    recordings = load(str(folder))
    assert recordings.dims == {"text": 4, "vision": 2}
    assert recordings.classes == ("glad", "sad")
    assert [split.labels.tolist() for split in recordings.splits.values()] == [[1, 0]] * 3
    assert [split.ids for split in recordings.splits.values()] == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert steps_of(recordings, "text")[1] == [[5, 6, 7, 8]]
    assert steps_of(recordings, "vision")[5] == [[31, 32], [33, 34], [35, 36]]
    assert recordings.overview() == (
        "samples: 2 train, 2 valid, 2 test; classification: glad, sad\n"
        "text: 1 step of 4 numbers\n"
        "vision: 3 steps of 2 numbers"
    )


def test_file_and_folder_and_shards_are_the_same_recordings(folder, tmp_path, capsys):
    targets = [tmp_path / "out.npz", tmp_path / "shards"]
    assert [command.main([str(folder), str(target)]) for target in targets] == [0, 0]
    assert capsys.readouterr().out.startswith(f"wrote {targets[0]}\nsamples: 2 train, 2 valid, 2 test; ")
    direct = load(str(folder))
    for other in map(load, map(str, targets)):
        assert (other.dims, other.classes, other.sizes) == (direct.dims, direct.classes, direct.sizes)
        assert steps_of(other, "vision") == steps_of(direct, "vision")


@pytest.mark.parametrize("value", [0, np.nan])
def test_padding_is_left_out_and_a_padded_sample_is_absent(folder, value):
    vision = np.load(folder / "vision.npy")
    vision[0, 1:] = value
    vision[1] = value
    vision[2, 0] = 0  # no padding: something follows
    write(folder, "vision.npy", vision)
    recordings = load(str(folder))
    assert [len(steps) for steps in steps_of(recordings, "vision")] == [1, 0, 3, 3, 3, 3]
    assert steps_of(recordings, "vision")[2][0] == [0, 0]
    assert "vision: 1 to 3 steps of 2 numbers; absent in 1" in recordings.overview()


def test_lengths_decide_where_they_are_given(folder):
    vision = np.load(folder / "vision.npy")
    vision[0, 2], vision[1, 1:] = np.inf, 0
    write(folder, "vision.npy", vision)
    write(folder, "vision_lengths.npy", np.array([2, 3, 0, 1, 3, 3]))
    recordings = load(str(folder))
    assert [len(steps) for steps in steps_of(recordings, "vision")] == [2, 3, 0, 1, 3, 3]


@pytest.mark.parametrize(
    ("labels", "task", "classes", "of_train"),
    [
        (np.array([0.5, np.nan, -1, 3, 2, 1]), None, (), [0.5, np.nan]),
        (np.array([[0.5], [1], [-1], [3], [2], [1]]), None, (), [0.5, 1]),
        (np.array([10, -100, 9, 10, 9, 9]), None, ("9", "10"), [1, -100]),
        (np.array([1.0, np.nan, 2, 1, 2, 1]), "classification", ("1", "2"), [0, -100]),
        (np.array([1, -2, 2, 1, 2, 1]), "regression", (), [1, -2]),
        (np.array([True, False] * 3), None, ("0", "1"), [1, 0]),
        ("label\n10\n\n9\n10\n9\n9\n10\n", None, ("9", "10"), [1, 0]),
        ("label,said\nglad,yes\n,no\nsad,a\nsad,b\nsad,c\nsad,d\n", None, ("glad", "sad"), [0, -100]),
        ('label\n-0.5\n""\n1\n1\n1\n1\n', None, (), [-0.5, np.nan]),
        ("\ufeffvalue\n1.5\n2\n1\n1\n1\n1\n", None, (), [1.5, 2]),
    ],
)
def test_what_labels_may_be(folder, labels, task, classes, of_train):
    write(folder, "labels.npy", None)
    write(folder, "labels.csv" if isinstance(labels, str) else "labels.npy", labels)
    recordings = load(str(folder), task=task)
    assert recordings.task == ("classification" if classes else "regression")
    assert recordings.classes == classes
    np.testing.assert_array_equal(recordings.splits["train"].labels, np.array(of_train, np.float32))


def test_files_with_ids_are_put_into_one_order(folder):
    write(folder, "labels.npy", None)
    write(folder, "split.npy", None)
    write(folder, "ids.npy", np.array([11, 12, 13, 14, 15, 16]))
    write(folder, "labels.csv", "label,id\nx,16\nz,15\nx,14\nz,13\nx,12\nz,11\n")
    write(folder, "splits.csv", "id,split\n" + "".join(f"{11 + i},{SPLITS[i]}\n" for i in (3, 1, 4, 0, 5, 2)))
    train_split = load(str(folder)).splits["train"]
    assert train_split.ids == ["11", "12"]
    assert train_split.labels.tolist() == [1, 0]
    assert train_split.inputs["text"][0].tolist() == [[1, 2, 3, 4]]


def larger(folder, num_samples=60, **columns):
    """The folder with more samples and no split."""
    write(folder, "split.npy", None)
    for name, shape in {"vision": (3, 2), "text": (4,)}.items():
        write(folder, f"{name}.npy", np.ones((num_samples, *shape)))
    for name, values in ({"labels": np.arange(num_samples) % 3} | columns).items():
        write(folder, f"{name}.npy", values)


def test_a_split_is_drawn_and_told(folder):
    larger(folder)
    words = "names no split: took 42 train, 9 valid, 9 test samples, drawn with seed 0, labels mixed alike"
    with pytest.warns(UserWarning, match=words):
        recordings = load(str(folder))
    for name, share in {"train": 14, "valid": 3, "test": 3}.items():
        assert np.bincount(recordings.splits[name].labels).tolist() == [share] * 3
    with pytest.warns(UserWarning, match="names no split"):
        again = load(str(folder))
    assert [split.ids for split in again.splits.values()] == [split.ids for split in recordings.splits.values()]


def test_a_drawn_split_keeps_groups_whole(folder):
    groups = np.array(["anna", "ben", "cem", "dora", "eva", "fred", "gül", "hans", "ines", "jo"])[np.arange(60) % 10]
    larger(folder, groups=groups)
    with pytest.warns(UserWarning, match=r"each group of groups\.npy whole in one"):
        recordings = load(str(folder))
    seen = [{groups[int(name)] for name in split.ids} for split in recordings.splits.values()]
    assert sum(map(len, seen)) == 10
    assert recordings.sizes == {"train": 42, "valid": 12, "test": 6}


def test_a_drawn_split_depends_on_seed_and_names_alone():
    labels, names = np.arange(200) % 4, [f"s{i}" for i in range(200)]
    first = stratified(labels, names)
    assert (stratified(labels, names, seed=1) != first).any()
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(stratified(labels[order], [names[i] for i in order]), first[order])
    # Written out, as another split would move test samples into train between two versions.
    assert [i for i in range(40) if first[i] == "test"] == [11, 14, 15, 24]


def test_a_drawn_split_of_real_and_of_rare_labels():
    real = np.linspace(-3, 3, 400).astype(np.float32)
    real[::10] = np.nan
    split_of = stratified(real, [str(i) for i in range(400)])
    assert set(split_of[np.isnan(real)]) == {"train"}
    means = [np.nanmean(real[split_of == split]) for split in ("train", "valid", "test")]
    assert np.abs(means).max() < 0.1
    rare = np.array([*range(30), *[30] * 30, -100])
    split_of = stratified(rare, [str(i) for i in range(61)])
    assert set(split_of[:30]) == {"train"}  # a class with one sample is learned, or it is nowhere
    assert set(split_of[30:]) == {"train", "valid", "test"}


@pytest.mark.parametrize("sizes", [[1, 1, 1], [50, 1, 1], [5] * 20])
def test_every_split_gets_a_group(sizes):
    groups = np.repeat([f"g{i}" for i in range(len(sizes))], sizes).tolist()
    assert set(by_groups(groups)) == {"train", "valid", "test"}


OBJECTS = np.array([np.zeros((2, 3)), np.zeros((1, 3))], dtype=object)
FAULTS = [
    ({"labels.npy": None}, "must have labels.npy or labels.csv"),
    ({"vision.npy": np.ones((5, 3, 2))}, "vision.npy: holds 5 samples, but labels.npy holds 6: each"),
    ({"split.npy": np.array(SPLITS[:5])}, "split.npy: must hold 6 entries, as labels.npy does, got 5"),
    ({"vision.npy": np.ones(6)}, "vision.npy: must be numbers (samples, time, dim), or (samples, dim) for one step"),
    ({"vision.npy": np.ones((6, 1, 2, 3))}, "vision.npy: must be numbers (samples, time, dim), or (samples, dim)"),
    ({"vision.npy": np.full((6, 2), "a")}, "vision.npy: must be numbers (samples, time, dim)"),
    ({"vision.npy": np.ones((6, 2), complex)}, "vision.npy: must be numbers (samples, time, dim)"),
    ({"vision.npy": np.ones((6, 0, 2))}, "vision.npy: cannot be read as .npy: it is empty: its shape is (6, 0, 2)"),
    ({"vision.npy": np.zeros((6, 3, 2))}, "vision.npy: holds nothing but padding"),
    ({"vision.npy": np.full((6, 3, 2), [1, np.nan])}, "got nan in sample 0, step 0, column 1 (18 such values)"),
    ({"vision.npy": np.full((6, 3, 2), np.inf)}, "vision.npy: values must be finite as float32"),
    ({"vision.npy": np.full((6, 3, 2), 1e300)}, "got 1e+300 in sample 0, step 0, column 0 (36 such values)"),
    ({"vision.npy": OBJECTS}, "vision.npy: cannot be read as .npy: it holds Python objects, which are never opened"),
    ({"labels.npy": OBJECTS}, "labels.npy: cannot be read as .npy: it holds Python objects, which are never opened"),
    ({"vision.npy": b""}, "vision.npy: cannot be read as .npy: "),
    ({"vision.npy": b"PK\x03\x04"}, "vision.npy: cannot be read as .npy: "),
    ({"action.npy": np.ones((6, 2))}, "action.npy: a modality cannot be called 'action'; labels go into labels.npy"),
    ({"sound_lengths.npy": np.ones(6, int)}, "sound_lengths.npy: there is no sound.npy"),
    ({"vision_lengths.npy": np.ones(6)}, "vision_lengths.npy: must be whole numbers (6,), got float64 (6,)"),
    ({"vision_lengths.npy": np.full(6, 4)}, "vision_lengths.npy: lengths must lie in 0 to 3, the steps of the array"),
    ({"vision.npy": None, "text.npy": None}, "holds no modality, a file such as vision.npy"),
    ({"labels.npy": np.eye(6)[:, :2]}, "labels.npy: must have shape (samples,), got (6, 2); of one-hot rows"),
    ({"labels.npy": np.array(1)}, "labels.npy: must have shape (samples,), got ()"),
    ({"labels.npy": np.full(6, 0x7FFFFFFF, np.uint32).view("<U1")}, "labels.npy: "),
    ({"labels.npy": np.full(6, 7.5)}, "labels.npy: labels must lie in [-3, 3] (metrics 'mosi'), got 7.5; map yours"),
    ({"labels.npy": np.full(6, np.nan)}, "labels.npy: no sample has a label"),
    ({"labels.npy": np.full(6, "")}, "labels.npy: no sample has a label"),
    ({"labels.npy": np.ones(6, int)}, "labels.npy: must have two classes at least, got only '1'"),
    ({"labels.npy": np.ones(6, complex)}, "labels.npy: must hold numbers or class names, got dtype complex128"),
    ({"labels.csv": "label\na\n"}, "gives the column 'label', but "),
    ({"labels.npy": None, "labels.csv": "sad\nglad\n"}, "labels.csv: the first line must name the columns, one of"),
    ({"labels.npy": None, "labels.csv": "label\n"}, "labels.csv: has no line below the names of the columns"),
    ({"labels.npy": None, "labels.csv": "id,label\n1\n"}, "labels.csv line 2: must have 2 columns"),
    ({"labels.npy": None, "labels.csv": b"label\n\xff\n"}, "labels.csv: cannot be read as CSV in UTF-8"),
    ({"split.npy": np.array(["dev"] * 6)}, "split.npy: split must be train, valid or test, got 'dev' for sample 0"),
    ({"split.npy": np.array(["train"] * 6)}, "split.npy: split 'valid' has no samples"),
    ({"split.npy": np.arange(6)}, "split.npy: split must be train, valid or test, got dtype int64"),
    (
        {"split.npy": np.zeros(6, [("a", "i4"), ("b", "U3")])},
        "split.npy: split must be train, valid or test, got dtype [('a', '<i4'), ('b', '<U3')]",
    ),
    (
        {"split.npy": None, "labels.npy": np.array(["a", "", "", "", "", "b"])},
        "labels.npy: too few labels to draw a split from; give splits.csv",
    ),
    ({"split.npy": None, "groups.npy": np.arange(6) % 2}, "groups.npy: a split by groups needs three of them"),
    ({"ids.npy": np.array(list("aabcde"))}, "ids.npy: id 'a' appears 2 times"),
    ({"ids.npy": np.ones(6)}, "ids.npy: ids must be words or whole numbers, got dtype float64"),
    (
        {"ids.npy": np.arange(6), "split.npy": None, "splits.csv": "id,split\n7,test\n"},
        "splits.csv: lacks id '0', which ",
    ),
]


@pytest.mark.parametrize(("files", "message"), FAULTS, ids=[message[:50] for _, message in FAULTS])
def test_a_fault_is_one_line_and_names_the_file(folder, tmp_path, capsys, files, message):
    for name, content in files.items():
        write(folder, name, content)
    assert command.main([str(folder), str(tmp_path / "out.npz")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {folder}")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_large_whole_numbers_stay_classes_of_their_own(folder):
    np.save(folder / "labels.npy", 2**53 + np.arange(6) % 3)
    assert load(str(folder)).classes == tuple(str(2**53 + i) for i in range(3))


def test_floating_whole_numbers_are_asked_about(folder):
    write(folder, "labels.npy", np.array([0.0, 1, 2, 0, 1, 2]))
    with pytest.warns(UserWarning, match=r"labels\.npy: its whole numbers are floating, and taken as values; --task"):
        assert load(str(folder)).task == "regression"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(str(folder), task="regression").task == "regression"
        assert load(str(folder), task="classification").classes == ("0", "1", "2")


def test_words_are_no_real_labels(folder):
    with pytest.raises(ValueError, match=r"labels\.npy: holds words, which are classes, but the task is regression"):
        load(str(folder), task="regression")
    write(folder, "labels.npy", np.array([0.5, 1, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"labels\.npy: classes must be words or whole numbers, got 0\.5"):
        load(str(folder), task="classification")


def test_an_array_that_declares_more_than_it_holds_is_not_made(folder):
    write(folder, "vision.npy", (folder / "vision.npy").read_bytes().replace(b"(6, 3, 2)", b"(6, 3, 999999999)"[:9]))
    content = (folder / "vision.npy").read_bytes()
    header = content.index(b"(6, 3, ")
    end = content.index(b"\n", header)
    huge = b"(6, 3, 99999999999), }"
    write(folder, "vision.npy", content[:header] + huge.ljust(end - header) + content[end:])
    with pytest.raises(ValueError, match=r"vision\.npy: cannot be read as \.npy"):
        load(str(folder))


@pytest.mark.parametrize("name", ["vision.npy", "labels.npy"])
def test_a_link_cannot_lead_out_of_the_folder(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere.npy")
    (folder / name).symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(ValueError, match=f"must stay inside {folder}, got a link to"):
        load(str(folder))


@pytest.mark.parametrize("name", ["vision.npy", "labels.npy", "splits.csv"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_is_not_waited_for(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(ValueError, match=rf"{name}: must be a file$"):
        load(str(folder))


def test_a_folder_of_nothing_known(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json: the file is missing, and so are samples\.csv and any"):
        load(str(tmp_path))


def test_nothing_else_is_read(folder):
    write(folder, "notes.txt", "x")
    write(folder, "features.csv", "a\n1\n")
    (folder / "vision").mkdir()
    assert load(str(folder)).names == ("text", "vision")
    assert set(read_columns(folder)) == {"label", "split"}


def test_train_and_predict_new_samples_without_labels(folder, tmp_path, monkeypatch, capsys, no_pictures):
    monkeypatch.chdir(tmp_path)
    options = ["--model.dim", "8", "--model.num_heads", "2", "--model.num_layers", "1", "--pictures", "false"]
    train.main(["--data", "mine", "--out", "runs/mine", "--epochs", "1", "--device", "cpu", *options])
    new = tmp_path / "new"
    new.mkdir()
    write(new, "vision.npy", np.ones((2, 5, 2)))
    write(new, "text.npy", np.ones((2, 4)))
    write(new, "ids.npy", np.array(["one", "two"]))
    capsys.readouterr()
    predict.main(["--checkpoint", "runs/mine", "--data", "new", "--device", "cpu"])
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[0] == "split,id,prediction,probability of glad,probability of sad"
    assert [row.split(",")[:2] for row in rows[1:]] == [["new", "one"], ["new", "two"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(new, "text.npy", np.ones((3, 4)))
        with pytest.raises(SystemExit):
            predict.main(["--checkpoint", "runs/mine", "--data", "new", "--device", "cpu"])
    assert "text.npy: holds 3 samples, but ids.npy holds 2" in capsys.readouterr().err
