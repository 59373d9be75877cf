"""Published checkpoints as run folders: what goes along, what is loaded again, and every refusal."""

import json
import pickle
from pathlib import Path

import evaluate
import import_released
import numpy as np
import predict
import pytest
import torch
from dmd import released
from dmd.checkpoint import describe, load_for, write_config
from dmd.released_checkpoint import import_published
from dmd.released_text import bert_config
from safetensors.torch import load_file

from tests.example.small_runs import CONFIG, RECORDINGS, rows

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "dmd_mosei_kernels.npz"


@pytest.fixture(scope="module")
def case():
    if not GOLDEN.is_file():
        pytest.skip(f"the golden file tests/golden/{GOLDEN.name} is absent")
    with np.load(GOLDEN, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def state(case):
    """A state dict as the published program writes it."""
    prefix = "model.state."
    return {key.removeprefix(prefix): torch.tensor(x) for key, x in case.items() if key.startswith(prefix)}


def write(path, content):
    torch.save(content, path)
    return path


def data_file(path, case, **sizes):
    """The case's inputs as an MMSA file."""
    size = len(case["in.labels"])
    tokens = np.zeros((size, 3, case["in.text"].shape[1]))
    tokens[:, 0, :3], tokens[:, 1, :3] = 7, 1
    split = {
        "id": [f"clip{i}" for i in range(size)],
        "text": case["in.text"],
        "vision": case["in.vision"],
        "audio": case["in.audio"],
        "regression_labels": case["in.labels"][:, 0],
        **sizes,
    }
    if "text_bert" in split:
        split["text_bert"] = tokens
    with path.open("wb") as file:
        pickle.dump(dict.fromkeys(("train", "valid", "test"), split), file)
    return path


def refused(capsys, *arguments):
    """What import_released.py says of input that it refuses."""
    with pytest.raises(SystemExit) as left:
        import_released.main(list(map(str, arguments)))
    assert left.value.code == 2
    return capsys.readouterr().err


def evaluated(run, data):
    """The predictions that evaluate.py writes."""
    evaluate.main([str(run), "--data", str(data), "--device", "cpu"])
    return [float(row["prediction"]) for row in rows(run / "predictions_test.csv")]


def small_bert(width=11):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=6,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    return transformers.BertModel(config).eval()


def test_an_imported_network_computes_the_published_output(case, state, tmp_path):
    config = import_published(write(tmp_path / "dmd.pth", state), tmp_path / "run", "mosei", num_heads=3)
    assert config.steps == {"language": 12, "vision": 31, "acoustic": 20}
    assert config.kernel_size == {"language": 5, "vision": 3, "acoustic": 1}
    task = released.load(tmp_path / "run")
    inputs = {name: torch.tensor(case[key]) for name, key in released.INPUTS.items()}
    with torch.no_grad():
        output = task.model(inputs).output
    np.testing.assert_allclose(output.numpy(), case["out.output_logit"], rtol=1e-4)


def test_unpublished_gd_units_start_with_equal_weights(state, tmp_path):
    import_published(write(tmp_path / "dmd.pth", state), tmp_path / "run", "mosei", num_heads=3)
    for unit in released.load(tmp_path / "run").units.values():
        assert all((parameter == 0).all() for parameter in unit.parameters())


def test_the_data_set_brings_heads_and_dropout(state, tmp_path):
    config = import_published(write(tmp_path / "dmd.pth", state), tmp_path / "run", "mosei")
    assert config.num_heads == 6
    assert config.attention_dropout["memory"] == 0.4
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["released"]["network"]["num_heads"] == 6


def test_evaluate_and_predict_read_an_imported_folder(case, state, tmp_path, capsys):
    published, run = write(tmp_path / "dmd.pth", state), tmp_path / "run"
    data = data_file(tmp_path / "data.pkl", case)
    import_released.main([str(published), str(run), "--dataset", "mosei", "--num-heads", "3"])
    said = capsys.readouterr().out
    assert "language 12 x 11, vision 31 x 9, acoustic 20 x 7; width 6, 3 heads, 1 layers" in said
    np.testing.assert_allclose(evaluated(run, data), case["out.output_logit"][:, 0], rtol=1e-4)
    assert "mae" in capsys.readouterr().out
    predict.main(["--checkpoint", str(run), "--data", str(data), "--out", str(tmp_path / "new.csv"), "--device", "cpu"])
    assert len(rows(tmp_path / "new.csv")) == 15


def test_a_fine_tuned_bert_goes_along_and_is_read(case, state, tmp_path):
    bert = small_bert()
    text = {f"text_model.model.{key}": value for key, value in bert.state_dict().items()}
    counters = {"text_model.model.embeddings.position_ids": torch.arange(16)[None]}
    path = write(tmp_path / "dmd.pth", state | text | counters)
    import_published(path, tmp_path / "run", "mosei", num_heads=3)
    kept = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in text.items())
    task = released.load(tmp_path / "run")
    inputs = {name: torch.tensor(case[key]) for name, key in released.INPUTS.items()}
    tokens, mask = torch.zeros(2, len(case["in.labels"]), 12, dtype=torch.long)
    tokens[:, :3], mask[:, :3] = 7, 1
    with torch.no_grad():
        inputs["language"] = bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        output = task.model(inputs).output[:, 0]
    data = data_file(tmp_path / "data.pkl", case, text_bert=None)
    np.testing.assert_allclose(evaluated(tmp_path / "run", data), output.numpy(), rtol=1e-4)


def test_a_part_of_a_bert_is_kept_and_left_out_with_a_warning(state, tmp_path):
    text = {"text_model.model.embeddings.word_embeddings.weight": torch.ones(20, 11)}
    path = write(tmp_path / "dmd.pth", state | text)
    with pytest.warns(UserWarning, match=r"the 1 weights text_model\.\* are kept, but are no whole BERT"):
        import_published(path, tmp_path / "run", "mosei", num_heads=3)
    assert text.keys() <= load_file(tmp_path / "run" / "model.safetensors").keys()
    with pytest.warns(UserWarning, match="the checkpoint's text encoder is left out"):
        released.load(tmp_path / "run")


def test_a_text_encoder_without_transformers_asks_for_the_extra(state, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dmd.text.find_spec", lambda _: None)
    text = {"text_model.model.embeddings.word_embeddings.weight": torch.ones(20, 11)}
    path = write(tmp_path / "dmd.pth", state | text)
    said = refused(capsys, path, tmp_path / "run", "--dataset", "mosei", "--num-heads", 3)
    assert said == "error: the checkpoint's fine-tuned BERT needs transformers: install the 'text' extra\n"
    assert not (tmp_path / "run").exists()
    import_published(write(tmp_path / "plain.pth", state), tmp_path / "run", "mosei", num_heads=3)


def test_a_bert_of_another_shape_is_no_bert():
    shapes = {key: value.shape for key, value in small_bert().state_dict().items()}
    assert bert_config(shapes)["hidden_size"] == 11
    assert bert_config(shapes | {"embeddings.LayerNorm.weight": (3,)}) is None


def test_every_missing_extra_and_misshapen_key_is_named(state, tmp_path, capsys):
    del state["proj_l.weight"], state["trans_l_mem.layers.1.fc1.bias"]
    state |= {"foo.weight": torch.ones(1), "encoder_c.weight": torch.ones(6, 5, 1), "proj1.bias": torch.ones(3)}
    path = write(tmp_path / "dmd.pth", state)
    assert refused(capsys, path, tmp_path / "run", "--dataset", "mosei", "--num-heads", 3) == (
        "error: the weights are not those of the published network: "
        "2 missing: proj_l.weight, trans_l_mem.layers.1.fc1.bias; 1 not of this network: foo.weight; "
        "2 of another shape: encoder_c.weight (6, 5, 1) (wanted (6, 6, 1)), proj1.bias (3,) (wanted (54,))\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_absurd_layer_is_named(state, tmp_path, capsys):
    state["trans_l_mem.layers.999999999.fc1.bias"] = torch.ones(1)
    path = write(tmp_path / "dmd.pth", state)
    said = refused(capsys, path, tmp_path / "run", "--dataset", "mosei", "--num-heads", 3)
    assert "1 not of this network: trans_l_mem.layers.999999999.fc1.bias" in said
    assert "missing: " in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a state dict, got list of length 2"),
        ({}, "must hold a state dict, got dict of length 0"),
        ({"epoch": 3}, "must hold a state dict, name -> tensor, got 'epoch' -> int"),
        ({"model": {"weight": torch.ones(1)}}, "must hold a state dict, name -> tensor, got 'model' -> dict"),
        (torch.nn.Linear(1, 1), r"is damaged, or holds more than the weights of a PyTorch network \(UnpicklingError\)"),
    ],
)
def test_a_foreign_file_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        import_published(write(tmp_path / "foreign.pth", content), tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth is damaged, or holds more than the weights of a PyTorch"):
        import_published(path, tmp_path / "run")


def test_a_cut_file_is_one_line_and_status_2(state, tmp_path, capsys):
    path = write(tmp_path / "dmd.pth", state)
    path.write_bytes(path.read_bytes()[:-1000])
    said = refused(capsys, path, tmp_path / "run")
    assert said.count("\n") == 1
    assert said.startswith(f"error: {path} is damaged")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth is no file"):
        import_published(tmp_path / "absent.pth", tmp_path / "run")


def test_a_folder_that_holds_a_run_is_left_alone(state, tmp_path):
    path = write(tmp_path / "dmd.pth", state)
    import_published(path, tmp_path / "run", "mosei")
    with pytest.raises(ValueError, match="run already holds a run; choose another folder"):
        import_published(path, tmp_path / "run", "mosei")


def test_heads_that_cannot_be_told_are_asked_for(state, tmp_path):
    path = write(tmp_path / "dmd.pth", state)
    with pytest.raises(ValueError, match=r"6 wide, neither 50 \(mosi\) nor 30 \(mosei\): their heads must be"):
        import_published(path, tmp_path / "run")
    with pytest.raises(ValueError, match="the weights are 6 wide, which 10 heads do not divide"):
        import_published(path, tmp_path / "run", "mosi")


def test_another_setting_is_named(state, tmp_path):
    path = write(tmp_path / "dmd.pth", state)
    with pytest.raises(ValueError, match=r"of \{'language': 12, .*\} steps, mosei aligned has \{'language': 50"):
        import_published(path, tmp_path / "run", "mosei", "aligned")


def test_a_run_of_this_project_is_no_imported_checkpoint(tmp_path):
    write_config(tmp_path, CONFIG, describe(RECORDINGS))
    with pytest.raises(ValueError, match="is a run of this project, not an imported checkpoint"):
        released.load(tmp_path)


def test_a_config_of_another_release_is_named(state, tmp_path):
    import_published(write(tmp_path / "dmd.pth", state), tmp_path / "run", "mosei")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["data"]["released"]["network"]["colour"] = "red"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"config\.json has no released network that is known here: .*colour"):
        released.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        (
            "vision",
            (5, 31, 4),
            r"reads widths \{'language': 11, 'vision': 9, 'acoustic': 7\}, but .* has .*4",
        ),
        ("vision", (5, 40, 9), "the model reads at most 31 steps of vision, but .* has 40 in sample 'clip0' of train"),
    ],
)
def test_data_that_does_not_fit_is_named(case, state, tmp_path, key, shape, message):
    import_published(write(tmp_path / "dmd.pth", state), tmp_path / "run", "mosei", num_heads=3)
    data = data_file(tmp_path / "data.pkl", case, **{key: np.ones(shape, np.float32)})
    with pytest.raises(ValueError, match=message):
        load_for(tmp_path / "run", str(data))
