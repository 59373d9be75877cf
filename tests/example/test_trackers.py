"""What the trackers of a run are given, once each; the packages themselves where they are installed."""

import importlib
import json
import shutil
from types import SimpleNamespace

import pytest
from dmd import trackers
from dmd.config import RunConfig
from dmd.training_state import checkpoints_of

from tests.example.small_runs import prepare


def events(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(out / "tensorboard")).Reload()


def steps(out):
    """Of every scalar that TensorBoard shows."""
    read = events(out)
    return {tag: [each.step for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def lose_the_last_epoch(out):
    """As a disk does that fails after an epoch has been logged."""
    shutil.rmtree(checkpoints_of(out)[-1])
    (out / "results.json").unlink()


def test_an_epoch_that_is_done_again_is_shown_once_and_the_configuration_beside_it(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = prepare(tmp_path)
    run.train()
    assert set(map(tuple, steps(tmp_path).values())) == {(1, 2)}
    lose_the_last_epoch(tmp_path)
    prepare(tmp_path, resume=True).train()
    shown, history = steps(tmp_path), json.loads((tmp_path / "history.json").read_text())
    assert {"train/loss", "valid/mae", "learning_rate", "seconds", "skipped_steps"} <= shown.keys()
    assert set(map(tuple, shown.values())) == {(1, 2)}
    read = events(tmp_path)
    losses = [each.value for each in read.Scalars("train/loss")]
    assert losses == pytest.approx([epoch["train"]["loss"] for epoch in history])
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["learning_rate"].number_value == run.config.learning_rate
    assert values["network"].string_value == "dmd"
    assert values["objective.distillation.scorer"].string_value == run.config.objective.distillation.scorer
    assert values["modalities"].string_value == "None"
    assert not (tmp_path / trackers.FILE).exists()  # TensorBoard knows a run by its folder


def test_no_tracker_may_be_chosen(tmp_path):
    run = prepare(tmp_path, trackers=[])
    trackers.start_trackers(run.accelerator, tmp_path, {})
    trackers.log_epoch(run.accelerator, {"train/loss": 1.0}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("wandb", ["wandb"]), (["mlflow", "tensorboard", "mlflow"], ["mlflow", "tensorboard"]), ([], [])],
)
def test_trackers_are_given_by_name(given, wanted):
    assert RunConfig(trackers=given).trackers == wanted


def test_an_unknown_tracker_is_named():
    with pytest.raises(ValueError, match="trackers must be of tensorboard, wandb, mlflow, trackio, got 'neptune'"):
        RunConfig(trackers=["tensorboard", "neptune"])


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of this name"])
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys, found):
    whole = trackers.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: found if name == "wandb" else whole(name))
    train = importlib.import_module("train")
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", "synthetic", "--out", str(out), "--trackers", "[tensorboard, wandb]"])
    assert ended.value.code == 2
    said = "error: trackers: 'wandb' needs the package wandb, which is not installed: pip install wandb\n"
    assert capsys.readouterr().err == said
    assert not out.exists()


def test_a_tracker_that_fails_ends_the_run_with_its_name(tmp_path, monkeypatch):
    class UsageError(Exception):
        pass

    def start(self):
        raise UsageError("api_key not configured")

    monkeypatch.setattr(trackers._TensorBoard, "start", start)
    with pytest.raises(OSError, match="tracker tensorboard: api_key not configured"):
        prepare(tmp_path, epochs=1).train()


def test_damaged_names_of_a_run_are_said(tmp_path):
    (tmp_path / trackers.FILE).write_text("[]")
    with pytest.raises(ValueError, match=r"trackers\.json is damaged: it must hold a name for each tracker"):
        prepare(tmp_path)


@pytest.mark.slow
def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    out = tmp_path / "run"
    prepare(out, trackers="mlflow").train()
    lose_the_last_epoch(out)
    prepare(out, trackers="mlflow", resume=True).train()
    number = json.loads((out / trackers.FILE).read_text())["mlflow"]
    client = mlflow.MlflowClient()
    assert [run.info.run_id for run in client.search_runs([client.get_run(number).info.experiment_id])] == [number]
    assert client.get_run(number).data.params["learning_rate"] == "0.001"
    history = json.loads((out / "history.json").read_text())
    points = client.get_metric_history(number, "train/loss")
    assert [(point.step, point.value) for point in points] == [
        (each["epoch"], each["train"]["loss"]) for each in history
    ]


@pytest.mark.slow
def test_trackio_goes_on_in_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio is not installed")
    out = tmp_path / "run"
    prepare(out, trackers="trackio").train()
    lose_the_last_epoch(out)
    prepare(out, trackers="trackio", resume=True).train()
    from trackio.sqlite_storage import SQLiteStorage

    name = json.loads((out / trackers.FILE).read_text())["trackio"]
    assert SQLiteStorage.get_runs(trackers.PROJECT) == [name]
    assert [each["step"] for each in SQLiteStorage.get_logs(trackers.PROJECT, name)] == [1, 2]


@pytest.mark.slow
def test_wandb_writes_into_the_folder_of_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    prepare(out, trackers="wandb").train()
    lose_the_last_epoch(out)
    prepare(out, trackers="wandb", resume=True).train()
    name = json.loads((out / trackers.FILE).read_text())["wandb"]
    files = list((out / "wandb").rglob("run-*.wandb"))
    assert len(files) == 2
    assert {path.name for path in files} == {f"run-{name}.wandb"}
