"""Tiny runs whose pages the tests look at, on recordings whose texts try to become markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from dmd.data import synthetic
from dmd.data.recordings import UNLABELLED
from dmd.page import write_seeds

from tests.example.small_runs import MODEL, RECORDINGS, STEPS, prepare

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }} %{x} & \u2028",
    "<b>bold</b>",
)


def hostile(recordings):
    """The recordings with ids and transcripts, and names of classes, that hold markup."""
    splits = {}
    for name, split in recordings.splits.items():
        ids = [f"{text} {i}" for i, text in zip(range(len(split)), HOSTILE * len(split), strict=False)]
        splits[name] = replace(split, ids=ids, transcripts=[f"said {text}" for text in ids])
    classes = tuple(f"{name} {text}" for name, text in zip(recordings.classes, HOSTILE * 9, strict=False))
    return replace(recordings, splits=splits, classes=classes)


def half_labelled(recordings):
    """The first half of the test split has no label."""
    test = recordings.splits["test"]
    labels = test.labels.copy()
    labels[: len(labels) // 2] = UNLABELLED
    return replace(recordings, splits=recordings.splits | {"test": replace(test, labels=labels)})


CLASSES = synthetic((24, 12, 12), steps=STEPS, task="classification")


def make_runs(root):
    """Train four runs, without the pictures' files, where that is not done: "regression", "classes", "no units",
    "seeds" -> folder."""
    folders = {"regression": "seeds/seed-1", "classes": "classes", "no units": "no units", "seeds": "seeds"}
    folders = {name: root / folder for name, folder in folders.items()}
    if (root / "seeds" / "seeds.json").is_file():
        return folders
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
        for seed in (1, 2):
            prepare(root / "seeds" / f"seed-{seed}", hostile(RECORDINGS), epochs=3, seed=seed).train()
        prepare(root / "classes", half_labelled(hostile(CLASSES)), epochs=1).train()
        model = replace(MODEL, homo_gd=False, hetero_gd=False)
        nothing = replace(CLASSES.splits["test"], labels=np.full(12, UNLABELLED))
        unlabelled = replace(CLASSES, splits=CLASSES.splits | {"test": nothing})
        prepare(root / "no units", unlabelled, epochs=2, model=model).train()
    (root / "seeds" / "seeds.json").write_text("[1, 2]")
    write_seeds(root / "seeds")
    return folders


class Page(HTMLParser):
    """What a page holds: its text by section, tags, and charts."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.text, self.sections, self.scripts = [], [], {}, []
        self._at = self._script = None
        self.feed(self.source)
        self.figures = json.loads(next(text for kind, text in self.scripts if kind == "application/json"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "section":
            self._at = attributes.get("id", "warnings")
            self.sections[self._at] = ""
        if tag == "script":
            self._script = attributes.get("type", "")
            self.scripts.append((self._script, ""))

    def handle_endtag(self, tag):
        if tag == "section":
            self._at = None
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[-1] = (self._script, self.scripts[-1][1] + data)
        elif self._at is not None:
            self.sections[self._at] += " " + " ".join(data.split())

    def labels(self):
        """aria-label of every chart."""
        return [
            attributes["aria-label"] for tag, attributes in self.tags if "chart" in attributes.get("class", "").split()
        ]


def check_figure(chart):
    """A chart is one that plotly takes; raises ValueError."""
    go.Figure(data=_painted(chart["data"]), layout=_painted(chart["layout"]))


def _painted(value, key=""):
    """With some colour for each name of a colour."""
    if isinstance(value, dict):
        return {name: _painted(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_painted(each, key) for each in value]
    if isinstance(value, str) and re.fullmatch("@[a-z0-9]+", value):
        assert key.endswith(("color", "colorscale")), f"{value} stands in {key}, where nothing replaces it"
        return "Blues" if key == "colorscale" else "#123456"
    return value
