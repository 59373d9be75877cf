"""Training with a text encoder, frozen or fine-tuned, and what its runs are good for afterwards."""

import json
import shutil
from pathlib import Path

import evaluate
import numpy as np
import predict
import pytest
import torch
from dmd.checkpoint import load_for
from dmd.config import RunConfig
from dmd.data import collate, load
from dmd.predictor import Predictor
from dmd.task import DMDTask
from dmd.text import parameter_groups
from safetensors.torch import load_file

from tests.example.small_runs import content, prepare, rows
from tests.example.small_texts import SIZES, VOCABULARY, WIDTH, task_of, train

transformers = pytest.importorskip("transformers", reason="the test extra's transformers is not installed")
pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize("network", ["dmd", "transformer"])
def test_the_gradient_reaches_every_weight_of_the_encoder(options, folder, network):
    task, recordings = task_of(RunConfig(**options, text="finetune", network=network))
    task.train()
    task(collate(recordings.splits["train"], list(range(20))))["loss"].backward()
    for name, parameter in task.text_encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert task.text_encoder.encoder.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_the_encoder_has_its_own_learning_rate(options, folder):
    config = RunConfig(**options, text="finetune", learning_rate=0.5)
    task, _ = task_of(config)
    others, matrices, vectors = parameter_groups(task, config)
    assert [group["lr"] for group in (others, matrices, vectors)] == [0.5, 1e-3, 1e-3]
    assert vectors["weight_decay"] == 0
    assert all(p.dim() > 1 for p in matrices["params"])
    sizes = [sum(p.numel() for p in group["params"]) for group in (others, matrices, vectors)]
    assert sum(sizes[1:]) == sum(p.numel() for p in task.text_encoder.parameters())
    assert sum(sizes) == sum(p.numel() for p in task.parameters())


def test_training_moves_the_encoder_and_leaves_the_text_unstandardised(tmp_path, options, folder):
    train(tmp_path / "run", options, text="finetune")
    weights, before = load_file(tmp_path / "run" / "model.safetensors"), load_file(f"{folder}/model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(weights[f"text_encoder.encoder.{name}"], before[name])
    statistics = {name.split(".")[-1]: x for name, x in weights.items() if name.endswith(("_mean", "_scale"))}
    assert (statistics["language_mean"] == 0).all()
    assert (statistics["language_scale"] == 1).all()
    assert (statistics["acoustic_mean"] != 0).all()


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_going_on_changes_nothing(tmp_path, options, mode, monkeypatch):
    train(tmp_path / "whole", options, text=mode)
    calls, forward = iter(range(100)), DMDTask.forward

    def interrupted(*arguments):
        if next(calls) == 5:  # 3 batches of training and 1 of validation an epoch
            raise KeyboardInterrupt
        return forward(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DMDTask, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", options, text=mode)
    torch.manual_seed(99)
    recordings = load(options["data"])
    run = prepare(tmp_path / "parts", recordings, resume=True, text=mode, **options)
    assert run.state["epoch"] == 1
    run.train()
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    for other in {None, "frozen", "finetune"} - {mode}:
        with pytest.raises(ValueError, match=f"text is {mode!r} there, {other!r} here"):
            prepare(tmp_path / "parts", recordings, resume=True, text=other, **options)


def test_a_fine_tuned_run_needs_its_encoder_no_more(tmp_path, options, folder, capsys):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    train(tmp_path / "run", options, text="finetune", text_encoder=str(moved))
    shutil.rmtree(moved)
    judged = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    evaluate.main([str(tmp_path / "run"), "--device", "cpu"])
    again = json.loads((tmp_path / "run" / "predictions_test.json").read_text())["test"]
    assert again["mae"] == pytest.approx(judged["mae"], abs=1e-6)
    asked = ["--checkpoint", str(tmp_path / "run"), "--data", options["data"], "--device", "cpu"]
    predict.main([*asked, "--out", str(tmp_path / "new.csv")])
    answers = rows(tmp_path / "new.csv")
    assert len(answers) == sum(SIZES.values())
    kept = {row["id"]: float(row["prediction"]) for row in rows(tmp_path / "run" / "predictions_test.csv")}
    found = {row["id"]: float(row["prediction"]) for row in answers if row["split"] == "test"}
    assert found == pytest.approx(kept, abs=1e-5)


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_predictor_reads_token_ids(tmp_path, options, mode):
    train(tmp_path / "run", options, text=mode)
    predictor = Predictor.from_checkpoint(tmp_path / "run")
    samples = load(options["data"]).splits["test"]
    kept = [float(row["prediction"]) for row in rows(tmp_path / "run" / "predictions.csv") if row["split"] == "test"]
    asked = [
        {"language": ids if len(x) else [], "acoustic": audio}
        for ids, x, audio in zip(samples.tokens, samples.inputs["language"], samples.inputs["acoustic"])
    ]
    answers = [answer.value for answer in predictor.predict(asked)]
    assert answers == pytest.approx(kept, abs=1e-5)
    assert answers[::-1] == pytest.approx([predictor(sample).value for sample in asked[::-1]], abs=1e-12)
    for tokens, message in (
        (np.zeros(9, np.int64), "language must have at most 8 token ids, got 9"),
        ([0, VOCABULARY], "language must be token ids from 0 to 29, got 30"),
        ([-1], "language must be token ids from 0 to 29, got -1"),
        ([0.5], r"language must be \(time,\) token ids, whole numbers, got float64 \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor({"language": tokens})
    states = {"language": np.ones((2, WIDTH)), "acoustic": np.ones((2, 3))}
    if mode == "frozen":
        split = load_for(tmp_path / "run", None)[1].splits["test"]
        given = [{name: arrays[i] for name, arrays in split.inputs.items()} for i in range(len(split))]
        assert [answer.value for answer in predictor.predict(given)] == pytest.approx(kept, abs=1e-5)
    else:
        with pytest.raises(ValueError, match=r"language must be \(time,\) token ids.* got float64 \(2, 16\)"):
            predictor(states)
