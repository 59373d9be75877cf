"""A trained network as a service: right answers whatever else is asked, and a refusal of each bad sample alone."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torch
from dmd import released
from dmd.checkpoint import build_task, describe, load_weights, read_config, save_weights, write_config
from dmd.config import RunConfig
from dmd.data import collate, synthetic
from dmd.model import ModelConfig
from dmd.predictor import Predictor, Value
from dmd.released_network import NAMES as RELEASED
from dmd.training_state import weights_of
from hypothesis import given
from hypothesis import strategies as st

from tests.example.small_runs import prepare, rows

DIMS = {"language": 16, "vision": 8, "acoustic": 5}
VALUES = synthetic((24, 8, 8), steps={"language": 4, "vision": 6, "acoustic": 9}, absent=0.2, seed=1)
CLASSES = synthetic((24, 8, 8), task="classification", steps={"language": 4, "vision": 6, "acoustic": 9}, seed=1)
SMALL = {"dim": 8, "num_heads": 2, "num_layers": 1}


def untrained(out, recordings=VALUES, network="dmd", **options):
    """The folder of a run with weights as they are drawn, but for the standardisation."""
    torch.manual_seed(0)
    config = RunConfig(data="synthetic", network=network, model=ModelConfig(**SMALL | options))
    described = describe(recordings)
    task = build_task(config, described)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in task.named_buffers():
        if name.endswith(("_mean", "_scale", "_variance")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    out.mkdir(parents=True, exist_ok=True)
    write_config(out, config, described)
    save_weights(out / "model.safetensors", weights_of(task))
    return out


def drawn(seed, lengths=(4, 6, 9)):
    """A sample of so many steps of each modality; without any the modality is left out."""
    generator = np.random.default_rng(seed)
    pairs = zip(DIMS.items(), lengths, strict=True)
    return {name: 3 * generator.normal(size=(steps, dim)) for (name, dim), steps in pairs if steps}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor.from_checkpoint(folder, max_batch_size=5)


def numbers(answer):
    """An answer as numbers."""
    return np.array([answer.value] if isinstance(answer, Value) else [*answer.probabilities.values()])


# Right answers


@pytest.mark.parametrize(
    ("recordings", "network", "options"),
    [
        (VALUES, "dmd", {}),
        (VALUES, "dmd", {"wide": "signal", "vote": True, "standardize": "sample", "feature_decoupling": False}),
        (CLASSES, "dmd", {"stem_layers": 1, "stem_stride": 2, "readout": "mean_max", "readout_norm": True}),
        (CLASSES, "dmd", {"vote": True, "wide": "moments", "pool": {"acoustic": 4}, "cross_attention": False}),
        (VALUES, "mult", {"wide": "moments", "readout": "attention"}),
        (CLASSES, "early_fusion", {}),
        (VALUES, "transformer", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_it_answers_as_the_network_does(tmp_path, recordings, network, options):
    untrained(tmp_path, recordings, network, **options)
    predictor = Predictor.from_checkpoint(tmp_path)
    task = build_task(*read_config(tmp_path))
    load_weights(tmp_path / "model.safetensors", task)
    split = recordings.splits["train"]
    with torch.no_grad():
        wanted = task.eval()(collate(split, list(range(len(split)))))["output"]
    wanted = wanted.softmax(dim=1) if recordings is CLASSES else wanted[:, None]
    samples = [{name: arrays[i] for name, arrays in split.inputs.items()} for i in range(len(split))]
    answers = predictor.predict_each(samples)
    has_some = [any(map(len, sample.values())) for sample in samples]
    found = np.array([numbers(answer) for answer, some in zip(answers, has_some) if some])
    np.testing.assert_allclose(found, wanted[has_some].numpy(), atol=1e-5)
    assert sum(has_some) >= 20
    if recordings is CLASSES:
        assert [answer.name for answer in answers] == [recordings.classes[i] for i in wanted.argmax(dim=1)]
        assert all(list(answer.probabilities) == list(recordings.classes) for answer in answers)


def test_a_trained_run(tmp_path, no_pictures):
    run = prepare(tmp_path / "run")
    run.train()
    predictor = Predictor.from_checkpoint(tmp_path / "run")
    split = run.recordings.splits["test"]
    kept = {row["id"]: float(row["prediction"]) for row in rows(tmp_path / "run" / "predictions.csv")}
    for position, name in enumerate(split.ids):
        sample = {modality: arrays[position] for modality, arrays in split.inputs.items()}
        if any(map(len, sample.values())):
            assert predictor(sample).value == pytest.approx(kept[name], abs=1e-5)


def test_an_imported_checkpoint(tmp_path):
    torch.manual_seed(0)
    steps = {"language": 4, "vision": 6, "acoustic": 5}
    network = released.ReleasedConfig(
        dict(DIMS), steps, dim=6, num_heads=3, num_layers=1, memory_layers=1, kernel_size=dict.fromkeys(RELEASED, 2)
    )
    task = released.ReleasedTask(released.ReleasedNetwork(network), released.ReleasedObjective())
    parts = {"network": asdict(network), "objective": asdict(task.config)}
    described = {"dims": DIMS, "task": "regression", "metrics": "mosi", "classes": [], "sha256": "", "encoder": None}
    write_config(tmp_path, RunConfig(data="x.pkl"), described | {"released": parts})
    save_weights(tmp_path / "model.safetensors", weights_of(task))
    predictor = Predictor.from_checkpoint(tmp_path)
    samples = [drawn(0, (4, 6, 5)), drawn(1, (2, 0, 1)), drawn(2, (0, 1, 0))]
    padded = {name: np.zeros((3, steps[name], dim), np.float32) for name, dim in DIMS.items()}
    for row, sample in enumerate(samples):
        for name, x in sample.items():
            padded[name][row, : len(x)] = x
    with torch.no_grad():
        wanted = task.eval().model({name: torch.from_numpy(x) for name, x in padded.items()}).output[:, 0]
    np.testing.assert_allclose([answer.value for answer in predictor.predict(samples)], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="acoustic must have at most 5 steps, got 6"):
        predictor(drawn(0, (4, 6, 6)))


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3).filter(any), min_size=1, max_size=9),
    st.integers(1, 10),
    st.randoms(use_true_random=False),
)
def test_what_else_is_asked_never_shows(predictor, lengths, size, order):
    """Batch size, place, neighbours and padding change no answer by 1e-6, nor by a millionth of that."""
    samples = [drawn(seed, each) for seed, each in enumerate(lengths)]
    alone = [predictor(sample).value for sample in samples]
    places = order.sample(range(len(samples)), len(samples))
    predictor.max_batch_size = size
    together = predictor.predict([samples[place] for place in places])
    np.testing.assert_allclose([answer.value for answer in together], [alone[place] for place in places], atol=1e-12)


def test_single_precision_is_on_offer(folder):
    predictor = Predictor.from_checkpoint(folder, dtype=torch.float32)
    assert predictor(drawn(0)).value == pytest.approx(Predictor.from_checkpoint(folder)(drawn(0)).value, abs=1e-5)


# What a sample may be


def test_absent_is_left_out_none_or_empty(predictor):
    sample = drawn(3, (4, 0, 9))
    wanted = predictor(sample)
    for nothing in (None, [], np.zeros((0, 8)), torch.zeros(0, 8)):
        assert predictor(sample | {"vision": nothing}) == wanted


def test_arrays_lists_and_tensors(predictor):
    sample = {name: np.round(x, 2).astype(np.float32) for name, x in drawn(4).items()}
    wanted = predictor(sample)
    for form in (np.ndarray.tolist, torch.from_numpy, np.float64, lambda x: x.astype(">f4"), lambda x: x[::-1][::-1]):
        assert predictor({name: form(x) for name, x in sample.items()}) == wanted
    assert predictor({name: torch.from_numpy(x).requires_grad_() for name, x in sample.items()}) == wanted


def test_reading_changes_nothing_of_the_sample(predictor):
    sample = drawn(5)
    before = {name: x.copy() for name, x in sample.items()}
    for x in sample.values():
        x.flags.writeable = False
    predictor(sample)
    assert all(np.array_equal(before[name], x) for name, x in sample.items())


GOOD = drawn(6)
BAD = {
    "list": ([1, 2], TypeError, r"must map modalities \(language, vision, acoustic\) to numbers, got list"),
    "unknown": (GOOD | {"smell": [[1.0]]}, ValueError, "reads language, vision, acoustic, but the sample has 'smell'"),
    "width": (GOOD | {"vision": np.zeros((3, 7))}, ValueError, r"vision must have shape \(time, 8\), got \(3, 7\)"),
    "rank": (GOOD | {"vision": np.zeros(8)}, ValueError, r"vision must have shape \(time, 8\), got \(8,\)"),
    "number": (GOOD | {"vision": 3.0}, ValueError, r"vision must be an array.*got the single number 3\.0"),
    "strings": (GOOD | {"vision": [["a"] * 8]}, TypeError, "vision must be an array of numbers .*dtype <U1"),
    "string": (GOOD | {"vision": "8"}, TypeError, "vision must be an array of numbers .*got str"),
    "objects": (GOOD | {"vision": [[None] * 8]}, TypeError, "vision must be an array of numbers .*dtype object"),
    "booleans": (GOOD | {"vision": np.ones((1, 8), bool)}, TypeError, "vision must be an array .*dtype bool"),
    "complex": (GOOD | {"vision": torch.ones(1, 8) * 1j}, TypeError, "vision must be an array .*complex64"),
    "ragged": (GOOD | {"vision": [[1.0], [1.0, 2.0]]}, ValueError, "vision must be an array of numbers .*got a list"),
    "nan": (
        GOOD | {"vision": np.full((2, 8), np.nan)},
        ValueError,
        "as float32, got nan in step 0",
    ),
    "infinite": (
        GOOD | {"vision": [[1.0] * 7 + [1e39]]},
        ValueError,
        r"got 1e\+39 in step 0, column 7",
    ),
    "nothing": ({}, ValueError, "must have a step of at least one modality"),
    "long": (GOOD | {"vision": np.zeros((51, 8))}, ValueError, "vision must have at most 50 steps, got 51"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sample_is_refused_by_name_and_alone(folder, case):
    predictor = Predictor.from_checkpoint(folder, max_steps=50)
    sample, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        predictor(sample)
    assert "samples[" not in str(caught.value)
    first, error, last = predictor.predict_each([GOOD, sample, drawn(7)])
    assert type(error) is kind
    assert [first, last] == predictor.predict([GOOD, drawn(7)])
    with pytest.raises(kind, match=r"samples\[1\]: .*"):
        predictor.predict([GOOD, sample])


def test_what_is_no_list_of_samples(predictor):
    assert predictor.predict([]) == []
    with pytest.raises(TypeError, match="samples must be a list of samples, got dict"):
        predictor.predict(GOOD)
    with pytest.raises(TypeError, match="samples must be a list of samples, got NoneType"):
        predictor.predict_each(None)


@pytest.mark.parametrize("option", [{"max_batch_size": 0}, {"max_steps": 0}])
def test_options(folder, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be at least 1, got 0"):
        Predictor.from_checkpoint(folder, **option)
    with pytest.raises(TypeError, match="dtype must be a floating point type"):
        Predictor.from_checkpoint(folder, dtype=torch.int64)


def test_a_folder_that_is_none(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no config\.json"):
        Predictor.from_checkpoint(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        Predictor.from_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        Predictor.from_checkpoint(tmp_path)


# Many threads


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("recordings", [VALUES, CLASSES], ids=["values", "classes"])
def test_eight_threads_with_mixed_requests(tmp_path, recordings, count):
    """Each thread sends requests of one sample or several, of any length, with bad ones among them."""
    predictor = Predictor.from_checkpoint(untrained(tmp_path, recordings, vote=True), max_batch_size=4, max_steps=50)
    generator = np.random.default_rng(0)
    pool = [drawn(seed, lengths) for seed, lengths in enumerate(generator.integers(0, 12, (200, 3))) if lengths.any()]
    alone = [numbers(predictor(sample)) for sample in pool]
    bad = [(sample, kind) for sample, kind, _ in BAD.values()]

    def ask(thread):
        generator = np.random.default_rng(thread)
        right = refused = 0
        for _ in range(count):
            picks = generator.integers(len(pool), size=generator.integers(1, 7))
            is_bad = generator.random(len(picks)) < 0.2
            wrong = [bad[i] for i in generator.integers(len(bad), size=len(picks))]
            samples = [w[0] if b else pool[pick] for pick, b, w in zip(picks, is_bad, wrong)]
            if len(samples) == 1 and not is_bad[0]:
                answers = [predictor(samples[0])]
            else:
                answers = predictor.predict_each(samples)
            for answer, pick, b, w in zip(answers, picks, is_bad, wrong, strict=True):
                if b:
                    assert type(answer) is w[1]
                    refused += 1
                else:
                    np.testing.assert_allclose(numbers(answer), alone[pick], rtol=0, atol=1e-12)
                    right += 1
        return right, refused

    with ThreadPoolExecutor(8) as threads:
        counts = np.array([*threads.map(ask, range(8))])
    assert (counts > count / 4).all()
    assert all(not part.training for part in predictor._network.modules())
