"""A data file with token ids, and short runs on it, for the tests of text encoders."""

import numpy as np
import torch
from dmd.checkpoint import build_task, describe
from dmd.data import load
from dmd.text import load_pretrained_text, with_text
from safetensors.torch import load_file

from tests.example.small_runs import prepare

SIZES = {"train": 20, "valid": 8, "test": 8}
VOCABULARY, STEPS, WIDTH = 30, 6, 16


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
