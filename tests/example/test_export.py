"""Exported files: the same predictions as the network's, at any size, and nothing in them that only training reads."""

import json
from dataclasses import asdict
from pathlib import Path

import export
import jsonargparse
import numpy as np
import pytest
import torch
from dmd import released
from dmd.checkpoint import build_task, load_weights, read_config, save_weights, write_config
from dmd.config import RunConfig
from dmd.data import only
from dmd.export import export_run
from dmd.released_network import NAMES
from dmd.training_state import weights_of

from tests.example.test_predictor import CLASSES, DIMS, VALUES, untrained

REASON = "the export extra is not installed"
onnx = pytest.importorskip("onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
pytest.importorskip("onnxscript", reason=REASON)

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "dmd" / "configs").glob("*.yaml"))
SIZES = [(1, 1), (1, 30), (2, 7), (5, 61)]  # samples, and steps of the longest
# What only training reads; the heads of the parts as well, unless they vote.
FOREIGN = ("decoder", "units", "text_encoder", "unused", "aligning", "scorer", "prior", "quality")
HEADS = ("shared_heads", "private_heads", "joint_head", "shared_readout", "logit_heads")


def drawn(size, longest, seed, dims):
    """A padded batch with absent modalities and other lengths in each row; what is not real is anything but zero."""
    generator = torch.Generator().manual_seed(seed)
    inputs, masks = {}, {}
    for place, (name, dim) in enumerate(dims.items()):
        steps = max(1, longest - 3 * place)
        inputs[name] = 2 * torch.randn(size, steps, dim, generator=generator)
        lengths = torch.randint(0, steps + 1, (size, 1), generator=generator)
        lengths[0] = steps if place == 0 else 0  # one row of a single modality
        masks[name] = torch.arange(steps) < lengths
    return inputs, masks


def check(folder, out):
    """Compare both files with the network."""
    config, described = read_config(folder)
    dims = described["dims"]
    task = build_task(config, described)
    load_weights(folder / "model.safetensors", task)
    network = task.model.eval()
    paths = [out / f"model.{suffix}" for suffix in ("pt2", "onnx", "json")]
    if not out.exists():
        assert export_run(folder, out) == paths
    graph = json.loads(paths[2].read_text())
    session = onnxruntime.InferenceSession(paths[1], providers=["CPUExecutionProvider"])
    program = torch.export.load(paths[0]).module()
    names = [each.name for each in session.get_inputs()]
    assert (
        names
        == [*dims, *(f"{name}.mask" for name in dims)]
        == [each[kind] for kind in ("input", "mask") for each in graph["modalities"].values()]
    )
    assert [each.name for each in session.get_outputs()] == graph["outputs"]
    assert session.get_inputs()[0].shape == ["batch", "language_steps", dims["language"]]
    for seed, (size, longest) in enumerate(SIZES):
        inputs, masks = drawn(size, longest, seed, dims)
        with torch.no_grad():
            wanted = network(inputs, masks).output
            loaded = program(inputs, masks)
        feed = dict(zip(names, [x.numpy() for part in (inputs, masks) for x in part.values()], strict=True))
        found = session.run(None, feed)
        if graph["classes"]:
            np.testing.assert_allclose(found[1], wanted.softmax(dim=1).numpy(), atol=1e-5)
            np.testing.assert_allclose(found[1].sum(axis=1), 1, atol=1e-5)
            loaded = loaded[0]
        wanted = wanted if graph["classes"] else wanted[:, 0]
        for name in dims:  # what is not real is not read, whatever it is
            feed[name] = np.where(masks[name].numpy()[..., None], feed[name], np.float32("nan"))
        np.testing.assert_array_equal(session.run(None, feed)[0], found[0])
        np.testing.assert_allclose(found[0], wanted.numpy(), atol=1e-4)
        np.testing.assert_allclose(loaded.numpy(), wanted.numpy(), atol=1e-5)
    check_parts(paths, votes=config.model.vote and config.network == "dmd")
    return graph


def check_parts(paths, *, votes):
    """No weight of what only training reads, in either file."""
    model = onnx.load(paths[1])
    read = {name for node in model.graph.node for name in node.input}
    kept = {each.name for each in model.graph.initializer}
    assert kept <= read  # nothing lies there unused
    program = torch.export.load(paths[0])
    foreign = FOREIGN if votes else FOREIGN + HEADS
    for names in (kept, set(program.state_dict)):
        assert not [name for name in names if set(name.split(".")) & set(foreign)]
    assert any("fusion" in name or ".head." in name for name in program.state_dict)
    assert not program.constants or all(x.numel() < 100 for x in program.constants.values())
    assert not [name for name in program.graph_signature.buffers if name not in program.state_dict]


def test_the_command(tmp_path, capsys):
    """Classes; docs/serving.md, whose blocks are run, has values."""
    untrained(tmp_path, only(CLASSES, ["language", "vision"]), cross_attention=False)
    export.main(["--checkpoint", str(tmp_path)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / "export" / f"model.{suffix}") for suffix in ("pt2", "onnx", "json")
    ]
    graph = check(tmp_path, tmp_path / "export")
    assert (graph["task"], graph["classes"]) == ("classification", list(CLASSES.classes))
    assert (graph["outputs"], graph["standardize"]) == (["logits", "probabilities"], "column")


OTHERS = {
    **{path.stem: path for path in CONFIGS},
    "cross-attention": {},
    "no decoupling": {"feature_decoupling": False, "memory_layers": 1, "wide": "moments"},
    "sample": {"cross_attention": False, "standardize": "sample"},
    "mult": {},
    "transformer": {"pool": {"language": 10}, "stem_layers": 1, "stem_stride": 2, "readout": "mean_max"},
    "early_fusion": {"readout": "attention", "pool": {"acoustic": 10}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_configuration(tmp_path, name):
    options = OTHERS[name]
    if isinstance(options, Path):
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(RunConfig, None)
        options = vars(parser.parse_path(str(options)).model) | {"dim": 8, "num_heads": 2, "num_layers": 1}
        options["pool"] = dict(zip(DIMS, [*options["pool"].values(), 1, 1])) if options["pool"] != 1 else 1
        options["modality_dropout"] = 0.0
    recordings = CLASSES if name in ("smartwatch", "utd_mhad", "mult") else VALUES
    untrained(tmp_path, recordings, name if name in ("mult", "transformer", "early_fusion") else "dmd", **options)
    check(tmp_path, tmp_path / "export")


@pytest.mark.slow
def test_an_imported_checkpoint(tmp_path):
    torch.manual_seed(0)
    steps = {"language": 4, "vision": 6, "acoustic": 5}
    sizes = {"dim": 6, "num_heads": 3, "num_layers": 1, "memory_layers": 1, "kernel_size": dict.fromkeys(NAMES, 2)}
    task = released.ReleasedTask(
        released.ReleasedNetwork(released.ReleasedConfig(dict(DIMS), steps, **sizes)), released.ReleasedObjective()
    ).eval()
    parts = {"network": asdict(task.model.config), "objective": asdict(task.config)}
    described = {"dims": DIMS, "task": "regression", "metrics": "mosi", "classes": [], "sha256": "", "encoder": None}
    write_config(tmp_path, RunConfig(data="x.pkl"), described | {"released": parts})
    save_weights(tmp_path / "model.safetensors", weights_of(task))
    paths = export_run(tmp_path, tmp_path / "export")
    graph = json.loads(paths[2].read_text())
    assert {name: (each["steps"], each["mask"]) for name, each in graph["modalities"].items()} == {
        name: (number, None) for name, number in steps.items()
    }
    session = onnxruntime.InferenceSession(paths[1])
    for size in (1, 4):
        inputs = {name: torch.randn(size, steps[name], dim) for name, dim in DIMS.items()}
        inputs["vision"][0] = 0
        with torch.no_grad():
            wanted = task.model(inputs).output[:, 0].numpy()
        found = session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    check_parts(paths, votes=False)


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        export.main([*map(str, arguments)])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_exported(tmp_path, capsys, monkeypatch):
    assert "gone is not the folder of a run: it has no config.json" in fails(capsys, "--checkpoint", "gone")
    run = untrained(tmp_path / "run")
    (run / "file").write_text("")
    said = fails(capsys, "--checkpoint", run, "--out", run / "file")
    assert "cannot be made a folder" in said
    whole = (run / "config.json").read_text()
    (run / "config.json").write_text(whole.replace('"text": null', '"text": "finetune"'))
    assert "a network that reads token ids is not exported" in fails(capsys, "--checkpoint", run)
    (run / "config.json").write_text(whole)
    monkeypatch.setattr("dmd.export.find_spec", lambda name: None)
    assert "export needs onnx and onnxscript: install the 'export' extra" in fails(capsys, "--checkpoint", run)
    monkeypatch.undo()
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors" in fails(capsys, "--checkpoint", run)
