"""Files from strangers, through the commands: one line, exit status 2, nothing run, little memory, and soon.

`python -m pytest tests/example/test_strangers.py -m slow` prints for each kind how many files were refused,
with the most memory and the longest time beyond those of the process that had everything imported.
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from dmd.checkpoint import build_task, describe, load_weights, save_weights, write_config
from dmd.command import one_line_errors
from dmd.data import load
from dmd.released_checkpoint import import_published
from dmd.safe_checkpoint import load_state_dict
from dmd.training_state import weights_of

from tests.example.small_runs import CONFIG, MODEL
from tests.example.strangers import archives, pickles, settings

RUN = {"config": {"model": {}}, "data": {"dims": {}}}  # of a run folder whose config.json no test reads
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server():
    """Runs a command in a fork of a process that has imported it; on Linux."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc and fork")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "HF_HUB_OFFLINE": "0"}
    paths = [str(ROOT), str(ROOT / "examples" / "dmd"), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "tests.example.strangers.server"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, env=environment, cwd=ROOT)
    assert json.loads(process.stdout.readline()) == {"ready": True}

    def run(cwd, *arguments):
        process.stdin.write(json.dumps({"argv": [*map(str, arguments)], "cwd": str(cwd)}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(timeout=30)


@pytest.fixture
def canary(tmp_path):
    """A file that appears if something from a stranger has run."""
    return tmp_path / "canary"


@pytest.fixture
def module(tmp_path, canary, monkeypatch):
    """A module that shows when it is imported, in the folder that the commands run in."""
    name = f"stranger_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def run_folder(tmp_path):
    """A run with drawn weights, and the file that it reads."""
    data = tmp_path / "good.pkl"
    data.write_bytes(pickle.dumps(pickles.good(), protocol=4))
    recordings = load(str(data))
    folder = tmp_path / "run"
    folder.mkdir()
    config = type(CONFIG)(data=str(data), out=str(folder), device="cpu", model=MODEL)
    write_config(folder, config, describe(recordings))
    save_weights(folder / "model.safetensors", weights_of(build_task(config, describe(recordings))))
    return folder


@pytest.fixture(params=[3, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def every(request):
    """The commands take a fifth of a second a file: by default they read some, and the readers alone read all."""
    return request.param


@pytest.fixture
def refuses(server, tmp_path, canary, capsys, every):
    """Checks that each case is refused as it must be, and says how all went."""

    def check(kind, cases, command):
        chosen = dict(list(cases.items())[:: every * (len(cases) // 25 + 1) if every > 1 else 1])
        problems, slowest, megabytes = [], (0.0, ""), 0.0
        for name, (content, message) in chosen.items():
            got = server(tmp_path, *command(content))
            said = got["stderr"]
            is_line = said.startswith("error: ") and said.count("\n") == 1 and said.endswith("\n")
            if got["status"] != 2 or not is_line or not re.search(message, said) or canary.exists():
                problems.append(f"{name}: {got['status']}, {said[-400:]!r}, wanted {message!r}")
            canary.unlink(missing_ok=True)
            slowest, megabytes = max(slowest, (got["seconds"], name)), max(megabytes, got["megabytes"])
        with capsys.disabled():
            refused = f"{len(chosen) - len(problems)} of {len(chosen)}"
            print(f"\n{kind}: {refused} refused; at most {megabytes:.0f} MB and {slowest[0]:.2f} s ({slowest[1]})")
        assert not problems, "\n" + "\n".join(problems)

    return check


def written(path):
    """A function that writes a case's bytes there, and returns the arguments of train.py."""

    def command(content):
        path.write_bytes(content)
        return "train", "--data", path, "--out", path.parent / "out", "--device", "cpu"

    return command


def test_pickles_that_would_run_something(refuses, tmp_path, canary):
    refuses("pickles that call", pickles.executing(canary), written(tmp_path / "bad.pkl"))


def test_pickles_that_are_broken(refuses, tmp_path):
    refuses("broken pickles", pickles.broken(), written(tmp_path / "bad.pkl"))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("bad.pkl", lambda path: load(str(path))),
        ("bad.npz", lambda path: load(str(path))),
        ("bad.pth", lambda path: import_published(path, path.parent / "imported")),
    ],
)
def test_readers_refuse_every_file_with_one_line(tmp_path, canary, capsys, name, read):
    path = tmp_path / name
    cases = {
        "bad.pkl": lambda: pickles.executing(canary) | pickles.broken(),
        "bad.npz": lambda: archives.archives(canary),
        "bad.pth": lambda: archives.checkpoints(canary),
    }[name]()
    assert len(cases) >= 40
    for case, (content, message) in cases.items():
        path.write_bytes(content)
        with pytest.raises(SystemExit) as stopped, one_line_errors():
            read(path)
        said = capsys.readouterr().err
        assert stopped.value.code == 2, case
        assert re.fullmatch(r"error: [^\n]*\n", said), (case, said)
        assert re.search(message, said), (case, said, message)
        assert not canary.exists(), case


def test_damaged_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    cases = {name: files for name, (files, _) in settings.runs(RUN, "none").items() if path.name in files}
    assert len(cases) == 13
    for files in cases.values():
        path.write_bytes(files[path.name])
        with pytest.raises(ValueError, match=settings.DAMAGED):
            load_weights(path, torch.nn.Linear(2, 2))


def test_pickles_that_are_odd_but_honest_load(tmp_path):
    wanted = pickles.good()["train"]
    for name, content in pickles.honest().items():
        (tmp_path / "odd.pkl").write_bytes(content)
        split = load(str(tmp_path / "odd.pkl")).splits["train"]
        assert split.ids == wanted["id"], name
        for ours, key in (("language", "text"), ("vision", "vision"), ("acoustic", "audio")):
            np.testing.assert_array_equal(np.stack(split.inputs[ours]), wanted[key], err_msg=name)


def test_archives(refuses, tmp_path, canary):
    refuses("archives", archives.archives(canary), written(tmp_path / "bad.npz"))
    (tmp_path / "good.npz").write_bytes(archives.npz())
    assert load(str(tmp_path / "good.npz")).sizes == {"train": 2, "valid": 2, "test": 2}


def test_published_checkpoints(refuses, tmp_path, canary):
    def command(content):
        (tmp_path / "bad.pth").write_bytes(content)
        return "import_released", tmp_path / "bad.pth", tmp_path / "imported"

    refuses("published checkpoints", archives.checkpoints(canary), command)
    for is_new in (True, False):
        state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.nn.Parameter(torch.ones(2, dtype=torch.float16))}
        torch.save(state, tmp_path / "good.pth", _use_new_zipfile_serialization=is_new)
        loaded = load_state_dict(tmp_path / "good.pth")
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_configurations(refuses, tmp_path, canary, module):
    (tmp_path / "good.yaml").write_text("dim: 8\n")

    def command(content):
        (tmp_path / "bad.yaml").write_text(content)
        return "train", "--config", tmp_path / "bad.yaml", "--out", tmp_path / "out"

    refuses("configurations", settings.yamls(canary, module), command)


def test_run_folders(refuses, server, tmp_path, run_folder, module):
    bad = tmp_path / "bad"

    def command(files):
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(run_folder, bad)
        for name, content in files.items():
            (bad / name).write_bytes(content)
        return "evaluate", bad, "--device", "cpu"

    good = json.loads((run_folder / "config.json").read_text())
    refuses("run folders", settings.runs(good, module), command)
    assert server(tmp_path, "evaluate", run_folder, "--device", "cpu")["status"] == 0


def test_a_bad_file_for_a_good_run(refuses, server, tmp_path, run_folder, canary):
    some = dict(list(pickles.executing(canary).items())[::4] + list(pickles.broken().items())[::8])

    def command(content):
        (tmp_path / "bad.pkl").write_bytes(content)
        return (
            "predict",
            "--checkpoint",
            run_folder,
            "--data",
            tmp_path / "bad.pkl",
            "--out",
            tmp_path / "predictions.csv",
            "--device",
            "cpu",
        )

    refuses("files to predict", some, command)
    arguments = ("--data", tmp_path / "good.pkl", "--out", tmp_path / "predictions.csv", "--device", "cpu")
    assert server(tmp_path, "predict", "--checkpoint", run_folder, *arguments)["status"] == 0


def test_text_encoders(refuses, tmp_path, canary, module):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.BertModel(transformers.BertConfig(intermediate_size=8, **sizes)).save_pretrained(tmp_path / "good")
    tokens = np.ones((3, 3, 4), np.float32)
    content = {name: split | {"text_bert": tokens} for name, split in pickles.good().items()}
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(content, protocol=4))
    folder = tmp_path / "encoder"

    def command(change):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "good", folder)
        change()
        data = ("--data", tmp_path / "good.pkl", "--out", tmp_path / "out", "--device", "cpu")
        return "train", *data, "--text", "frozen", "--text_encoder", folder

    refuses("text encoders", settings.encoders(folder, canary, module), command)
