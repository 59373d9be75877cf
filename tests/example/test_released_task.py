"""The rebuilt published network used as any other network, and each of its quirks."""

from dataclasses import replace

import pytest
import torch
from dmd.data import Batch, collate, make_loader, synthetic
from dmd.evaluation import edge_names, evaluate
from dmd.released import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.released_objective import GRAPH, label_distance_margin
from dmd.released_weights import published_keys

SMALL = ReleasedConfig(
    input_dims={"language": 6, "vision": 4, "acoustic": 3},
    steps={"language": 5, "vision": 9, "acoustic": 7},
    dim=4,
    num_heads=2,
    num_layers=1,
    memory_layers=2,
    kernel_size={"language": 2, "vision": 3, "acoustic": 1},
)


def make_batch(size=3, steps=SMALL.steps, labels=(1.0, -0.4, 1.0), seed=0):
    """A batch of full sequences."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(size, steps[name], SMALL.input_dims[name], generator=generator) for name in NAMES}
    masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in inputs.items()}
    return Batch(inputs, masks, torch.tensor(labels), torch.arange(size))


def make_task(config=SMALL, **options):
    """The same task in every call."""
    torch.manual_seed(0)
    return ReleasedTask(ReleasedNetwork(config), ReleasedObjective(**options)).eval()


def test_last_step_is_the_last_of_the_whole_sequence():
    network = make_task().model
    x = torch.randn(2, 6, 4)
    torch.testing.assert_close(network.joint["vision"](x, last_step=True), network.joint["vision"](x)[:, -1])


def test_a_step_whose_first_channel_is_zero_gets_no_position():
    x = torch.randn(1, 3, 4)
    x[0, 1, 0] = 0.0
    published = make_task().model.joint["vision"]
    elsewhere = make_task(replace(SMALL, zero_positions=False)).model.joint["vision"]
    assert (published.positions(x, None)[0, 1] == 0).all()
    torch.testing.assert_close(published.positions(x, None)[0, 2], elsewhere.positions(x, None)[0, 2])
    assert (elsewhere.positions(x, None)[0, 1] != 0).any()


def test_shorter_sequences_are_padded_with_zeros():
    task, batch = make_task(), make_batch()
    short = {name: x[:, :-1] for name, x in batch.inputs.items()}
    padded = {name: torch.nn.functional.pad(x, (0, 0, 0, 1)) for name, x in short.items()}
    torch.testing.assert_close(task.model(short).output, task.model(padded).output)


def test_longer_sequences_are_named():
    batch = make_batch(steps=SMALL.steps | {"vision": 10})
    with pytest.raises(ValueError, match="released: the network reads at most 9 steps of vision, got 10"):
        make_task()(batch)


def test_equal_width_skips_the_convolution_only_under_a_kernel_of_one_step():
    same = replace(SMALL, input_dims={"language": 4, "vision": 4, "acoustic": 4})
    assert ReleasedNetwork(same).skipped == ("acoustic",)
    assert ReleasedNetwork(replace(same, skip_equal_width=False)).skipped == ()


def test_config_names_misfits():
    with pytest.raises(ValueError, match="steps must name language, vision, acoustic, got"):
        replace(SMALL, steps={"language": 5})
    with pytest.raises(ValueError, match="vision has 2 steps, fewer than its kernel_size 3"):
        replace(SMALL, steps=SMALL.steps | {"vision": 2})


@pytest.mark.parametrize(
    ("option", "value", "moved"),
    [
        ("orthogonality_axis", "feature", ["orthogonality"]),
        ("margin_pairs", "paper", ["margin"]),
        ("add_prior", False, ["homogeneous", "heterogeneous"]),
        ("heterogeneous_repr", 0.0, ["heterogeneous"]),
        ("homogeneous_repr", 10.0, ["homogeneous"]),
        ("heterogeneous_prior", None, ["heterogeneous"]),
    ],
)
def test_each_quirk_of_the_objective_changes_its_terms_alone(option, value, moved):
    batch = make_batch(4, labels=(1.0, -0.4, 1.0, 1.2))
    before, after = make_task()(batch), make_task(**{option: value})(batch)
    terms = [name for name, value in before.items() if isinstance(value, torch.Tensor) and value.dim() == 0]
    assert [name for name in terms if before[name] != after[name]] == ["loss", *moved]


@pytest.mark.parametrize("option", ["band", "gates_replace", "zero_positions"])
def test_each_quirk_of_the_network_changes_its_output(option):
    batch = make_batch()
    for x in batch.inputs.values():
        x[:, -1] = 0.0
    after = make_task(replace(SMALL, **{option: False}))(batch)
    assert (make_task()(batch)["output"] != after["output"]).all()


def test_gradients_reach_all_but_the_unused_projections():
    task = make_task()
    task(make_batch())["loss"].backward()
    without = {name.split(".")[1] for name, x in task.named_parameters() if x.grad is None}
    assert without == {"unused"}


def test_every_parameter_of_the_network_has_a_published_name():
    network = make_task().model
    keys = published_keys(SMALL)
    assert sorted(keys.values()) == sorted(name for name, _ in network.named_parameters())
    assert len(set(keys)) == len(keys)


def test_margin_loss_is_a_mean_within_each_anchor_then_over_the_anchors():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([1.0, 1.0, -0.2, 1.0, 2.0, -0.2], dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=-1)
    anchors = []
    for i in range(6):
        positives = [j for j in range(6) if j != i and labels[j] == labels[i]]
        negatives = [k for k in range(6) if labels[k] != labels[i]]
        hinges = [
            max(0.0, float(0.15 * abs(labels[i] - labels[k]) - cosine[i, j] + cosine[i, k]))
            for j in positives
            for k in negatives
        ]
        if hinges:
            anchors.append(sum(hinges) / len(hinges))
    assert len(anchors) == 5
    found = label_distance_margin(features, labels, 0.15)
    assert float(found) == pytest.approx(sum(anchors) / len(anchors), rel=1e-9)


@pytest.mark.parametrize("labels", [(1.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_margin_of_one_label_is_zero_with_a_gradient(labels):
    features = torch.randn(3, 4, requires_grad=True)
    loss = label_distance_margin(features, torch.tensor(labels), 0.15)
    loss.backward()
    assert loss == 0
    assert (features.grad == 0).all()


def test_unlabelled_samples_change_no_task_loss_and_no_margin():
    task = make_task()
    out = task(make_batch(labels=(1.0, -0.4, float("nan"))))
    part = make_batch()
    part = Batch(*({name: x[:2] for name, x in y.items()} for y in part[:2]), part.labels[:2], part.index[:2])
    for term in ("task", "nodes", "margin"):
        torch.testing.assert_close(out[term], task(part)[term])
    assert out["loss"].isfinite()


def test_evaluation_reads_it_like_any_other_network():
    from accelerate import Accelerator

    recordings = synthetic((8, 8, 8), steps={"language": 5, "vision": 9, "acoustic": 7}, absent=0.2, seed=1)
    task = make_task(replace(SMALL, input_dims=recordings.dims))
    judged = evaluate(task, make_loader(recordings.splits["test"], 3), recordings, "test", Accelerator(cpu=True))
    assert judged["predictions"]["prediction"].shape == (8,)
    assert set(judged["edges"]) == set(judged["features"]) == {"homogeneous", "heterogeneous"}
    assert set(judged["features"]["heterogeneous"]) == set(NAMES)
    assert edge_names(task) == GRAPH.edges
    assert {"task", "nodes", "margin", "loss"} <= judged["terms"].keys()


def test_a_step_of_training_lowers_the_loss():
    task, batch = make_task(), make_batch()
    task.model.adapter.fit({})
    optimizer = torch.optim.Adam(task.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(task(batch)["loss"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_a_collated_batch_says_which_modalities_a_sample_has():
    recordings = synthetic((8, 8, 8), steps={"language": 5, "vision": 9, "acoustic": 7}, absent=0.5, seed=1)
    task = make_task(replace(SMALL, input_dims=recordings.dims))
    split = recordings.splits["train"]
    present = task(collate(split, list(range(8))))["present"]
    wanted = [[len(split.inputs[name][i]) > 0 for name in NAMES] for i in range(8)]
    assert present.tolist() == wanted


@pytest.mark.parametrize("steps", [{}, dict.fromkeys(NAMES, 7)], ids=["unaligned", "aligned"])
def test_stacked_as_on_a_gpu_the_network_is_the_same(steps, monkeypatch):
    config = replace(SMALL, num_layers=2, steps=SMALL.steps | steps, kernel_size=dict.fromkeys(NAMES, 2))
    results = []
    for stacked in (False, True):
        monkeypatch.setattr("gdkit.stacking._pays", lambda _, stacked=stacked: stacked)
        task, batch = make_task(config), make_batch(steps=config.steps)
        loss = task(batch)["loss"]
        loss.backward()
        results.append([loss, *(p.grad for p in task.parameters() if p.grad is not None)])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
