"""reproduce.py: what it makes, which runs it shares and never repeats, and what it says when something is wrong."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import reproduce
from dmd.config import RunConfig
from dmd.data import load, synthetic
from dmd.reproduce import campaign
from dmd.reproduce.edges import forms
from dmd.reproduce.outcomes import best_on_validation, linear_outcomes
from dmd.reproduce.plans import TABLES, plan_table
from dmd.reproduce.published import comparability, paper_numbers, recognise
from dmd.reproduce.variants import changed, published_prior, ranked
from dmd.training import Run

from tests.example.small_runs import RECORDINGS

TINY = ["epochs=1", "batch_size=64", "model.dim=8", "model.num_heads=2", "model.num_layers=1", "device=cpu"]
OPTIONS = ["--data", "synthetic", "--set", *TINY]


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Fewer recordings than `--data synthetic` draws, read anew in every test."""
    monkeypatch.setattr(campaign, "load", lambda *_, **__: RECORDINGS)
    monkeypatch.setattr(campaign, "_loaded", {})


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that are trained, as they start."""
    names, train = [], Run.train

    def watched(run):
        names.append(f"{run.out.parent.name}/{run.out.name}")
        return train(run)

    monkeypatch.setattr(Run, "train", watched)
    return names


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What is made


def test_table3_shares_its_runs_and_repeats_none(tmp_path, trained, capsys):
    command = ["table3", *OPTIONS, "--seeds", "1", "--dataset", "mosi", "--out", str(tmp_path)]
    reproduce.main(command)
    assert len(trained) == 6
    text = (tmp_path / "table3.md").read_text()
    assert text in capsys.readouterr().out
    assert str(tmp_path.parent) not in text  # the command is shown without the folders of this machine
    assert "| FD | HomoGD | CA | HeteroGD |" in text
    assert "0.419 / – / 0.835" in text
    assert "The paper's splits have 1284/229/686 samples, these 48/16/16" in text
    assert (tmp_path / "table3.png").read_bytes()[:4] == b"\x89PNG"
    table = rows(tmp_path / "table3.csv")
    assert len(table) == 6 * 5
    full = json.loads((tmp_path / "runs" / "full" / "seed-1" / "results.json").read_text())["test"]
    for row in table[:5]:
        assert float(row["mean"]) == pytest.approx(full[row["metric"]], abs=1e-6)
        assert float(row["low"]) <= float(row["high"])
        assert row["p"] == ""  # the full model is what the others are compared with
    assert [row["paper"] for row in table if row["metric"] == "acc7"][:2] == ["0.419", "0.388"]
    assert all(0 < float(row["p"]) <= float(row["p_holm"]) <= 1 for row in table[5:] if row["metric"] == "mae")

    # An interrupted run goes on, one that is gone is made anew, and nothing else is trained.
    trained.clear()
    (tmp_path / "runs" / "no-ca" / "seed-1" / "results.json").unlink()
    for path in sorted((tmp_path / "runs" / "no-hetero-gd").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    reproduce.main(command)
    assert sorted(trained) == ["no-ca/seed-1", "no-hetero-gd/seed-1"]
    assert (tmp_path / "table3.md").read_text() == text

    # Another product of the same data shares two of three variants.
    trained.clear()
    reproduce.main(["figure3", *command[1:]])
    assert trained == ["no-gd/seed-1"]
    assert (tmp_path / "figure3.png").read_bytes()[:4] == b"\x89PNG"
    table = rows(tmp_path / "figure3.csv")
    assert [row["network"] for row in table] == ["DMD", "DMD without HeteroGD", "DMD without GD"]
    assert all(0 <= float(row["same_label"]) <= 1 for row in table)


def test_figure5(tmp_path, trained):
    reproduce.main(["figure5", *OPTIONS, "--seeds", "1", "--out", str(tmp_path)])
    names = ("printed", "printed-prior", "full")
    assert sorted(trained) == sorted(f"{name}{labels}/seed-1" for name in names for labels in ("", "-shuffled"))
    table = rows(tmp_path / "figure5.csv")
    assert len(table) == 3 * 2 * 2 * 6  # forms, units, kinds of labels, edges; one epoch
    assert {row["n"] for row in table} == {"1"}
    printed = {
        (row["unit"], row["source"], row["target"]): float(row["mean"])
        for row in table
        if row["form"] == "as printed" and row["labels"] == "real"
    }
    found = rows(tmp_path / "runs/printed/seed-1/edges.csv")
    assert printed == pytest.approx({(r["unit"], r["source"], r["target"]): float(r["weight"]) for r in found})
    text = (tmp_path / "figure5.md").read_text()
    assert text.count("one seed cannot tell whether the labels matter") == 6
    assert (tmp_path / "figure5.png").stat().st_size < 100_000
    config = json.loads((tmp_path / "runs/printed-prior/seed-1/config.json").read_text())["config"]
    assert len(config["objective"]["distillation"]["hetero_prior"]) == 6


@pytest.mark.slow
def test_classification_in_two_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(campaign, "load", load)  # the processes read the recordings themselves
    command = ["table5", *OPTIONS, "task=classification", "--seeds", "1", "--jobs", "2", "--out", str(tmp_path)]
    reproduce.main(command)
    said = capsys.readouterr().out
    assert said.count("seed 1: finished") == 4
    assert "| network | n | accuracy | f1_macro | accuracy − DMD | p | p (Holm) |" in said
    assert "GD-Unit: with against without" in said
    assert "epoch   1" in (tmp_path / "runs/mult-gd/seed-1/log.txt").read_text()


def test_linear_lines_have_the_labels_that_the_runs_have():
    base = RunConfig(data="synthetic")
    whole = linear_outcomes(base, [1, 2])
    assert whole.keys() == {"language", "vision", "acoustic", "all"}
    assert {outcome.predictions.shape for outcome in whole.values()} == {(1, 16)}  # the same for every seed
    best = best_on_validation([whole[name] for name in RECORDINGS.names], "mosi")
    assert best.valid == min(whole[name].valid for name in RECORDINGS.names)
    few = linear_outcomes(replace(base, labelled_fraction=0.5), [1, 2])["all"]
    assert few.predictions.shape == (2, 16)
    assert few.metrics[0] != few.metrics[1]  # other labels
    both = linear_outcomes(replace(base, train_on="train+valid", keep="last"), [1])["all"]
    assert both.valid == whole["all"].valid  # judged by what has not seen the validation split
    assert both.metrics != whole["all"].metrics
    assert linear_outcomes(replace(base, modalities=["vision"]), [1]).keys() == {"vision", "all"}


def test_where_training_reads_validation_the_linear_models_say_what_is_strongest(tmp_path, trained):
    options = [*OPTIONS, "train_on=train+valid", "keep=last", "modalities=[vision, acoustic]"]
    reproduce.main(["table1", *options, "--seeds", "1", "--out", str(tmp_path)])
    assert len(trained) == 6
    names = list(dict.fromkeys(row["network"] for row in rows(tmp_path / "table1.csv")))
    strongest = names[1].removeprefix("linear, strongest modality ")
    assert names[2] == f"transformer, strongest modality {strongest}"
    assert names[3:] == ["early fusion", "MulT", "DMD without GD", "DMD"]


# When something is wrong


def test_a_failed_run_is_named_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    train = Run.train

    def failing(run):
        if run.config.network == "mult" and not run.config.model.hetero_gd and run.config.objective.node_weight:
            raise RuntimeError("no luck")
        return train(run)

    monkeypatch.setattr(Run, "train", failing)
    command = ["table5", *OPTIONS, "--seeds", "1", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(command)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert "1 of 4 runs failed" in error
    assert "mult-nodes, seed 1: RuntimeError: no luck" in error
    assert "no luck" in (tmp_path / "runs/mult-nodes/seed-1/log.txt").read_text()
    assert len([*tmp_path.glob("runs/*/seed-1/results.json")]) == 3
    assert not (tmp_path / "table5.md").exists()

    # Interrupted in the one run that is left: said in a line, and nothing is lost.
    monkeypatch.setattr(Run, "train", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(command)
    assert stopped.value.code == 130
    assert "interrupted; finished runs are kept" in capsys.readouterr().err

    # Other settings do not go into the same folder.
    with pytest.raises(SystemExit) as stopped:
        reproduce.main([*command, "--set", *TINY, "epochs=3"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "is a run of another config: epochs is 1 there, 3 here; choose another --out" in error


WRONG = [
    (["table9"], "invalid choice: 'table9'"),
    ([], "the following arguments are required: what"),
    (["table1", "--jobs", "0"], "--jobs must be at least 1, got 0"),
    (["table1", "--seeds", "1", "1"], "--seeds must all differ, got [1, 1]"),
    (["table1", "--set", "epochs"], "--set takes KEY=VALUE, got 'epochs'"),
    (["table1", "--set", "model.nope=3"], "model.nope"),
    (["table1", "--set", "seed=3"], "--set seed: this command sets it itself"),
    (["table1", "--set", "epochs=0"], "epochs must be at least 1, got 0"),
    (["table1", "--set", "model.dim=9"], "num_heads must divide dim, got dim 9 and num_heads 4"),
    (["table1", "--config", "gone.yaml"], "gone.yaml"),
    (
        ["table1", "--set", "labelled_fraction=0.02"],
        "the table's linear models need at least 5 labelled training samples, got 1 with seed 1",
    ),
    (["table3", "--set", "model.homo_gd=false"], "table3 switches parts off one by one, but model.homo_gd is off"),
    (
        ["table5", "--set", "modalities=[vision]"],
        "table5 compares how modalities teach each other and needs 2, got vis",
    ),
    (["figure3", "--set", "model.homo_gd=false", "model.hetero_gd=false"], "figure3 shows what GD-Units do"),
    (["units", "--ranking", "vision"], "--ranking must name each of language, vision, acoustic once, got vision"),
]


@pytest.mark.parametrize(("arguments", "wanted"), WRONG, ids=lambda value: " ".join(value) if value is list else None)
def test_wrong_input_is_one_line(arguments, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main([*arguments, *(["--data", "synthetic"] if arguments else [])])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert wanted in error
    assert not [*tmp_path.rglob("results.json")]


# Plans


@pytest.mark.parametrize("what", TABLES)
def test_every_variant_is_a_configuration_and_has_a_folder_of_its_own(what):
    base = RunConfig()
    variants = [variant for row in plan_table(what, base, RECORDINGS).rows for variant in row.variants]
    configs = {variant.name: changed(base, variant.changes) for variant in variants}
    assert len(configs) == len(variants)
    assert len({str(config) for config in configs.values()}) == len(configs)


def test_plans_of_two_modalities_and_of_one():
    two = synthetic((8, 4, 4), reliability={"left": 0.9, "right": 0.5})
    units = plan_table("units", RunConfig(), two)
    assert len([row for row in units.rows if row.cells[1] == "target"]) == 3  # one, as configured, the other distance
    assert any("--ranking" in note for note in units.notes)
    assert len(plan_table("units", RunConfig(), two, ["right", "left"]).rows) == len(units.rows) + 1
    one = synthetic((8, 4, 4), reliability={"left": 0.9})
    assert [row.title for row in plan_table("table1", RunConfig(), one).rows][-1] == "DMD"
    assert len(plan_table("table4", RunConfig(), one).rows) == 3
    terms = plan_table("terms", RunConfig(), one)
    assert terms.notes == ["Not there to be left out: margin, homogeneous, heterogeneous."]


def test_the_printed_point_is_the_configuration_where_that_is_printed():
    printed = changed(RunConfig(), {"objective.distillation.normalize": "graph"})
    rows = plan_table("units", printed, RECORDINGS).rows
    assert [row.cells[:2] for row in rows if row.title] == [("linear", "graph")]
    titles = [form.title for form in forms(printed, RECORDINGS.names, None)]
    assert titles == ["as printed (the configuration)"]
    titles = [form.title for form in forms(RunConfig(), RECORDINGS.names, None)]
    assert titles == ["as printed", "as configured"]


def test_published_prior():
    """The published order of edges is (student, teacher) = (l,v), (l,a), (v,l), (v,a), (a,l), (a,v)."""
    order = ranked(("language", "vision", "acoustic"), None)
    found = published_prior(("language", "vision", "acoustic"), order, "graph")
    for option, scores in (("prior", [0, 0, 1, 0, 1, 0]), ("hetero_prior", [0, 0, 1, 0, 1, 1])):
        weights = np.exp(np.array(scores) / 0.25) / np.exp(np.array(scores) / 0.25).sum()
        there = [(teacher, student) for student in range(3) for teacher in range(3) if teacher != student]
        by_edge = dict(zip(there, weights))
        wanted = [by_edge[edge] for edge in sorted(by_edge)]
        assert found[f"objective.distillation.{option}"] == pytest.approx(wanted, abs=1e-6)
    per_target = published_prior(("audio", "text"), ["text", "audio"], "target")["objective.distillation.prior"]
    assert per_target == pytest.approx([1.0, 1.0])
    assert ranked(("audio", "text"), None) == ["text", "audio"]
    assert ranked(("left", "right"), None) is None


def test_whose_numbers_the_papers_are():
    assert recognise(RECORDINGS) is None
    assert recognise(replace(RECORDINGS, path="data/MOSEI/aligned_50.pkl")) == "mosei"
    assert recognise(replace(RECORDINGS, path="data/mosi/aligned_50.pkl")) == "mosi"
    assert recognise(replace(RECORDINGS, path="mosi.npz", metrics="accuracy")) is None
    assert paper_numbers("table1", "mosi", "full")["aligned"] == (41.4, 84.5, 84.4)
    assert paper_numbers("table1", "mosei", "full") == paper_numbers("table1", None, "full") == {}
    assert paper_numbers("table5", "mosei", "mult-gd") == {"": (51.0, 82.3, 82.5)}
    assert comparability("table1", None, RECORDINGS) == []
    assert "ours only" in comparability("table2", "mosi", RECORDINGS)[0]
