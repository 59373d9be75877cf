"""The objective: its terms and their weights, who counts in which, and gradients for every parameter."""

import copy
from dataclasses import fields

import pytest
import torch
from dmd.data import make_loader, standardization_statistics, synthetic
from dmd.model import DMD, ModelConfig
from dmd.task import DistillationConfig, DMDTask, TaskConfig

import gdkit.functional as GF
from gdkit._testing import flat
from tests.every_module import assert_same
from tests.example.small import ABLATIONS, NAMES, classes_of, make_batch, make_model, make_task, switched_off

DECOUPLING = {"reconstruction", "cycle", "margin", "orthogonality"}
BOTH_TASKS = pytest.mark.parametrize("is_regression", [True, False], ids=["regression", "classification"])


def example(is_regression, labels=None, **options):
    """A task and a batch for it; the last sample lacks a modality."""
    task = make_task(make_model(num_outputs=1 if is_regression else 3, dropout=0.0), **options)
    batch = make_batch(lengths=((5, 3, 4, 6), (4, 7, 6, 0), (9, 8, 2, 7)))
    batch = batch if is_regression else classes_of(batch)
    return task, batch if labels is None else batch._replace(labels=torch.tensor(labels, dtype=batch.labels.dtype))


def total(out, config):
    """Eq. 11 with Eq. 6 inside, from the terms."""
    term = {name: out.get(name, torch.tensor(0.0)) for name in ("task", "nodes", "homogeneous", "heterogeneous")}
    part = {name: getattr(config, f"{name}_weight") * out.get(name, torch.tensor(0.0)) for name in DECOUPLING}
    decoupling = part["reconstruction"] + part["cycle"] + config.gamma * (part["margin"] + part["orthogonality"])
    distillation = term["homogeneous"] + term["heterogeneous"]
    weighted = config.lambda_decoupling * decoupling + config.lambda_distillation * distillation
    return term["task"] + config.node_weight * term["nodes"] + weighted


@BOTH_TASKS
@pytest.mark.parametrize("ablation", ABLATIONS, ids=switched_off)
def test_every_ablation(ablation, is_regression):
    """Its terms, their weighted sum, its edges, and a gradient for every parameter."""
    task = make_task(make_model(num_outputs=1 if is_regression else 3, dropout=0.0, **ablation))
    batch = make_batch(lengths=((5, 3, 4), (4, 7, 6), (9, 8, 2)))  # three: signs of errors must not cancel
    out = task(batch if is_regression else classes_of(batch))
    units = {"homogeneous": ablation["homo_gd"], "heterogeneous": ablation["hetero_gd"]}
    units = {unit for unit, is_on in units.items() if is_on}
    terms = {name for name, value in out.items() if isinstance(value, torch.Tensor) and value.dim() == 0}
    assert terms == {"loss", "task", "nodes", *units, *(DECOUPLING if ablation["feature_decoupling"] else ())}
    torch.testing.assert_close(out["loss"], total(out, task.config))
    assert {unit: weights.shape for unit, weights in out["edges"].items()} == dict.fromkeys(units, (3, 6))
    assert out["output"].shape == ((3,) if is_regression else (3, 3))
    out["loss"].backward()
    lacking = [name for name, parameter in task.named_parameters() if parameter.grad is None]
    assert lacking == []
    assert all(parameter.grad.isfinite().all() for parameter in task.parameters())
    still = {name for name, parameter in task.named_parameters() if not parameter.grad.any()}
    assert all(name.startswith("units.") or "key" in name for name in still), still


@pytest.mark.parametrize("weight", [field.name for field in fields(TaskConfig) if field.type == "float"][:-1])
def test_every_weight_counts(weight):
    task, batch = example(True, **{weight: 0.37, "margin": 0.37})
    out = task(batch)
    torch.testing.assert_close(out["loss"], total(out, task.config))
    plain, _ = example(True)
    assert not torch.allclose(out["loss"], plain(batch)["loss"])


def test_terms_of_regression_are_the_equations():
    task, batch = example(True)
    out, model = task(batch), task.model(batch.inputs, batch.masks)
    labels, names, real = batch.labels, NAMES, model.present
    torch.testing.assert_close(out["task"], (model.output[:, 0] - labels).abs().mean())
    errors = [(model.joint_logits[:, 0] - labels).abs().mean()]
    for logits in (model.shared_logits, model.private_logits):
        errors += [(logits[name][:, 0] - labels).abs()[real[:, i]].mean() for i, name in enumerate(names)]
    torch.testing.assert_close(out["nodes"], sum(errors) / 7)
    parts, masks = model.decoupled, model.decoupled.masks
    rebuilt = [((parts.coupled[name] - parts.reconstruction[name])[masks[name]] ** 2).mean() for name in names]
    torch.testing.assert_close(out["reconstruction"], sum(rebuilt))
    cycle = [((parts.private[name] - parts.reencoded[name])[masks[name]] ** 2).mean() for name in names]
    torch.testing.assert_close(out["cycle"], sum(cycle))
    features = torch.stack([model.shared_features[name] for name in names], dim=1)
    wanted = GF.triplet_margin_loss(features, (labels > 0).long(), 0.1, node_mask=real)
    torch.testing.assert_close(out["margin"], wanted)
    cosines = [torch.cosine_similarity(parts.shared[n], parts.private[n], dim=-1)[masks[n]] for n in names]
    torch.testing.assert_close(out["orthogonality"], sum(cosine.clamp(min=0).mean() for cosine in cosines))
    unit = task.units["homogeneous"]
    distilled = unit(model.shared_logits, model.shared_features, node_mask=real)
    torch.testing.assert_close(out["homogeneous"], distilled.loss)
    torch.testing.assert_close(out["edges"]["homogeneous"], distilled.weights)


def test_terms_of_classification():
    task, batch = example(False)
    out, model = task(batch), task.model(batch.inputs, batch.masks)
    torch.testing.assert_close(out["task"], torch.nn.functional.cross_entropy(model.output, batch.labels))
    torch.testing.assert_close(out["output"], model.output)
    features = torch.stack([model.shared_features[name] for name in NAMES], dim=1)
    wanted = GF.triplet_margin_loss(features, batch.labels, 0.1, node_mask=model.present)
    torch.testing.assert_close(out["margin"], wanted)


@BOTH_TASKS
def test_unlabelled_samples_count_in_no_task_loss_and_no_triplet(is_regression):
    unknown = float("nan") if is_regression else -100
    task, batch = example(is_regression, [1, 2, 1, 2])
    task.eval()
    partly = batch._replace(labels=torch.tensor([1, 2, 1, unknown], dtype=batch.labels.dtype))
    positions = torch.tensor([0, 1, 2])
    three = batch._replace(
        **{part: {n: x[positions] for n, x in getattr(batch, part).items()} for part in ("inputs", "masks")},
        labels=batch.labels[positions],
        index=batch.index[positions],
    )
    out, without, labelled = task(partly), task(three), task(batch)
    for term in ("task", "nodes", "margin"):
        torch.testing.assert_close(out[term], without[term])
    for term in ("reconstruction", "cycle", "orthogonality", "homogeneous", "heterogeneous"):  # labels play no part
        torch.testing.assert_close(out[term], labelled[term])
    torch.testing.assert_close(out["output"], labelled["output"])
    nobody = task(batch._replace(labels=torch.full_like(batch.labels, unknown)))
    assert nobody["task"] == nobody["nodes"] == nobody["margin"] == 0
    nobody["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in task.parameters())
    assert task.model.encoder.shared.weight.grad.any()  # reconstruction goes on


@BOTH_TASKS
def test_a_sample_without_any_modality(is_regression):
    task = make_task(make_model(num_outputs=1 if is_regression else 3, dropout=0.0))
    batch = make_batch(lengths=((5, 3, 0, 6), (4, 7, 0, 5), (9, 8, 0, 7)))
    batch = batch if is_regression else classes_of(batch)
    out = task(batch)
    assert out["present"].tolist() == [[True] * 3, [True] * 3, [False] * 3, [True] * 3]
    assert all(value.isfinite().all() for value in flat(out).values())
    assert not any(features[2].any() for unit in out["features"].values() for features in unit.values())
    out["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in task.parameters())
    nothing = task(
        make_batch(lengths=((0, 0),) * 3) if is_regression else classes_of(make_batch(lengths=((0, 0),) * 3))
    )
    for term in ("nodes", *DECOUPLING, "homogeneous", "heterogeneous"):
        assert nothing[term] == 0, term
    assert nothing["loss"].isfinite()


def test_a_single_modality_has_nobody_to_learn_from():
    task = make_task(make_model(NAMES[:1], dropout=0.0))
    out = task(make_batch(NAMES[:1], ((5, 3, 4, 6),)))
    assert not task.units
    assert out["edges"] == {}
    assert out["margin"] == 0  # a positive is another modality
    out["loss"].backward()
    assert [name for name, parameter in task.named_parameters() if parameter.grad is None] == []


def test_distance_follows_the_task():
    regression, classification = example(True)[0], example(False)[0]
    assert {unit.distance for unit in regression.units.values()} == {"l1"}
    assert {unit.distance for unit in classification.units.values()} == {"kl"}
    assert {unit.distance_temperature for unit in classification.units.values()} == {2.0}
    chosen = make_task(distillation={"distance": "l2"})
    assert {unit.distance for unit in chosen.units.values()} == {"l2"}
    with pytest.raises(ValueError, match="distance 'kl' is always 0 on vectors of width 1"):
        make_task(distillation={"distance": "kl"})


def test_every_field_of_distillation_reaches_the_units():
    options = {
        "scorer": "mlp",
        "normalize": "graph",
        "temperature": 0.5,
        "distance": "l2",
        "distance_temperature": 3.0,
        "feature_distance": "cosine",
        "feature_weight": 0.25,
        "prior": [0.1, 0.2, 0.3, 0.1, 0.2, 0.1],
        "hetero_prior": [0.3, 0.2, 0.1, 0.1, 0.2, 0.1],
        "prior_weight": 0.5,
        "detach_weights": True,
    }
    elsewhere = {"hidden_dim", "quality_sharpness"}
    assert options.keys() | elsewhere == {field.name for field in fields(DistillationConfig)}
    task, batch = make_task(distillation=options | {"hidden_dim": 5}), make_batch()
    for unit in task.units.values():
        assert unit.scorer.logit_projection.out_features == 5
        for name in ("normalize", "temperature", "distance", "feature_distance", "feature_weight", "detach_weights"):
            assert getattr(unit, name) == options[name], name
    for unit, name in (("homogeneous", "prior"), ("heterogeneous", "hetero_prior")):
        torch.testing.assert_close(task.units[unit].prior, torch.tensor(options[name]))
    out = task(batch)
    model = task.model(batch.inputs, batch.masks)
    distilled = task.units["homogeneous"](model.shared_logits, model.shared_features, node_mask=model.present)
    assert distilled.terms["feature"] > 0
    assert distilled.terms["prior"] > 0
    torch.testing.assert_close(out["homogeneous"], distilled.loss)


def test_margin_proportional_to_the_labels():
    proportional, plain = (example(True, proportional_margin=flag)[0] for flag in (True, False))
    batch = make_batch()
    assert proportional(batch)["margin"] > plain(batch)["margin"]  # the labels are 3 apart
    with pytest.raises(ValueError, match="proportional_margin needs labels with a distance; classes have none"):
        example(False, proportional_margin=True)


def test_one_state_dict_holds_the_learned_graph():
    task, batch = example(True)
    optimizer = torch.optim.AdamW(task.parameters(), 1e-2)
    for _ in range(3):
        task(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    state = task.state_dict()
    for unit in ("homogeneous", "heterogeneous"):
        assert {name for name in state if name.startswith(f"units.{unit}.") and name.endswith("edge_score.weight")}
    assert {f"model.adapter.adapter.{name}_{part}" for name in NAMES for part in ("mean", "scale")} <= state.keys()
    fresh, _ = example(True)
    before, after = fresh(batch)["edges"]["homogeneous"], task(batch)["edges"]["homogeneous"]
    assert not torch.allclose(before, after, atol=1e-6)
    fresh.load_state_dict(state)
    for again in (fresh, copy.deepcopy(task)):
        assert_same(flat(again(batch)), flat(task(batch)), 0.0)


@pytest.mark.parametrize("better", ["first", "second"])
def test_the_reliable_modality_predicts_better(better):
    worse = {"first": "second", "second": "first"}[better]
    reliability = {name: 0.95 if name == better else 0.2 for name in ("first", "second")}
    recordings = synthetic((256, 128, 8), reliability=reliability, absent=0.0, seed=3)
    torch.manual_seed(0)
    model = DMD(ModelConfig(dim=8, num_heads=2, num_layers=1, dropout=0.0), recordings.dims, 1)
    model.adapter.fit(standardization_statistics(recordings.splits["train"]))
    task = DMDTask(model, TaskConfig())
    optimizer = torch.optim.AdamW(task.parameters(), 1e-2)
    loader = make_loader(recordings.splits["train"], 32, shuffle=True)
    for _ in range(6):
        for batch in loader:
            task(batch)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    (valid,) = make_loader(recordings.splits["valid"], 128)
    with torch.no_grad():
        out = task.eval().model(valid.inputs, valid.masks)
    chance = (valid.labels - valid.labels.median()).abs().mean()
    error = {name: (out.shared_logits[name][:, 0] - valid.labels).abs().mean() for name in reliability}
    assert error[better] < 0.6 * chance
    assert error[worse] > 0.9 * chance
    assert (out.output[:, 0] - valid.labels).abs().mean() < 0.6 * chance


def test_losses_of_each_modality():
    task = make_task().eval()
    batch = make_batch(lengths=((5, 3, 4, 6), (4, 0, 6, 5), (9, 8, 2, 7)), labels=[1.0, -2.0, float("nan"), 0.0])
    out, network = task(batch), task.model(batch.inputs, batch.masks)
    losses = out["node_losses"]["homogeneous"]
    assert losses.shape == (4, 3)
    assert (losses == 0).tolist() == [[False] * 3, [False, True, False], [True] * 3, [False] * 3]
    expected = (network.shared_logits["language"][0, 0] - 1).abs()
    torch.testing.assert_close(losses[0, 0].float(), expected)


def test_quality_leads_the_edges():
    task = make_task(distillation={"quality_sharpness": 4.0, "scorer": None, "normalize": "graph"})
    batch = make_batch()
    assert {name for name in task.state_dict() if name.endswith("_quality")} == {
        "homogeneous_quality",
        "heterogeneous_quality",
    }
    equal = task(batch)["edges"]["homogeneous"]
    torch.testing.assert_close(equal, torch.full_like(equal, 1 / 6))
    task.set_quality({"homogeneous": [0.2, 0.7, float("nan")], "heterogeneous": [1.0, 1.0, 1.0]})
    torch.testing.assert_close(task.homogeneous_quality, torch.tensor([-0.8, -2.8, -1.8]))  # the third: the mean
    weights = task(batch)["edges"]["homogeneous"][0]
    teachers = task.units["homogeneous"].graph.edge_index[0]
    torch.testing.assert_close(weights, torch.tensor([-0.8, -2.8, -1.8])[teachers].softmax(0))
    plain = make_task()
    plain.set_quality({"homogeneous": [0.2, 0.7, 1.0]})
    assert not any(name.endswith("_quality") for name in plain.state_dict())


def test_a_sharpness_below_zero():
    with pytest.raises(ValueError, match="quality_sharpness must be at least 0, got -1"):
        DistillationConfig(quality_sharpness=-1)
