"""benchmarks/run.py at tiny sizes: every case gives rows, and what measures them measures what it says."""

import csv
import math
import pathlib
import subprocess
import sys

import pytest
import torch

from benchmarks import run
from benchmarks.suite import report
from benchmarks.suite.counters import count_cpu
from benchmarks.suite.floors import Rates, floor
from benchmarks.suite.measure import Effort, interleave, quantiles
from benchmarks.suite.memory import peak_cpu
from benchmarks.suite.point import Work, differentiable

ROOT = pathlib.Path(__file__).parent.parent
CASES = ("attention", "triplet", "gd_unit", "crossmodal", "step", "data")


FEW = pytest.param(("triplet", "gd_unit"), id="two cases")
ALL = pytest.param(CASES, id="all cases", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[FEW, ALL])
def quick(request, tmp_path_factory):
    """The rows of a quick run, the folder that it wrote to, and its cases."""
    folder = tmp_path_factory.mktemp("quick")
    command = [sys.executable, "benchmarks/run.py", "--quick", "--out", folder, "--images", folder]
    command += ["--only", ",".join(request.param)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = folder.glob("performance_*.csv")
    return report.read(path), folder, request.param


def test_every_case_gives_rows(quick):
    rows, folder, cases = quick
    assert {row["case"] for row in rows} == set(cases)
    for row in rows:
        if row["skipped"]:
            assert row["seconds"] is None
            continue
        assert 0 < row["seconds_20"] <= row["seconds"] <= row["seconds_80"] < math.inf, row
        assert row["memory_bytes"] is None or row["memory_bytes"] >= 0
        assert row["torch"] == torch.__version__
        if row["provider"] == row["baseline"]:
            assert row["times_faster"] == 1
    assert any(folder.glob("*.png"))
    assert all(f"### {case}" in next(folder.glob("*.md")).read_text() for case in cases)


@pytest.mark.parametrize("quick", [ALL], indirect=True)
def test_every_way_of_attention_is_measured(quick):
    rows = quick[0]
    of_ours = {row["provider"] for row in rows if row["case"] == "attention" and not row["skipped"]}
    assert {"gdkit auto", "gdkit sdpa", "gdkit chunked", "gdkit reference"} <= of_ours


@pytest.mark.parametrize("quick", [ALL], indirect=True)
def test_the_data_path_is_measured_from_the_command_to_the_last_sample(quick):
    rows = [row for row in quick[0] if row["case"] == "data"]
    sweeps = {"command to first step", "file to first batch", "pass over the samples", "training epoch"}
    assert {row["sweep"] for row in rows} == sweeps
    seconds = {(row["sweep"], row["x"], row["provider"]): row["seconds"] for row in rows}
    assert (
        seconds["command to first step", "synthetic", "examples/dmd"]
        > seconds["command to first step", "synthetic", "import torch"]
    )
    for name in {row["x"] for row in rows if row["sweep"] == "training epoch"}:
        assert seconds["training epoch", name, "loader alone"] < seconds["training epoch", name, "loader and step"]
    assert all(row["memory_bytes"] is None for row in rows if row["sweep"] == "command to first step")


def test_providers_at_a_point_agree(quick):
    differences = [row["difference"] for row in quick[0] if row["difference"] is not None]
    assert len(differences) > 10
    assert max(differences) < 1e-4


@pytest.mark.parametrize("quick", [ALL], indirect=True)
def test_what_is_left_out_is_left_out_on_purpose(quick):
    skipped = [row for row in quick[0] if row["skipped"]]
    assert {"gdkit triton", "CUDA C++", "published program"} <= {row["provider"] for row in skipped}
    # A provider that fails is skipped with its error's name; here none does.
    assert not [row["skipped"] for row in skipped if "Error: " in row["skipped"]]


def test_three_modes_of_a_function():
    x = torch.randn(3, 4)
    provider = differentiable(lambda x: x.square(), [x])
    (output,), (gradient,), (both, same) = (provider(mode)() for mode in ("forward", "backward", "full"))
    assert torch.equal(output, x.square())
    assert torch.equal(both, output)
    weights = torch.arange(12.0).cos().view(3, 4)
    torch.testing.assert_close(gradient, 2 * x * weights)
    assert torch.equal(gradient, same)


def test_operations_are_counted_and_views_are_not():
    x = torch.randn(3, 4)
    launches, syncs, _ = count_cpu(lambda: (x.view(12)[2:] * 2 + 1).sum())
    assert (launches, syncs) == (3, 0)
    assert count_cpu(lambda: x.sum().item())[1] == 1
    assert count_cpu(lambda: x.nonzero())[1] == 1
    assert count_cpu(lambda: x[x > 0])[:2] == (2, 1)
    assert count_cpu(lambda: x[torch.tensor([0, 2])])[1] == 0


def test_the_peak_is_of_what_lives_at_once():
    def call():
        for _ in range(3):
            torch.empty(1_000_000)  # freed before the next
        return torch.empty(10)

    memory, _ = peak_cpu(call)
    assert 4_000_000 <= memory < 5_000_000


def test_the_floor_is_the_largest_of_three_times():
    assert floor(Work(10, 4, 2), Rates(1, 2, 1)) == (10, "flops")
    assert floor(Work(1, 4, 2), Rates(1, 1, 1)) == (4, "exponentials")


def test_a_round_has_every_provider_once_in_an_order_of_its_own():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    effort = Effort(least=8, most=8)
    seconds = interleave(calls, lambda call, count: call() or 1.0, dict.fromkeys(calls, 1), set(), effort)
    rounds = [seen[i : i + 3] for i in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert {name: len(of) for name, of in seconds.items()} == {"a": 8, "b": 8, "c": 8}


def test_quantiles_leave_out_what_sat_out():
    assert quantiles([1.0, math.nan, 3.0])[1] == 2


def test_what_is_not_there_is_said(monkeypatch, capsys):
    for arguments, message in (
        (["--only", "attention,all"], "--only names all"),
        (["--out", "nowhere"], "no folder nowhere"),
        (["--draw", "--out", "docs"], "which is not there"),
    ):
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        with pytest.raises(SystemExit, match="2"):
            run.main()
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_profile_of_a_step_gives_every_operator_a_group_and_a_picture(tmp_path):
    command = [sys.executable, "benchmarks/step_profile.py", "--quick", "--out", tmp_path, "--images", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "published program: --published was not given" in done.stderr
    assert (tmp_path / "step_profile.png").stat().st_size > 10_000
    with (tmp_path / "step_profile.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    groups = {row["name"]: row["group"] for row in rows}
    assert groups["aten::bmm"] == "matrix products"
    assert groups["aten::bernoulli_"] == "random numbers"
    assert groups["aten::add_"] == "element by element, rest"
    assert groups["aten::t"] == "views, allocation, autograd"
    assert sum(float(row["milliseconds"]) for row in rows) > 1


def test_stacked_steps_start_half_as_many_operations_and_wait_for_nothing():
    command = [sys.executable, "benchmarks/launches.py", "--setting", "aligned"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    together = {(row[0], row[2]): int(row[5].replace(",", "")) for row in rows}
    assert together["published", "stacked"] < 0.55 * together["published", "one by one"]
    assert 500 < together["published", "stacked"] <= 1400
    assert [row[6] for row in rows] == ["0"] * 4
