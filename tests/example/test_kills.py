"""Runs that are killed at random moments and gone on with find what a run finds that nobody disturbs, to the bit."""

import os
import random
import signal
import time

import pytest

from tests.example.small_runs import content

SIZES = ["model.dim=8", "model.num_heads=2", "model.num_layers=1", "model.dropout=0.1", "model.modality_dropout=0.2"]
SIZES += ["device=cpu", "epochs=3"]
OPTIONS = ["--data", "synthetic", "--pictures", "false", *(f"--{size}" for size in SIZES)]
FIGURE = ["figure5", "--data", "synthetic", "--seeds", "1", "--set", *SIZES, "checkpoint_every=2"]
KINDS = {  # command, options, where it puts its runs
    "plain": ("train", OPTIONS, ["."]),
    "accumulation": ("train", [*OPTIONS, "--accumulation=2", "--checkpoint-every=1", "--bucket=true"], ["."]),
    "seeds": ("train", [*OPTIONS, "--seeds", "1", "2", "--checkpoint-every=2"], ["seed-1", "seed-2"]),
    "reproduce": ("reproduce", FIGURE, None),
}


def contents(kind, out):
    """All that the runs of a command have found."""
    folders = KINDS[kind][2] or sorted(path.parent.relative_to(out) for path in out.rglob("results.json"))
    return {str(folder): content(out / folder) for folder in folders}


def arguments(kind, out):
    """A command line; one that goes on where a run has begun."""
    command, options, _ = KINDS[kind]
    begun = any(out.rglob("config.json")) if command == "train" else False
    return [command, *(["--resume", out] if begun else [*options, "--out", out])]


def killed_until_done(commands, kind, out, chance, seconds, writes):
    """Kill a run again and again until one attempt ends by itself; how many kills that were."""
    log, kills = out.with_suffix(".log"), 0
    while True:
        if chance.random() < 0.5:  # anywhere in time, or between what is written
            number = commands.start(*arguments(kind, out), log=log, kill_at=chance.randint(1, writes))
            status = commands.wait(number)
        else:
            number = commands.start(*arguments(kind, out), log=log)
            time.sleep(chance.uniform(0, seconds))
            os.kill(number, signal.SIGKILL)  # nothing happens where it has ended: it is waited for below
            status = commands.wait(number)
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, log.read_text()
        kills += 1


def undisturbed(commands, kind, out):
    """What a run finds, how long it takes, and how often it writes."""
    begin = time.perf_counter()
    assert commands.run(*arguments(kind, out), log=out.with_suffix(".log")) == 0, out.with_suffix(".log").read_text()
    return contents(kind, out), time.perf_counter() - begin


def check(commands, kind, tmp_path, wanted, seed):
    """At least so many kills of one kind of run, in as many runs as that takes."""
    expected, seconds = undisturbed(commands, kind, tmp_path / "whole")
    chance, kills, runs = random.Random(seed), 0, 0
    while kills < wanted:
        out = tmp_path / f"run-{runs}"
        kills += killed_until_done(commands, kind, out, chance, seconds, writes=60)
        found = contents(kind, out)
        different = [
            (run, name) for run in expected for name in expected[run] if found[run][name] != expected[run][name]
        ]
        assert (different, found.keys()) == ([], expected.keys())
        assert not list(out.rglob("*.tmp"))
        runs += 1
    print(f"{kind}: {kills} kills, {runs} runs, all of them as the undisturbed one")


@pytest.mark.parametrize("kind", ["accumulation"])
def test_a_few_kills_change_nothing(commands, kind, tmp_path):
    check(commands, kind, tmp_path, wanted=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_kills_change_nothing(commands, kind, tmp_path):
    check(commands, kind, tmp_path, wanted=25, seed=2)
