"""What the folder of a run holds, read and checked, for the pages that show it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import read_config
from ..config import RunConfig, flat_fields
from ..edge_tables import EdgeTables, edge_tables
from .part import is_number, read_parts


@dataclass
class Content:
    """A run as its folder shows it.

    Attributes:
        folder: where it lies.
        config: its options.
        described: what :func:`dmd.checkpoint.read_config` says of the data.
        results: of results.json; empty before the run is finished.
        history: of history.json, one mapping an epoch.
        edges: of edges.csv.
        parts: what is shown of each split, by its title.
        machine: where it ran; None where that is not known.
    """

    folder: Path
    config: RunConfig
    described: dict[str, Any]
    results: dict[str, Any]
    history: list[dict[str, Any]]
    edges: EdgeTables
    parts: dict[str, Any]
    machine: str | None

    @property
    def options(self) -> dict[str, Any]:
        """Every option by its name on the command line, but for those that say where and how the run is kept."""
        return {key: value for key, value in flat_fields(asdict(self.config)).items() if key not in ("out", "pictures")}

    @property
    def warnings(self) -> list[str]:
        """What the run says of its graphs, and how many steps it had to skip."""
        found = [
            f"{unit} graph: {text}"
            for unit, graph in self.results.get("graphs", {}).items()
            for text in graph.get("warnings", [])
        ]
        skipped = sum(epoch.get("skipped_steps", 0) for epoch in self.history)
        return [*found, f"{skipped} steps were skipped: their loss or gradient was not finite"] if skipped else found

    def metrics(self, split: str) -> dict[str, float]:
        """Of a split, or of one that was evaluated, by its title; NaN where undefined, empty where there are none."""
        known = self.results.get(split) if split in ("test", "valid") else None
        found = known or self.parts.get(split, {}).get("metrics", {})
        return {name: math.nan if value is None else float(value) for name, value in found.items()}


def read_content(folder: Path, results: Mapping[str, Any] | None = None) -> Content:
    """Read the folder of a run.

    Args:
        folder: with a config.json.
        results: what results.json is to hold, before it is written.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: a file is damaged; the message names it.
    """
    config, described = read_config(folder)
    if results is None:
        results = read_results(folder)
    history = _read(folder / "history.json", [], _is_history)
    try:
        path = folder / "edges.csv"
        edges = edge_tables(read_rows(path)) if path.is_file() else {}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'edges.csv'} is damaged: {type(error).__name__}: {error}") from error
    kept = read_parts(folder)
    machine = kept.get("machine")
    return Content(folder, config, described, dict(results), history, edges, kept["parts"], machine)


def read_results(folder: Path) -> dict[str, Any]:
    """The content of results.json; empty where there is none.

    Raises:
        ValueError: it is damaged.
    """
    return _read(folder / "results.json", {}, _is_results)


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV file as one mapping a line.

    Raises:
        ValueError: it is no CSV file of text.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _read(path: Path, default: Any, is_right: Any) -> Any:
    if not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not is_right(content):
        raise ValueError(f"{path} is not what a run writes")
    return content


def _is_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(number is None or is_number(number) for number in value.values())


def _is_results(content: Any) -> bool:
    if not isinstance(content, Mapping) or not all(_is_numbers(content.get(split)) for split in ("test", "valid")):
        return False
    graphs, data = content.get("graphs", {}), content.get("data", {})
    if not isinstance(graphs, Mapping) or not isinstance(data, Mapping):
        return False
    right = all(is_number(content.get(name, 0)) for name in ("seed", "epochs", "seconds", "peak_memory_mb"))
    right &= content.get("best_epoch") is None or is_number(content["best_epoch"])
    right &= all(isinstance(content.get(name, {}), Mapping) for name in ("versions", "config"))
    right &= _is_numbers(data.get("sizes", {})) and None not in data.get("sizes", {}).values()
    right &= all(isinstance(data.get(name, ""), str) for name in ("path", "sha256"))
    right &= all(isinstance(graph, Mapping) for graph in graphs.values())
    return right and all(isinstance(graph.get("warnings", []), list) for graph in graphs.values())


def _is_history(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(epoch, Mapping)
        and isinstance(epoch.get("epoch"), int)
        and all(_is_numbers(epoch.get(part, {})) for part in ("train", "valid"))
        and all(is_number(epoch.get(name, 0)) for name in ("learning_rate", "seconds", "skipped_steps"))
        for epoch in content
    )
