"""What a run trains on: a share of the labels, two splits as one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dmd.config import RunConfig
from dmd.data import Split, for_training, joined, synthetic, with_labelled_fraction
from dmd.data.recordings import is_labelled
from dmd.task import DistillationConfig, TaskConfig
from small_runs import CONFIG, RECORDINGS, content, prepare


def classes(labels):
    recordings = synthetic((len(labels), 4, 4), task="classification")
    train = replace(recordings.splits["train"], labels=np.array(labels, np.int64))
    return replace(recordings, splits=recordings.splits | {"train": train})


def test_every_class_keeps_its_share():
    labels = [0] * 20 + [1] * 10 + [2] * 2 + [-100] * 8
    fewer = with_labelled_fraction(classes(labels), 0.2, seed=0).splits["train"].labels
    assert [(fewer == label).sum() for label in (0, 1, 2, -100)] == [4, 2, 1, 33]
    kept = fewer != -100
    assert (fewer[kept] == np.array(labels)[kept]).all()


def test_numbers_keep_their_share():
    part = with_labelled_fraction(RECORDINGS, 0.25, seed=3).splits["train"]
    kept = is_labelled(part)
    assert kept.sum() == round(0.25 * is_labelled(RECORDINGS.splits["train"]).sum())
    assert (part.labels[kept] == RECORDINGS.splits["train"].labels[kept]).all()


def test_the_seed_draws_and_only_train_changes():
    first, again, other = (with_labelled_fraction(RECORDINGS, 0.5, seed) for seed in (1, 1, 2))
    labels = [each.splits["train"].labels for each in (first, again, other)]
    assert np.array_equal(labels[0], labels[1], equal_nan=True)
    assert not np.array_equal(labels[0], labels[2], equal_nan=True)
    assert first.splits["valid"] is RECORDINGS.splits["valid"]
    assert with_labelled_fraction(RECORDINGS, 1.0, 1) is RECORDINGS


def test_two_splits_as_one():
    part = RECORDINGS.splits["valid"]
    both = joined(RECORDINGS.splits["train"], part)
    assert len(both) == len(RECORDINGS.splits["train"]) + len(part)
    assert both.ids[-len(part) :] == part.ids
    assert all(both.inputs[name][-1] is part.inputs[name][-1] for name in RECORDINGS.names)
    tokens = [np.array([1])]
    one = Split(["x"], {"a": [np.zeros((1, 1), np.float32)]}, np.zeros(1), tokens)
    assert list(joined(one, one).tokens) == tokens * 2
    assert joined(one, replace(one, tokens=None)).tokens is None


def test_train_and_valid_together(tmp_path, no_pictures):
    recordings = for_training(RECORDINGS, replace(CONFIG, train_on="train+valid", keep="last"))
    assert recordings.sizes == {"train": 64, "valid": 16, "test": 16}
    run = prepare(tmp_path, train_on="train+valid", keep="last", epochs=1)
    results = run.train()
    assert results["valid"] == {}
    assert results["data"]["sizes"]["train"] == 64
    # What was trained on says nothing of who is good.
    assert all(math.isnan(loss) for graph in results["graphs"].values() for loss in graph["valid_loss"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled_fraction": 0.0}, r"labelled_fraction must be in \(0, 1\], got 0.0"),
        ({"labelled_fraction": 1.5}, r"labelled_fraction must be in \(0, 1\], got 1.5"),
        ({"train_on": "train+valid"}, "leaves no split to choose the best epoch by: keep must be 'last'"),
        (
            {"train_on": "train+valid", "keep": "last", "labelled_fraction": 0.5},
            "labelled_fraction hides labels of train alone, but train_on is 'train\\+valid'",
        ),
        (
            {
                "train_on": "train+valid",
                "keep": "last",
                "objective": TaskConfig(distillation=DistillationConfig(quality_sharpness=1.0)),
            },
            "quality_sharpness reads losses on the validation split, but train_on is 'train\\+valid'",
        ),
    ],
)
def test_what_a_run_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**options)


def test_a_run_with_few_labels_says_who_teaches(tmp_path, no_pictures):
    results = prepare(tmp_path, labelled_fraction=0.5, epochs=1).train()
    assert set(results["graphs"]) == {"homogeneous", "heterogeneous"}
    for graph in results["graphs"].values():
        assert 0 <= graph["entropy"] <= 1
        assert all(loss > 0 for loss in graph["valid_loss"].values())
    assert content(tmp_path)["results"]["seed"] == 0
