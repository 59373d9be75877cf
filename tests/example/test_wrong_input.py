"""Wrong input to the commands: one line on stderr, exit status 2, no traceback, and nothing written."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import predict
import pytest
import torch
import train

from tests.example.small_runs import prepare

SCRIPT = Path(__file__).parents[2] / "examples" / "dmd" / "train.py"


@pytest.fixture
def fails(tmp_path, monkeypatch, capfd):
    """Run a command that must fail, in an empty folder, and return what it says of the error."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(main, *arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments)])
        out, err = capfd.readouterr()
        assert stopped.value.code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert list(folder.iterdir()) == []
        return err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmd.report.write_pictures", lambda *_, **__: {})
        prepare(out, epochs=1).train()
    return out


OPTIONS = [
    (["--nope", "3"], "unrecognized arguments: --nope 3"),
    (["nope"], "unrecognized arguments: nope"),
    (["--model.nope", "3"], "unrecognized arguments: --model.nope 3"),
    (["--epochs", "0"], "epochs must be at least 1, got 0"),
    (["--epochs", "ten"], "epochs must be a whole number, got 'ten'"),
    (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["--accumulation", "0"], "accumulation must be at least 1, got 0"),
    (["--learning-rate", "0"], "learning_rate must be above 0, got 0.0"),
    (["--learning-rate", "nan"], "learning_rate must be a number, got 'nan'"),
    (["--weight_decay", "-1"], "weight_decay must be at least 0, got -1.0"),
    (["--seed", "-1"], "seed must be in [0, 2**32), got -1"),
    (["--seed", str(10**15)], f"seed must be in [0, 2**32), got {10**15}"),
    (["--seeds", "1", "1"], "--seeds must all differ, got [1, 1]"),
    (["--seeds", "1", str(10**15)], "seed must be in [0, 2**32)"),
    (["--seeds", "a"], "seeds"),
    (["--device", "tpu"], "device"),
    (["--task", "nope"], "task"),
    (["--metrics", "accuracy", "--task", "regression"], "metrics 'accuracy' goes with task 'classification' only"),
    (["--model.dim", "9"], "num_heads must divide dim, got dim 9 and num_heads 4"),
    (["--model.kernel_size", '{"nose": 3}'], "kernel_size names nose; the modalities are language, vision, acoustic"),
    (["--model.standardize", "nope"], "model.standardize"),
    (["--objective.distillation.distance", "kl"], "distance 'kl' is always 0 on vectors of width 1"),
    (["--objective.distillation.distance", "cosine"], "distance 'cosine' is only a sign on vectors of width 1"),
    (
        ["--objective.distillation.scorer", "nope"],
        "scorer must be one of 'linear', 'mlp', 'free', 'agreement', None or a torch.nn.Module, got 'nope'",
    ),
    (["--objective.distillation.prior", "[1, 2]"], "prior must have shape (6,), got (2,)"),
    (
        ["--data", "nope"],
        "data must be 'smartwatch', 'synthetic', the path of a .pkl or .npz file or of a folder of shards",
    ),
    (["--data", "gone.pkl"], "no data file at gone.pkl"),
    (["--config", "gone.yaml"], "File does not exist: "),
    (["--config"], "argument --config: expected one argument"),
    (["--resume"], "argument --resume: expected one argument"),
    (["--resume", "gone"], "--resume gone: there is no such folder"),
]


@pytest.mark.parametrize(("arguments", "message"), OPTIONS, ids=[" ".join(arguments) for arguments, _ in OPTIONS])
def test_wrong_options(fails, arguments, message):
    assert message in fails(train.main, "--data", "synthetic", "--device", "cpu", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_no_cuda_device(fails):
    assert "device is 'cuda', but PyTorch finds no CUDA device" in fails(
        train.main, "--data", "synthetic", "--device", "cuda"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 1\nnope: 3\n", "Option 'nope' is not accepted"),
        ("model:\n  nope: 3\n", "Group 'model' does not accept option 'nope'"),
        ("epochs: ten\n", "my.yaml: epochs must be a whole number, got 'ten'"),
        ("epochs: [1\n", "Problems parsing config"),
        ("- epochs\n", "Unexpected config"),
    ],
)
def test_wrong_yaml(fails, tmp_path, text, message):
    (tmp_path / "my.yaml").write_text(text)
    assert message in fails(train.main, "--config", tmp_path / "my.yaml", "--data", "synthetic")


@pytest.mark.parametrize("seeds", [[], ["--seeds", "1", "2"]])
def test_a_folder_that_cannot_be_written(fails, tmp_path, seeds):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        message = fails(train.main, "--data", "synthetic", "--device", "cpu", "--out", out, *seeds)
        assert message.startswith(f"out: {out}")
        assert "cannot be made a folder" in message


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("canary"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("foreign.pkl", pickle.dumps(Touch()), "cannot be read as a feature file: refused to load"),
        ("junk.pkl", b"junk", "cannot be read as a feature file"),
        ("junk.npz", b"junk", "cannot be read as .npz"),
    ],
)
def test_foreign_data(fails, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    said = fails(train.main, "--data", tmp_path / name)
    assert said.startswith(str(tmp_path / name))
    assert message in said


def test_going_on_with_another_run(fails, run, tmp_path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    resume = ["--resume", run]
    assert "is a run of another config: seed is 0 there, 5 here" in fails(train.main, *resume, "--seed", "5")
    assert "model.dim is 8 there, 16 here" in fails(train.main, *resume, "--model.dim", "16")
    assert "data is 'synthetic' there, 'smartwatch' here" in fails(train.main, *resume, "--data", "smartwatch")
    elsewhere = fails(train.main, *resume, "--out", tmp_path / "elsewhere")
    assert elsewhere == f"--resume {run} goes on in its own folder, but --out is {tmp_path / 'elsewhere'}"
    assert "runs over seeds need another --out" in fails(train.main, *resume, "--seeds", "1", "2")
    assert "already holds a run; --resume" in fails(train.main, "--data", "synthetic", "--out", run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_going_on_with_other_seeds(fails, run, tmp_path):
    root = tmp_path / "runs"
    for seed in (1, 2):
        shutil.copytree(run, root / f"seed-{seed}")
    (root / "seeds.json").write_text("[1, 2]")
    said = fails(train.main, "--resume", root, "--seeds", "1", "3")
    assert said == f"{root} holds runs of other seeds: seeds is [1, 2] there, [1, 3] here"
    (root / "seeds.json").write_text("[1, ")
    assert (
        fails(train.main, "--resume", root) == f"{root / 'seeds.json'} is damaged: it must be a list of whole numbers"
    )


@pytest.mark.parametrize("main", [evaluate.main, predict.main], ids=["evaluate", "predict"])
def test_reading_what_is_no_trained_network(fails, run, tmp_path, main):
    fails = reading(fails, main)
    assert "gone is not the folder of a run: it has no config.json" in fails("gone")
    broken = Path(shutil.copytree(run, tmp_path / "broken"))
    config, weights = broken / "config.json", broken / "model.safetensors"
    whole = config.read_text()
    config.write_text(whole.replace('"dim": 8', '"dim": 16'))
    assert f"{weights} is a checkpoint of another config: size mismatch for" in fails(broken)
    config.write_text(whole.replace('"dim": 8', '"size": 8'))
    assert "Group 'model' does not accept option 'size'" in fails(broken)
    for text in (whole[:100], "[]", "{}"):
        config.write_text(text)
        assert f"{config} is not a run's configuration" in fails(broken)
    config.write_text(whole)
    weights.write_bytes(weights.read_bytes()[:100])
    assert f"{weights} is damaged" in fails(broken)
    weights.unlink()
    assert f"{broken} has no model.safetensors" in fails(broken)


def reading(fails, main):
    """What a command that reads a run says of it; predict.py must be told the data as well."""

    def asked(folder, *options, data="synthetic"):
        named = [folder] if main is evaluate.main else ["--checkpoint", folder, "--data", data]
        return fails(main, *named, *options)

    return asked


def ragged(path, width=5, **labels):
    """Three recordings of one modality."""
    data = {"language": np.ones((6, width)), "language_offsets": np.array([0, 2, 4, 6])}
    np.savez(path, **data, split=np.array(["train", "valid", "test"]), **labels)
    return path


def test_a_single_class(fails, tmp_path):
    data = ragged(tmp_path / "one.npz", action=np.zeros(3, np.int64))
    assert fails(train.main, "--data", data) == "classification needs at least 2 classes, got 1: 0"


def test_reading_other_data(fails, run, tmp_path):
    labels = {"regression_labels": np.zeros(3)}
    said = fails(evaluate.main, run, "--data", ragged(tmp_path / "other.npz", **labels))
    assert "the model reads widths {'language': 16, 'vision': 8, 'acoustic': 5}" in said
    assert "other.npz has {'language': 5}" in said
    assert "holds classes" in fails(evaluate.main, run, "--data", "smartwatch")
    assert "data must be 'smartwatch', 'synthetic', the path" in reading(fails, predict.main)(run, data="nope")
    assert "no data file at gone.npz" in reading(fails, predict.main)(run, data="gone.npz")


def test_reading_other_classes(fails, tmp_path, no_pictures):
    from dmd.data import load

    known = ragged(tmp_path / "known.npz", action=np.array([0, 1, 0]), classes=np.array(["sit", "run"]))
    prepare(tmp_path / "run", load(str(known)), epochs=1, data=str(known)).train()
    other = ragged(tmp_path / "other.npz", action=np.array([0, 1, 0]), classes=np.array(["run", "sit"]))
    said = fails(evaluate.main, tmp_path / "run", "--data", other)
    assert said == f"the model knows the classes ['sit', 'run'], but {other} has ['run', 'sit']"


def test_output_that_cannot_be_written(fails, run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for main in (evaluate.main, predict.main):
        asked = reading(fails, main)
        assert asked(run, "--out", tmp_path / "folder").startswith("out must be a file, but")
        assert "cannot be made a folder" in asked(run, "--out", tmp_path / "file" / "p.csv")
    assert "the metrics go beside it as .json" in fails(evaluate.main, run, "--out", tmp_path / "p.json")
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize("main", [evaluate.main, predict.main], ids=["evaluate", "predict"])
def test_wrong_options_of_the_readers(fails, run, main):
    asked = reading(fails, main)
    assert "are required: " + ("run" if main is evaluate.main else "checkpoint") in fails(main)
    assert "unrecognized arguments: --nope 1" in asked(run, "--nope", "1")
    assert "batch_size must be at least 1, got 0" in asked(run, "--batch-size", "0")


def test_the_process_ends_with_status_2_and_one_line(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, str(SCRIPT), "--data", "synthetic", "--epochs", "0", "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: epochs must be at least 1, got 0\n"
    assert not out.exists()
