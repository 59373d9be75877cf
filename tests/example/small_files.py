"""Small files in the formats of others, for the tests of readers."""

import pickle

import numpy as np

KEYS = {"text": 4, "vision": 2, "audio": 3}


def mmsa_file(path, sizes=(24, 9, 10)):
    """An MMSA file with texts of every length, absent modalities, token ids and unlabelled samples."""
    generator = np.random.default_rng(0)
    file = {}
    for split, size in zip(("train", "valid", "test"), sizes):
        lengths = {key: generator.integers(0, 7, size) for key in KEYS}
        is_real = {key: np.arange(6) < lengths[key][:, None] for key in KEYS}
        entries = {key: generator.normal(size=(size, 6, dim)) * is_real[key][..., None] for key, dim in KEYS.items()}
        tokens = [generator.integers(0, 90, (size, 6)), is_real["text"], np.zeros((size, 6))]
        labels = generator.uniform(-3, 3, size)
        labels[::5] = np.nan
        ids = [f"{split}${i}" for i in range(size)]
        file[split] = entries | {"id": ids, "text_bert": np.stack(tokens, axis=1), "regression_labels": labels}
    path.write_bytes(pickle.dumps(file, protocol=4))
    return path
