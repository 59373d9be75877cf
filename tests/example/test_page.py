"""report.html holds what a run is, whatever is missing in it, and no text from the data becomes markup."""

import base64
import hashlib
import html
import json
import math
import re
import shlex
import shutil

import numpy as np
import pytest
import train
from dmd.config import RunConfig
from dmd.metrics import compute_metrics
from dmd.model import ModelConfig
from dmd.page import write_report
from dmd.page.command import command_of
from dmd.page.graphs import THINNEST, WIDEST
from plotly.offline import get_plotlyjs

from tests.example.page_runs import CLASSES, HOSTILE, Page, check_figure
from tests.example.small_runs import RECORDINGS, prepare, rows


@pytest.fixture(scope="module")
def pages(reported):
    return {name: Page(folder / "report.html") for name, folder in reported.items()}


def results(folder):
    return json.loads((folder / "results.json").read_text())


# What stands where


def test_a_whole_page(pages, reported):
    page, found = pages["regression"], results(reported["regression"])
    warnings = [text for graph in found["graphs"].values() for text in graph["warnings"]]
    shown = ["warnings"] if warnings else []
    assert list(page.sections) == [*shown, "results", "learning", "graphs", "features", "errors", "run"]
    assert all(text in page.sections["warnings"] for text in warnings)
    for split in ("test", "valid"):
        for value in found[split].values():
            assert ("—" if value is None else f"{value:.4f}") in page.sections["results"]
    assert f"epoch kept {found['best_epoch']} of 3" in page.sections["results"]
    dims = ", ".join(f"{name} ({width})" for name, width in RECORDINGS.dims.items())
    command = "python examples/dmd/train.py --data synthetic --epochs 3 --batch_size 16 --seed 1 --model.dim 8"
    versions = (f"{name} {number}" for name, number in found["versions"].items())
    for text in (command, dims, found["data"]["sha256"], *versions):
        assert text in page.sections["run"]
    titles = re.findall("<figcaption>(.+?)</figcaption>", page.source)
    for title in ("Loss", "Terms of the training loss", "Validation scores", "homogeneous GD-Unit", "Learning rate"):
        assert title in titles


@pytest.mark.parametrize("which", ["regression", "classes", "no units", "seeds"])
def test_every_chart_is_one_that_plotly_takes_and_is_described(pages, which):
    page = pages[which]
    assert len(page.figures) == len(page.labels()) > 2
    for name, chart in page.figures.items():
        try:
            check_figure(chart)
        except ValueError as error:
            pytest.fail(f"{name}: {error}")
    assert all(len(label) > 20 for label in page.labels())


def test_a_run_of_one_epoch_with_few_labels(pages, reported):
    page = pages["classes"]
    assert "6 of 12 test samples have no label" in page.sections["warnings"]
    assert not any(tag == "input" for tag, _ in page.tags)  # nothing to play
    assert "Confusion, test" in page.source
    part = json.loads((reported["classes"] / "report.json").read_text())["parts"]["test"]
    predicted = [
        row for row in rows(reported["classes"] / "predictions.csv") if row["split"] == "test" and row["truth"]
    ]
    counts = np.zeros((len(CLASSES.classes),) * 2, int)
    for row in predicted:
        counts[int(row["truth"]), int(row["prediction"])] += 1
    assert part["confusion"] == counts.tolist()
    assert part["num_wrong"] == len(part["worst"]) == counts.sum() - np.trace(counts)
    sureness = [row["confidence"] for row in part["worst"]]
    assert sureness == sorted(sureness, reverse=True)
    assert all(1 / len(counts) <= value <= 1 for value in sureness)


def test_a_run_without_units_on_an_unlabelled_split(pages):
    page = pages["no units"]
    assert "graphs" not in page.sections
    assert "12 of 12 test samples have no label" in page.sections["warnings"]
    assert "Confusion, test" not in page.source
    assert "Confusion, valid" in page.source


def test_the_worst_samples_and_what_was_said(pages, reported):
    worst = json.loads((reported["regression"] / "report.json").read_text())["parts"]["test"]["worst"]
    test = [row for row in rows(reported["regression"] / "predictions.csv") if row["split"] == "test"]
    wanted = sorted(test, key=lambda row: -abs(float(row["truth"]) - float(row["prediction"])))
    assert [row["id"] for row in worst] == [row["id"] for row in wanted]
    for row in worst:
        assert row["text"] == f"said {row['id']}"
        assert html.escape(row["text"], quote=True).replace("&#x27;", "&#39;") in pages["regression"].source


def test_a_baseline_that_knows_nothing(reported):
    part = json.loads((reported["regression"] / "report.json").read_text())["parts"]["test"]
    train_labels, labels = (RECORDINGS.splits[split].labels for split in ("train", "test"))
    median = np.float32(np.median(train_labels))
    found = compute_metrics(np.full_like(labels, median), labels, "mosi")
    assert part["constant"]["metrics"] == {k: None if math.isnan(v) else pytest.approx(v) for k, v in found.items()}
    assert part["constant"]["text"] == f"always {median:.2f}"


def test_graphs_over_the_epochs(pages, reported):
    charts = [chart for chart in pages["regression"].figures.values() if "widths" in chart.get("frames", {})]
    assert len(charts) == 2
    by_unit = {}
    for row in rows(reported["regression"] / "edges.csv"):
        by_unit.setdefault(row["unit"], {}).setdefault(int(row["epoch"]), []).append(float(row["weight"]))
    top = max(weight for epochs in by_unit.values() for weights in epochs.values() for weight in weights)
    for chart, epochs in zip(charts, by_unit.values(), strict=True):
        assert chart["frames"]["epochs"] == [1, 2, 3]
        weights, widths = np.array([*epochs.values()]), np.array(chart["frames"]["widths"])
        assert widths.shape == weights.shape == (3, 6)
        np.testing.assert_allclose(widths, THINNEST + (WIDEST - THINNEST) * weights / top, atol=0.006)


def test_undefined_numbers_and_skipped_steps(reported, tmp_path):
    run = shutil.copytree(reported["regression"], tmp_path / "run")
    found = results(run)
    found["test"] = dict.fromkeys(found["test"])
    found["graphs"]["homogeneous"]["warnings"] = ["the graph has collapsed: a -> b has 99% of the weight"]
    history = json.loads((run / "history.json").read_text())
    history[1]["train"] = dict.fromkeys(history[1]["train"])
    history[2]["skipped_steps"] = 4
    (run / "history.json").write_text(json.dumps(history))
    lines = [",".join([*line.split(",")[:4], ""]) for line in (run / "edges.csv").read_text().splitlines()[1:]]
    (run / "edges.csv").write_text("\n".join(["epoch,unit,source,target,weight", *lines]) + "\n")
    page = Page(write_report(run, results=found))
    assert "homogeneous graph: the graph has collapsed: a -> b has 99% of the weight" in page.sections["warnings"]
    assert "4 steps were skipped" in page.sections["warnings"]
    assert "Undefined on the test split: mae, corr" in page.sections["warnings"]
    for chart in page.figures.values():
        check_figure(chart)


# Safety


@pytest.mark.parametrize("which", ["regression", "classes", "seeds"])
def test_text_of_the_data_never_becomes_markup(pages, which):
    page = pages[which]
    assert [kind for kind, _ in page.scripts] == ["application/json", "text/plain", ""]
    assert not [
        tag for tag, attributes in page.tags if tag == "img" or any(name.startswith("on") for name in attributes)
    ]
    for kind, text in page.scripts[:2]:
        assert "<" not in text, kind
    for text in HOSTILE[:2]:
        assert text not in page.source
    if which != "seeds":  # plotly would draw tags as styles and links
        drawn = json.dumps(page.figures, ensure_ascii=False)
        assert "&lt;script&gt;alert(1)" in drawn
        assert not re.search(r"<(?!/?b>|br>|extra>|/extra>)", drawn)


def test_the_policy_lets_its_own_scripts_run_and_nothing_else(pages):
    page = pages["regression"]
    (policy,) = [tag["content"] for name, tag in page.tags if tag.get("http-equiv") == "Content-Security-Policy"]
    own = page.scripts[-1][1]
    sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (own, get_plotlyjs())]
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{sums[0]}' 'sha256-{sums[1]}';")
    assert "http" not in policy
    assert len(page.source) < 2.5e6


# The command, and what switches the page off


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(data="my data.npz", epochs=3, modalities=["language", "vi'sion"], seed=7, checkpoint_every=5),
        RunConfig(model=ModelConfig(dim=8, num_heads=2, kernel_size={"language": 3, "vision": 1}), keep="last"),
    ],
)
def test_the_command_gives_the_same_run(config):
    words = shlex.split(command_of(config))
    assert words[:2] == ["python", "examples/dmd/train.py"]
    parsed, seeds, resume = train.parse([*words[2:], "--out", "somewhere"])
    assert command_of(parsed) == command_of(config)
    assert (parsed.model, parsed.modalities, parsed.seed) == (config.model, config.modalities, config.seed)
    assert (seeds, resume) == ([], False)
    assert train.parse([*shlex.split(command_of(config, seeds=[3, 4]))[2:], "--out", "x"])[1] == [3, 4]


def test_without_pictures_there_is_no_page(tmp_path):
    prepare(tmp_path, epochs=1, pictures=False).train()
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".json", ".csv", ".safetensors"}
    assert not (tmp_path / "report.json").exists()


def test_a_page_of_seeds(pages, reported):
    page = pages["seeds"]
    values = [results(reported["seeds"] / f"seed-{seed}")["test"]["mae"] for seed in (1, 2)]
    for text in (f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}", *(f"{value:.4f}" for value in values)):
        assert text in page.sections["results"]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "report" in attributes["href"]]
    assert links == ["seed-1/report.html", "seed-2/report.html"]
    assert "--seeds 1 2" in page.sections["run"]


def test_a_page_that_fails_costs_no_results(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise IndexError("no such arc")

    monkeypatch.setattr("dmd.report.write_pictures", lambda *_, **__: {})
    monkeypatch.setattr("dmd.page.write_report", broken)
    with pytest.warns(UserWarning, match=r"report\.html is not written: IndexError: no such arc"):
        prepare(tmp_path, epochs=1).train()
    assert (tmp_path / "results.json").is_file()
