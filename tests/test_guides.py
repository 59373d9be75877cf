"""The guides' scripts run as they stand, in an empty folder; so do the Python blocks of pages without a script."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NEEDS = {"lightning_callback": "lightning", "trainer_mixin": "transformers"}


def printed(script, capsys, tmp_path, monkeypatch):
    """What a script prints."""
    if script in NEEDS:
        pytest.importorskip(NEEDS[script])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    runpy.run_path(str(DOCS / "guides" / f"{script}.py"), run_name="__main__")
    return capsys.readouterr().out


def test_plain_loop(capsys, tmp_path, monkeypatch):
    out = printed("plain_loop", capsys, tmp_path, monkeypatch)
    accuracies = {name: float(value) for name, value in re.findall(r"^(\w+) +(0\.\d+)$", out, re.MULTILINE)}
    assert accuracies["language"] > accuracies["vision"] > accuracies["acoustic"] > 0.25  # of four classes
    weights = {(i, j): float(w) for i, j, w in re.findall(r"^(\w+) teaches (\w+): (\S+)$", out, re.MULTILINE)}
    assert len(weights) == 6
    assert sum(weights.values()) == pytest.approx(1, abs=0.05)
    assert max(weights, key=weights.get)[0] == "language"


def test_lightning_callback_logs_every_edge(capsys, tmp_path, monkeypatch):
    out = printed("lightning_callback", capsys, tmp_path, monkeypatch)
    logged = {name: float(value) for name, value in re.findall(r"^(\S.*?) {2,}(\d\.\d+)$", out, re.MULTILINE)}
    edges = ["teaching/accelerometer to gyroscope", "teaching/gyroscope to accelerometer"]
    assert sum(logged[edge] for edge in edges) == pytest.approx(1, abs=2e-3)
    (metrics,) = tmp_path.glob("runs/lightning/*/metrics.csv")
    assert all(edge in metrics.read_text() for edge in edges)


def test_trainer_mixin_adds_the_loss_and_logs_the_edges(capsys, tmp_path, monkeypatch):
    out = printed("trainer_mixin", capsys, tmp_path, monkeypatch)
    first = next(line for line in out.splitlines() if "distillation" in line)
    logged = {name: float(value) for name, value in re.findall(r"'([^']+)': '?(-?[\d.e-]+)'?", first)}
    assert logged["language to acoustic"] + logged["acoustic to language"] == pytest.approx(1, abs=2e-3)
    assert "distillation" not in out.splitlines()[-1]  # evaluation reports the task alone
    assert float(re.search(r"'eval_loss': ([\d.]+)", out)[1]) < 1.2  # 2 ln 2 = 1.39 before it has learned anything


@pytest.mark.parametrize("script", ["lightning_callback", "trainer_mixin"])
def test_callback_and_mixin_stay_short(script):
    text = (DOCS / "guides" / f"{script}.py").read_text()
    shared = re.search(r"^class (?:LogEdges|DistillationMixin).*?(?=^class )", text, re.MULTILINE | re.DOTALL)
    assert len(shared[0].splitlines()) < 60
