"""A tiny encoder, and a file of texts for it."""

import pickle

import pytest
import torch

from tests.example.small_texts import SIZES, VOCABULARY, WIDTH, entries


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of one layer."""
    path = tmp_path_factory.mktemp("encoder")
    transformers = pytest.importorskip("transformers", reason="the test extra's transformers is not installed")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=8, **sizes)
    transformers.BertModel(config).save_pretrained(path)
    return str(path)


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
