"""The DMD network: any modalities, any lengths, and what must change no result."""

import copy
from dataclasses import fields

import pytest
import torch
from dmd.model import DMD, ModelConfig

from gdkit._testing import flat, on_each
from gdkit.testing import check_padding_invariance, check_permutation_equivariance
from tests.every_module import assert_same
from tests.example.small import ABLATIONS, DIMS, NAMES, make_batch, make_model, switched_off, take

LENGTHS = {
    "aligned": ((5, 3, 4), (5, 3, 4), (5, 3, 4), (5, 3, 4)),
    "unaligned": ((5, 3, 4), (2, 9, 1), (7, 7, 7), (1, 1, 1)),
    "with absent modalities": ((5, 0, 4), (0, 9, 0), (7, 7, 0), (0, 1, 0)),
}
OPTIONS = [
    {"pool": 2},
    {"pool": {"vision": 3}},
    {"standardize": "modality"},
    {"standardize": "sample"},
    {"stem_layers": 2},
    {"memory_layers": 1},
    {"kernel_size": {"language": 5, "acoustic": 1}},
    {"cross_attention": False},
    {"feature_decoupling": False},
]
EVERY_OPTION = pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)


def run(model, batch):
    return model(batch.inputs, batch.masks)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_modalities_of_any_lengths(count, lengths):
    names = tuple(DIMS)[:count]
    model = make_model(names, num_outputs=3)
    batch = make_batch(names, LENGTHS[lengths][:count])
    out = run(model, batch)
    width = 8 * max(1, count - 1)
    assert out.output.shape == out.joint_logits.shape == (3, 3)
    assert {name: x.shape for name, x in out.shared_features.items()} == dict.fromkeys(names, (3, 8))
    assert {name: x.shape for name, x in out.private_features.items()} == dict.fromkeys(names, (3, width))
    for logits in (out.shared_logits, out.private_logits):
        assert {name: x.shape for name, x in logits.items()} == dict.fromkeys(names, (3, 3))
    assert all(value.isfinite().all() for value in flat(out).values())
    present = torch.tensor(LENGTHS[lengths][:count]).T > 0
    assert torch.equal(out.present, present)
    for i, name in enumerate(names):
        assert torch.equal(out.shared_features[name].any(dim=1), present[:, i])


@EVERY_OPTION
def test_stacked_as_on_a_gpu_the_network_is_the_same(options, monkeypatch):
    model, batch = make_model(**options), make_batch(lengths=((5, 3, 4), (5, 3, 4), (5, 3, 4)))
    one_by_one = run(model, batch)
    monkeypatch.setattr("gdkit.stacking._pays", lambda _: True)
    assert_same(run(model, batch), one_by_one)


@EVERY_OPTION
def test_padding_changes_no_result(options):
    model, batch = make_model(**options), make_batch(lengths=((5, 3, 4), (4, 7, 0), (9, 8, 2)))
    # With pooling, the encoder's sequences have another number of steps than what was padded.
    check_padding_invariance(
        lambda inputs, masks: model(inputs, masks)._replace(decoupled=None), batch.inputs, batch.masks
    )
    if "pool" not in options:
        check_padding_invariance(model, batch.inputs, batch.masks)


@EVERY_OPTION
def test_order_and_company_in_the_batch_change_no_result(options):
    model, batch = make_model(**options), make_batch(lengths=((5, 3, 4), (4, 7, 0), (9, 8, 2)))
    check_permutation_equivariance(model, batch.inputs, batch.masks)
    everyone = run(model, batch)
    for i in range(3):
        alone = run(model, take(batch, [i]))
        assert_same(flat(alone), {path: value[i : i + 1] for path, value in flat(everyone).items()})


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_modality_is_as_if_it_were_not_there(name):
    model, batch = make_model(), make_batch()
    masks = batch.masks | {name: torch.zeros_like(batch.masks[name])}
    out, whole = model(batch.inputs, masks), run(model, batch)
    spoiled = model(batch.inputs | {name: torch.full_like(batch.inputs[name], torch.nan)}, masks)
    assert_same(flat(spoiled), flat(out))
    assert not out.shared_features[name].any()
    assert not out.private_features[name].any()
    for other in set(NAMES) - {name}:
        assert_same(out.shared_logits[other], whole.shared_logits[other])  # a shared part knows of no other modality
        assert out.private_features[other].any()


def test_padding_and_absence_reach_no_gradient():
    model, batch = make_model(dropout=0.0).train(), make_batch(lengths=((5, 3), (4, 7), (9, 0)))
    spoiled = {
        name: torch.where(batch.masks[name][..., None], x, torch.nan).requires_grad_()
        for name, x in batch.inputs.items()
    }
    model(spoiled, batch.masks).output.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    for name, x in spoiled.items():
        assert x.grad[batch.masks[name]].any()
        assert not x.grad[~batch.masks[name]].any()


@pytest.mark.parametrize("ablation", ABLATIONS, ids=switched_off)
def test_every_ablation(ablation):
    out = run(make_model(**ablation), make_batch())
    assert (out.decoupled is not None) == ablation["feature_decoupling"]
    width = 16 if ablation["cross_attention"] else 8
    assert {x.shape[1] for x in out.private_features.values()} == {width}
    shared, private = (torch.stack([*part.values()]) for part in (out.shared_features, out.private_features))
    if not ablation["feature_decoupling"] and not ablation["cross_attention"]:
        assert torch.equal(shared, private)  # both read the same sequences


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_every_standardisation_and_pool_acts(options):
    batch = make_batch()
    model, plain = make_model(**options), make_model()
    model.load_state_dict(plain.state_dict(), strict=False)
    statistics = {name: (x[0, 0].numpy(), x[0, 1].abs().numpy() + 0.5) for name, x in batch.inputs.items()}
    for each in (model, plain):
        each.adapter.fit(statistics)
    assert not torch.allclose(run(model, batch).output, run(plain, batch).output)


def test_hidden_modalities_in_training_only():
    model, batch = make_model(modality_dropout={"language": 0.9}, dropout=0.0), make_batch()
    assert run(model, batch).present.all()
    assert torch.equal(run(model, batch).output, run(model, batch).output)
    present = torch.stack([run(model.train(), batch).present for _ in range(50)]).float()
    assert present[..., 0].mean() < 0.3
    assert present[..., 1:].all()
    model = make_model(modality_dropout=0.99).train()
    present = torch.stack([run(model, batch).present for _ in range(20)])
    assert present.any(dim=-1).all()
    assert present.sum(dim=-1).float().mean() < 1.2


def test_dropout_acts_in_training_only():
    model, batch = make_model(dropout=0.5, input_dropout=0.2, attention_dropout=0.2), make_batch()
    assert torch.equal(run(model, batch).output, run(model, batch).output)
    model.train()
    assert not torch.equal(run(model, batch).output, run(model, batch).output)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiles_without_a_graph_break():
    model = make_model(NAMES[:2], pool=2, stem_layers=1, standardize="sample")
    batch = make_batch(NAMES[:2], ((5, 3, 4), (4, 7, 0)))
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert_same(flat(compiled(batch.inputs, batch.masks)), flat(run(model, batch)))


def test_copies_and_state_dict_carry_the_statistics():
    batch = make_batch()
    model = make_model()
    before = run(model, batch).output
    model.adapter.fit({name: (x[0, 0].numpy(), x[0, 1].abs().numpy() + 0.5) for name, x in batch.inputs.items()})
    wanted = run(model, batch)
    assert not torch.allclose(wanted.output, before)
    torch.manual_seed(1)
    other = make_model().__class__(model.config, {name: DIMS[name] for name in NAMES}, 1).eval()
    other.load_state_dict(model.state_dict())
    for again in (copy.deepcopy(model), other):
        assert_same(flat(run(again, batch)), flat(wanted), 0.0)


def test_a_step_in_float64():
    model, batch = make_model(pool=2).double(), make_batch()
    out = model(on_each(torch.Tensor.double, batch.inputs), batch.masks)
    assert {value.dtype for value in flat(out).values()} == {torch.float64, torch.bool}
    assert_same(out.output.float(), run(make_model(pool=2), batch).output, 1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 9}, "num_heads must divide dim, got dim 9 and num_heads 2"),
        ({"kernel_size": 0}, "kernel_size must be at least 1 step, got 0"),
        ({"kernel_size": 0, "feature_decoupling": False}, "kernel_size must be at least 1 step, got 0"),
        ({"kernel_size": {"nose": 3}}, "kernel_size names nose; the modalities are language, vision, acoustic"),
        ({"pool": {"nose": 3}}, "pool names nose"),
        ({"stem_layers": -1}, "stem_layers must be at least 0, got -1"),
        ({"gain": -0.5}, "gain must be at least 0, got -0.5"),
        ({"modality_dropout": 1.0}, r"modality_dropout must be in \[0, 1\), got 1.0"),
        ({"modality_dropout": {"vision": -0.5}}, r"modality_dropout must be in \[0, 1\)"),
        ({"modality_dropout": {"nose": 0.5}}, "modality_dropout names nose"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)


def test_a_modality_that_cannot_name_a_submodule():
    for name in ("left.hand", "training"):
        with pytest.raises(ValueError, match=f"modality '{name}' cannot name a submodule"):
            DMD(ModelConfig(), {name: 3}, 1)


def test_every_field_of_the_configuration_is_explained():
    for field in fields(ModelConfig):
        assert f"        {field.name}: " in ModelConfig.__doc__


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_vote_is_the_mean_of_all_parts_that_are_there(num_outputs):
    batch = make_batch(lengths=((5, 3, 4, 6), (4, 0, 6, 5), (9, 0, 2, 7)))
    plain, voting = make_model(num_outputs=num_outputs), make_model(num_outputs=num_outputs, vote=True)
    fused, voted = plain(batch.inputs, batch.masks), voting(batch.inputs, batch.masks).output
    voices = [fused.output, fused.joint_logits, fused.shared_logits["language"], fused.private_logits["language"]]
    voices = torch.stack(voices)[:, 1]  # the second sample has language alone
    voices = voices.log_softmax(dim=-1) if num_outputs > 1 else voices
    torch.testing.assert_close(voted[1], voices.mean(dim=0))
    voting.train(), plain.train()
    torch.testing.assert_close(voting(batch.inputs, batch.masks).output.shape, fused.output.shape)


@pytest.mark.parametrize("readout", ["mean_max", "attention"])
def test_readouts_train(readout):
    batch = make_batch()
    model = make_model(readout=readout, stem_layers=2, stem_batch_norm=True, stem_stride=2).train()
    model(batch.inputs, batch.masks).output.sum().backward()
    used = [p.grad is not None for name, p in model.named_parameters() if "readout" in name and "shared" not in name]
    assert all(used)


def test_a_stride_below_one():
    with pytest.raises(ValueError, match="stem_stride must be at least 1 step, got 0"):
        make_model(stem_stride=0)


@pytest.mark.parametrize("kind", ["moments", "signal"])
def test_wide_adds_a_linear_map_of_the_statistics(kind):
    batch = make_batch(lengths=((5, 3, 4, 6), (4, 0, 6, 5), (9, 8, 2, 7)))
    model = make_model(wide=kind)
    before = model(batch.inputs, batch.masks)
    with torch.no_grad():
        model.wide["shared"]["vision"].weight[0, 0] += 1.0  # of the first column's mean
    after = model(batch.inputs, batch.masks)
    present = batch.masks["vision"].any(dim=1)
    means = batch.inputs["vision"][..., 0].sum(dim=1) / batch.masks["vision"].sum(dim=1).clamp(min=1)
    moved = (after.shared_logits["vision"] - before.shared_logits["vision"])[:, 0]
    torch.testing.assert_close(moved[present], means[present], rtol=1e-4, atol=1e-5)
    assert moved[~present].tolist() == [0.0]
    torch.testing.assert_close(after.output, before.output)
    model.train()(batch.inputs, batch.masks).output.sum().backward()
    assert model.wide["fused"]["vision"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("option", ["gain", "mixing", "warp"])
def test_an_augmentation_below_zero(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 0, got -0.1"):
        make_model(**{option: -0.1})
