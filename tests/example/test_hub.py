"""A shared model: the same answers from its folder, a card with the run's numbers, and strangers' folders refused."""

import json
import shutil

import export
import pytest
import torch
from dmd import hub
from dmd.checkpoint import read_config
from dmd.hub import PretrainedDMD
from dmd.predictor import Predictor
from huggingface_hub import ModelCard

from tests.example.small_runs import RECORDINGS, prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run in a folder whose name is nobody else's business."""
    folder = tmp_path_factory.mktemp("secret") / "run"
    prepare(folder, epochs=1, pictures=False, data=str(folder.parent / "patients.npz")).train()
    return folder


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "model"
    export.main(["--checkpoint", str(run), "--format", "hub", "--out", str(folder)])
    return folder


def a_sample():
    split = RECORDINGS.splits["test"]
    return {name: torch.randn(5, width).numpy() for name, width in RECORDINGS.dims.items()}, split


def test_the_folder_holds_four_files_and_no_path_of_the_machine(shared, run):
    assert {path.name for path in shared.iterdir()} == set(hub.FILES)
    for path in shared.iterdir():
        assert str(run.parent).encode() not in path.read_bytes()
        assert b"secret" not in path.read_bytes()
    assert read_config(shared)[0].data == "patients.npz"


def test_answers_are_those_of_the_run(shared, run):
    sample, _ = a_sample()
    wanted = Predictor.from_checkpoint(run)(sample)
    model = PretrainedDMD.from_pretrained(shared)
    assert model.predictor()(sample) == wanted
    assert Predictor.from_checkpoint(shared)(sample) == wanted  # it is the folder of a run as well
    inputs = {name: torch.from_numpy(x)[None] for name, x in sample.items()}
    masks = {name: torch.ones(1, 5, dtype=torch.bool) for name in inputs}
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(inputs, masks).item(), wanted.value, rtol=0, atol=1e-4)


def test_the_card_has_the_numbers_of_the_run(shared, run):
    results = json.loads((run / "results.json").read_text())
    card = ModelCard.load(shared / "README.md")
    assert card.data.library_name == "gdkit"
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    wanted = {name: value for name, value in results["test"].items() if value is not None}
    assert found == {name: pytest.approx(value, abs=5e-5) for name, value in wanted.items()}
    assert f"| mae | {results['test']['mae']:.4f} | {results['valid']['mae']:.4f} |" in card.text
    assert "language (16 columns), vision (8 columns), acoustic (5 columns)" in card.text


def test_a_loaded_model_is_saved_the_same_and_the_card_takes_fields(shared, tmp_path):
    model = PretrainedDMD.from_pretrained(shared)
    model.save_pretrained(tmp_path / "again")
    for name in hub.FILES:
        assert (tmp_path / "again" / name).read_bytes() == (shared / name).read_bytes()
    (tmp_path / "again" / "README.md").write_text("what I wrote")
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == "what I wrote"
    model.save_pretrained(tmp_path / "licensed", model_card_kwargs={"license": "mit"})
    assert ModelCard.load(tmp_path / "licensed" / "README.md").data.license == "mit"


def test_an_unfinished_run_is_shared_without_numbers(run, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(run / name, tmp_path / "run" / name)
    PretrainedDMD.from_run(tmp_path / "run").save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()
    assert "None are recorded." in (tmp_path / "out" / "README.md").read_text()


SPOILED = {
    "config.json": [
        ('{"config": {"class_path": "os.system"}, "data": {}}', "is not a run's configuration"),
        (" " * 2**18 + "{}", "too large for a configuration"),
    ],
    "results.json": [
        ("[1, 2]", "is not a run's results: test must be numbers by name, got 'None'"),
        ('{"test": {"mae": "<script>"}, "valid": {}, "data": {"sizes": {}}}', "test must be numbers by name"),
        ("{", "is not a run's results: Expecting property name"),
    ],
    "model.safetensors": [("no weights", "is damaged")],
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, *case) for n, cases in SPOILED.items() for case in cases])
def test_spoiled_folders_are_refused(shared, tmp_path, name, content, message):
    shutil.copytree(shared, tmp_path / "bad")
    (tmp_path / "bad" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        PretrainedDMD.from_pretrained(tmp_path / "bad")


def test_a_pickle_is_never_opened(shared, tmp_path):
    shutil.copytree(shared, tmp_path / "bad")
    (tmp_path / "bad" / "model.safetensors").rename(tmp_path / "bad" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        PretrainedDMD.from_pretrained(tmp_path / "bad")


def test_a_repository_gives_the_four_files(shared, monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(shared)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    model = PretrainedDMD.from_pretrained("someone/model", revision="v1")
    assert asked == {"name": "someone/model", "allow_patterns": list(hub.FILES), "revision": "v1"}
    assert model.results["test"]


def test_what_is_neither_folder_nor_repository_is_said():
    with pytest.raises(FileNotFoundError, match=r"^nobody/nothing is no folder, and the hub did not give it: "):
        PretrainedDMD.from_pretrained("nobody/nothing", local_files_only=True)
    with pytest.raises(FileNotFoundError, match=r"^no/such/folder is no folder, and the hub did not give it: "):
        PretrainedDMD.from_pretrained("no/such/folder", local_files_only=True)


def test_a_run_is_not_written_over(run, capsys):
    before = (run / "config.json").read_bytes()
    with pytest.raises(SystemExit) as ended:
        export.main(["--checkpoint", str(run), "--format", "hub", "--out", str(run)])
    assert ended.value.code == 2
    assert "is the run itself" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before
