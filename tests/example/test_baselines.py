"""The networks that DMD is compared with, chosen modalities, and shuffled labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dmd.baselines import SPACES, Baseline, BaselineTask
from dmd.checkpoint import load_for
from dmd.config import RunConfig, without_modalities
from dmd.data import only, synthetic, with_shuffled_labels
from dmd.data.recordings import is_labelled
from dmd.model import ModelConfig
from dmd.task import DistillationConfig, TaskConfig, task_loss

from gdkit.testing import check_padding_invariance, check_permutation_equivariance
from tests.example.small import DIMS, NAMES, classes_of, make_batch
from tests.example.small_runs import MODEL, RECORDINGS, content, prepare

LENGTHS = ((5, 3, 4, 2), (4, 7, 0, 1), (9, 8, 2, 0))
EVERY_KIND = pytest.mark.parametrize("kind", SPACES)


def make(kind, names=NAMES, num_outputs=1, objective=None, **options):
    """A baseline with its loss, in evaluation mode, the same in every call."""
    torch.manual_seed(0)
    config = ModelConfig(**{"dim": 8, "num_heads": 2, "num_layers": 1, "kernel_size": 3} | options)
    model = Baseline(kind, config, {name: DIMS[name] for name in names}, num_outputs)
    return BaselineTask(model, objective or TaskConfig()).eval()


@EVERY_KIND
@pytest.mark.parametrize("is_regression", [True, False], ids=["regression", "classification"])
def test_outputs_and_gradients(kind, is_regression):
    task, batch = make(kind, num_outputs=1 if is_regression else 2, dropout=0.0).train(), make_batch(lengths=LENGTHS)
    out = task(batch if is_regression else classes_of(batch))
    assert out["output"].shape == ((4,) if is_regression else (4, 2))
    assert torch.equal(out["present"], torch.tensor(LENGTHS).T > 0)
    (features,) = out["features"].values()
    assert {name: x.shape for name, x in features.items()} == dict.fromkeys(NAMES, (4, 16 if kind == "mult" else 8))
    assert list(out["edges"]) == (["heterogeneous"] if kind == "mult" else [])
    out["loss"].backward()
    assert [name for name, parameter in task.named_parameters() if parameter.grad is None] == []


@EVERY_KIND
@pytest.mark.parametrize("options", [{"pool": 2}, {"readout": "mean_max", "wide": "moments"}], ids=str)
def test_padding_order_and_company_change_no_result(kind, options):
    model, batch = make(kind, **options).model, make_batch(lengths=LENGTHS)
    check_padding_invariance(model, batch.inputs, batch.masks)
    check_permutation_equivariance(model, batch.inputs, batch.masks)


@EVERY_KIND
def test_what_an_absent_modality_holds_changes_no_result(kind):
    task, batch = make(kind), make_batch(lengths=LENGTHS)
    other = {name: torch.where(batch.masks[name][..., None], x, 7.0) for name, x in batch.inputs.items()}
    for name, value in task(batch._replace(inputs=other)).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, task(batch)[name])


def test_modalities_of_early_fusion_can_be_told_apart():
    model = make("early_fusion").model
    same = torch.randn(2, 4, 8)
    placed = [same + embedding for embedding in model.modality_embedding]
    assert not any(torch.allclose(placed[0], other) for other in placed[1:])


def test_loss_of_mult():
    batch = make_batch(lengths=LENGTHS)
    task = make("mult", objective=TaskConfig(node_weight=0.3, lambda_distillation=0.7))
    out = task(batch)
    wanted = out["task"] + 0.3 * out["nodes"] + 0.7 * out["heterogeneous"]
    torch.testing.assert_close(out["loss"], wanted)
    plain = make("mult", objective=TaskConfig(node_weight=0.0), hetero_gd=False)(batch)
    torch.testing.assert_close(plain["loss"], task_loss(plain["output"][:, None], batch.labels))
    assert plain["edges"] == {}


def test_quality_leads_the_unit_of_mult():
    distillation = DistillationConfig(scorer=None, quality_sharpness=8.0)
    task, batch = make("mult", objective=TaskConfig(distillation=distillation)), make_batch(lengths=LENGTHS)
    losses = task(batch)["node_losses"]["heterogeneous"].nanmean(dim=0)
    task.set_quality({"heterogeneous": losses.tolist()})
    weights = task(batch)["edges"]["heterogeneous"][0]  # of a sample that has all modalities
    best = int(losses.argmin())
    into_last = [
        (source, weight)
        for (source, target), weight in zip(task.units["heterogeneous"].graph.edges, weights)
        if target != NAMES[best]
    ]
    assert all((weight > 0.5) == (source == NAMES[best]) for source, weight in into_last)


def test_one_modality():
    batch = make_batch(NAMES[:1], LENGTHS[:1])
    assert make("transformer", NAMES[:1])(batch)["output"].shape == (4,)
    with pytest.raises(ValueError, match="network 'mult' needs at least 2 modalities, got language"):
        make("mult", NAMES[:1])
    with pytest.raises(ValueError, match="network must be one of transformer, early_fusion, mult, got 'lstm'"):
        make("lstm")
    with pytest.raises(ValueError, match="kernel_size names nose; the modalities are language, vision, acoustic"):
        make("transformer", kernel_size={"nose": 3})


@pytest.mark.usefixtures("no_pictures")
def test_a_run_of_one_modality_is_used_again(tmp_path):
    """Options that name a modality that is left out are no error, and evaluation reads the same modality."""
    model = replace(MODEL, kernel_size={"language": 3, "vision": 1})
    options = {"network": "transformer", "modalities": ["language"], "model": model, "epochs": 1}
    results = prepare(tmp_path, **options).train()
    task, recordings = load_for(tmp_path, None)
    assert recordings.names == task.model.names == ("language",)
    assert task.model.config.kernel_size == {"language": 3}
    assert results["test"]["mae"] > 0
    before = content(tmp_path)
    assert prepare(tmp_path, resume=True, **options).is_finished
    assert content(tmp_path) == before


def test_chosen_modalities():
    kept = only(RECORDINGS, ["acoustic", "language"])
    assert kept.names == ("language", "acoustic")  # the order of the data
    assert kept.sha256 == RECORDINGS.sha256
    assert only(RECORDINGS, None) is RECORDINGS
    with pytest.raises(ValueError, match="modalities names nose; synthetic has language, vision, acoustic"):
        only(RECORDINGS, ["nose"])
    for names in ([], ["vision", "vision"]):
        with pytest.raises(ValueError, match="at least one modality, and each once"):
            only(RECORDINGS, names)


def test_options_of_modalities_that_are_left_out():
    config = RunConfig(modalities=["language"], model=ModelConfig(pool={"vision": 2, "language": 3, "nose": 4}))
    assert without_modalities(config, NAMES).model.pool == {"language": 3, "nose": 4}  # a typo is still refused
    everything = replace(config, modalities=None)
    assert without_modalities(everything, NAMES) is everything


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_shuffled_labels(task):
    recordings = synthetic((60, 20, 20), task=task, unlabelled=0.2)
    shuffled, again = (with_shuffled_labels(recordings, 3) for _ in range(2))
    for split in ("train", "valid", "test"):
        before, after = recordings.splits[split], shuffled.splits[split]
        known = is_labelled(before)
        assert np.array_equal(known, is_labelled(after))
        assert np.array_equal(np.sort(before.labels[known]), np.sort(after.labels[known]))
        assert np.array_equal(after.labels, again.splits[split].labels, equal_nan=True)
        assert np.array_equal(before.labels[known], after.labels[known]) == (split == "test")
    other = with_shuffled_labels(recordings, 4).splits["train"].labels
    assert not np.array_equal(other, shuffled.splits["train"].labels, equal_nan=True)
