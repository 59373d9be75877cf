"""Runs of a second or less, and what they leave behind, for the tests of training and commands."""

import csv
import json
from dataclasses import replace

from dmd.config import RunConfig
from dmd.data import synthetic
from dmd.model import ModelConfig
from dmd.runs import prepare_runs
from dmd.training_state import checkpoints_of

STEPS = {"language": 4, "vision": 6, "acoustic": 9}
RECORDINGS = synthetic((48, 16, 16), steps=STEPS, absent=0.1, seed=1)
MODEL = ModelConfig(dim=8, num_heads=2, num_layers=1, modality_dropout=0.1)
CONFIG = RunConfig(data="synthetic", device="cpu", epochs=2, batch_size=16, model=MODEL)


def prepare(out, recordings=RECORDINGS, *, resume=False, **options):
    """A run that is ready to train."""
    (run,) = prepare_runs(replace(CONFIG, out=str(out), **options), [], recordings, resume=resume)
    return run


def on_call(monkeypatch, owner, name, count, action):
    """Do something before the count-th call of a function."""
    whole, calls = getattr(owner, name), iter(range(1, 10**6))

    def called(*arguments, **options):
        if next(calls) == count:
            action()
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, called)


def interrupt():
    """What Ctrl-C does by itself."""
    raise KeyboardInterrupt


def fail_on_call(monkeypatch, owner, name, count):
    """Interrupt the count-th call of a function."""
    on_call(monkeypatch, owner, name, count, interrupt)


def rows(path):
    """A CSV file as one mapping a line."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def content(out):
    """All that a finished run has found, without the times it took."""
    results = json.loads((out / "results.json").read_text())
    history = json.loads((out / "history.json").read_text())
    return {
        "weights": (out / "model.safetensors").read_bytes(),
        "last weights": (checkpoints_of(out)[-1] / "model.safetensors").read_bytes(),
        "predictions": (out / "predictions.csv").read_text(),
        "edges": (out / "edges.csv").read_text(),
        "results": {key: results[key] for key in ("test", "valid", "best_epoch", "seed")},
        "history": [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in history],
    }
