"""The six-views example: its data file is whole, a short run has the right form, and rows differ where they should."""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "six_views"
CHECKSUM = "2d356b7ad5bdae0b5ce46e2c662d894e40e0ce97745ddf3875418c1d5f96fe66"


@pytest.fixture(scope="module")
def six_views():
    spec = importlib.util.spec_from_file_location("six_views", FOLDER / "six_views.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits(six_views):
    return six_views.load_digits()


def test_asset_is_the_attributed_file():
    asset = FOLDER / "assets" / "digits.npz"
    assert asset.stat().st_size <= 1_500_000
    assert hashlib.sha256(asset.read_bytes()).hexdigest() == CHECKSUM
    attribution = (FOLDER / "assets" / "ATTRIBUTION.md").read_text()
    assert "CC BY 4.0" in attribution
    assert "van Breukelen" in attribution


def test_digits_are_standardised_on_the_samples_that_train(digits):
    inputs, labels, rest, test = digits
    assert {name: x.shape for name, x in inputs.items()} == {
        "fac": (2000, 216),
        "fou": (2000, 76),
        "kar": (2000, 64),
        "mor": (2000, 6),
        "pix": (2000, 240),
        "zer": (2000, 47),
    }
    assert labels.bincount().tolist() == [200] * 10
    assert sorted([*rest.tolist(), *test.tolist()]) == list(range(2000))
    for x in inputs.values():
        assert torch.isfinite(x).all()
        torch.testing.assert_close(x[rest].mean(0), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)


def test_script_is_short():
    assert len((FOLDER / "six_views.py").read_text().splitlines()) <= 120


def test_command_prints_the_table_and_draws(six_views, monkeypatch, capsys, tmp_path):
    picture = tmp_path / "edges.png"
    monkeypatch.setattr(sys, "argv", ["six_views.py", "--seeds", "0", "--steps", "4", "--out", str(picture)])
    six_views.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| row | fac | fou | kar | mor | pix | zer | mean |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(six_views.ROWS)
    assert all(len(re.findall(r"[01]\.\d{3} ± 0\.000", line)) == 7 for line in lines[2:])
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("row", "total"), [("alone", 0), ("Eq. 9 as printed", 1), ("per target", 6), ("agreement", 1), ("quality", 1)]
)
def test_weights_sum_to_what_the_row_says(six_views, digits, row, total):
    inputs, labels, rest, _ = digits
    _, weights = six_views.train(inputs, labels, rest, row, seed=0, steps=2)
    assert weights.sum().item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--steps", "0"], "--steps must be at least 1, got 0"), (["--out", "no/such/folder/a.png"], "no/such/folder")],
)
def test_bad_arguments_end_before_training(six_views, monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["six_views.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        six_views.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_training_learns_and_repeats(six_views, digits):
    inputs, labels, rest, _ = digits
    runs = [six_views.train(inputs, labels, rest, "quality, then all labels", seed=0, steps=60) for _ in range(2)]
    first, second = (six_views.accuracy(networks, inputs, labels, rest) for networks, _ in runs)
    torch.testing.assert_close(first, second)
    assert first.mean() > 0.6
