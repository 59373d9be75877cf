"""The words and tables of a run's page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..metrics import SELECTION
from ..runs import run_folders
from ..spread import mean_std
from .content import Content, read_results
from .figure import number
from .maps import label_text
from .table import Spread, Table, metrics_table

MOST_NEIGHBOURS = 200  # folders beside a run that are looked into for baselines


def data_name(content: Content) -> str:
    """Of the data the file's or folder's name."""
    return Path(content.results.get("data", {}).get("path") or content.config.data).name


def heading(content: Content) -> str:
    """Which network was trained on which data."""
    network = content.config.network
    return f"{'DMD' if network == 'dmd' else network} on {data_name(content)}"


def lead(content: Content) -> str:
    """What the run is, in a line."""
    described, results = content.described, content.results
    sizes = ", ".join(f"{split} {int(size)}" for split, size in results.get("data", {}).get("sizes", {}).items())
    parts = [described["task"], f"modalities {', '.join(described['dims'])}", sizes and f"samples: {sizes}"]
    if results.get("best_epoch") is not None and results.get("epochs"):
        parts.append(f"weights of epoch {results['best_epoch']} of {results['epochs']}")
    return "; ".join([*filter(None, parts), f"seed {content.config.seed}"])


def remarks(content: Content) -> list[str]:
    """What a reader must know besides the run's own warnings."""
    found = []
    if not content.results:
        found.append("The run is not finished: there is no results.json, and only what was evaluated is shown.")
    for title, part in content.parts.items():
        if part["labelled"] < part["size"]:
            found.append(f"{part['size'] - part['labelled']} of {part['size']} {title} samples have no label.")
    undefined = [name for name, value in content.metrics("test").items() if math.isnan(value)]
    if undefined:
        found.append(f"Undefined on the test split: {', '.join(undefined)}.")
    return found


def tiles(content: Content) -> list[tuple[str, str, str]]:
    """The figures that are asked for first: name, value, note."""
    metric, direction = SELECTION[content.described["metrics"]]
    found = []
    for split in ("test", "valid"):
        if (value := content.metrics(split).get(metric)) is not None:
            found.append((f"{metric}, {split}", number(value), "lower is better" if direction == "min" else ""))
    results = content.results
    if results.get("best_epoch") is not None:
        epochs = results.get("epochs", len(content.history))  # a shared model has neither
        found.append(("epoch kept", str(results["best_epoch"]), f"of {epochs}" if epochs else ""))
    if "seconds" in results:
        found.append(("training", duration(results["seconds"]), ""))
    if "peak_memory_mb" in results:
        found.append(("peak memory", f"{results['peak_memory_mb']:,.0f} MB", ""))
    return found


def duration(seconds: float) -> str:
    """In the unit that fits."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def metrics(content: Content) -> tuple[Table, list[str]]:
    """Metrics of each split, then of the baselines on the test split; and notes on the columns."""
    columns = {
        title: found for title in dict.fromkeys(["test", "valid", *content.parts]) if (found := content.metrics(title))
    }
    spreads: dict[str, dict[str, Spread]] = {
        title: {name: (value, math.nan) for name, value in found.items()} for title, found in columns.items()
    }
    notes = []
    constant = (content.parts.get("test") or {}).get("constant")
    if constant:
        title = f"test, {constant['text']}"
        spreads[title] = {name: (_real(value), math.nan) for name, value in constant["metrics"].items()}
        what = "most frequent label" if content.described["task"] == "classification" else "median label"
        notes.append(f"“{constant['text']}” is what a model predicts that knows only the {what} of the training split.")
    for name, found in neighbours(content).items():
        spreads[f"test, {name}"] = found
        notes.append(f"“{name}”: a baseline on the same data, in the folder beside this one.")
    if content.config.train_on == "train+valid" and "valid" in spreads:
        notes.append("The validation split was trained on.")
    return metrics_table(spreads), notes


def neighbours(content: Content) -> dict[str, dict[str, Spread]]:
    """Finished baselines (``--network``) on the same data beside a run: title -> metric -> mean and deviation."""
    sha256 = content.described["sha256"]
    root = content.folder.resolve()
    root = root.parent if root.name.startswith("seed-") else root
    found: dict[str, dict[str, Spread]] = {}
    if content.config.network != "dmd":
        return found
    try:
        beside = sorted(folder for folder in root.parent.iterdir() if folder.is_dir() and folder != root)
    except OSError:  # a folder whose content is not for this user to list
        return found
    for folder in beside[:MOST_NEIGHBOURS]:
        try:
            runs = [read_results(one) for one in run_folders(folder)]
        except (OSError, ValueError):  # not a run, or damaged: no baseline
            continue
        networks = {str(run.get("config", {}).get("network", "dmd")) for run in runs}
        if networks == {"dmd"} or any(run.get("data", {}).get("sha256") != sha256 for run in runs) or not all(runs):
            continue
        names = dict.fromkeys(name for run in runs for name in run["test"])
        title = f"{', '.join(sorted(networks))} ({folder.name})"
        found[title] = {name: mean_std([run["test"].get(name) for run in runs]) for name in names}
    return found


def errors(title: str, part: Mapping[str, Any]) -> tuple[Table, str]:
    """The worst samples of a split, and the words above them."""
    classes, worst = part["classes"], part["worst"]
    head = ["sample", "truth", "prediction"]
    head += ["confidence"] if classes else ["error"]
    with_text = any(row["text"] for row in worst)
    rows = []
    for row in worst:
        truth, prediction = (label_text(row[key], classes) for key in ("truth", "prediction"))
        last = f"{row['confidence']:.0%}" if classes else number(row["prediction"] - row["truth"], 2)
        rows.append([row["id"], truth, prediction, last, *([row["text"] or "—"] if with_text else [])])
    head += ["transcript"] if with_text else []
    if classes:
        count = part["num_wrong"]
        which = f"the {len(rows)} that the network was surest of" if count > len(rows) else "surest first"
        return Table(head, rows, texts=5), f"{count} of {part['labelled']} {title} samples are wrong; {which}"
    return Table(head, rows, texts=5), f"The {len(rows)} worst of {part['labelled']} {title} samples"


def facts(content: Content, processes: int) -> list[tuple[str, str]]:
    """What the run was made of: name and value."""
    results, described, config = content.results, content.described, content.config
    widths = ", ".join(f"{name} ({width})" for name, width in described["dims"].items())
    classes = described["classes"]
    found = [
        ("data", data_name(content)),
        ("SHA-256 of the data", described["sha256"]),
        ("modalities (width)", widths),
        ("classes", f"{len(classes)}: {', '.join(classes[:30])}" if classes else ""),
        ("metrics", described["metrics"]),
        ("seed", str(config.seed)),
        ("processes", str(processes)),
        ("precision", "float32" if config.precision == "no" else config.precision),
        ("machine", text(results.get("machine") or content.machine or "")),
        ("commit", text(results.get("commit") or "")),
        ("versions", ", ".join(f"{name} {number}" for name, number in results.get("versions", {}).items())),
    ]
    return [(name, value) for name, value in found if value]


def text(value: object) -> str:
    """An option's value as a page shows it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _real(value: float | None) -> float:
    return math.nan if value is None else float(value)
