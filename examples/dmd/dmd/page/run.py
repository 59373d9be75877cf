"""report.html: one run on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint import saved_processes
from ..edge_tables import shown_epoch
from . import curves, graphs, maps, sections
from .command import command_of
from .content import Content, read_content
from .figure import Figure
from .missing import missing_sections
from .table import Table
from .writing import write_page

PARTS = {
    "learning": "Learning",
    "graphs": "Graphs",
    "features": "Features",
    "errors": "Errors",
    "missing": "Missing modalities",
}


def write_report(
    folder: Path,
    *,
    results: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    path: Path | None = None,
) -> Path:
    """Write the page of the run in a folder, and return where.

    Args:
        folder: with a config.json.
        results: what results.json is to hold, before it is written.
        parts: what is shown of each split (:func:`dmd.page.part.split_part`), in place of those in report.json.
        path: of the page; by default report.html in the folder. Tables of missing modalities are read beside it.

    Raises:
        ValueError: a file of the run is damaged.
    """
    content = read_content(folder, results)
    path = path or folder / "report.html"
    if parts is not None:
        content.parts = dict(parts)
    page = _page(content, saved_processes(folder))
    page["missing"] = missing_sections(path.parent, content.described["metrics"])
    page["parts"] = [("results", "Results"), *((key, text) for key, text in PARTS.items() if page[key])]
    page["parts"].append(("run", "What was run"))
    write_page(path, "run.html", page)
    return path


def _page(content: Content, processes: int) -> dict[str, Any]:
    config, parts = content.config, content.parts
    best_epoch = content.results.get("best_epoch")
    metrics, notes = sections.metrics(content)
    options = [[key, sections.text(value)] for key, value in content.options.items()]
    return {
        "kind": "Report of a run",
        "title": sections.heading(content),
        "lead": sections.lead(content),
        "warnings": [*content.warnings, *sections.remarks(content)],
        "tiles": sections.tiles(content),
        "metrics": metrics,
        "result_notes": notes,
        "learning": curves.learning(content.history, best_epoch),
        **_graphs(content, best_epoch),
        "features": _maps(parts),
        "errors": [_errors(title, part) for title, part in parts.items() if part["labelled"]],
        "command": command_of(config, processes),
        "facts": sections.facts(content, processes),
        "timing": curves.seconds(content.history),
        "options": Table(["option", "value"], options, texts=2),
    }


def _graphs(content: Content, best_epoch: int | None) -> dict[str, Any]:
    """The pictures of each GD-Unit that taught, and what the slider over them needs."""
    tables = {unit: table for unit, table in content.edges.items() if table[0].num_edges}
    top = graphs.heaviest(tables)
    shown = {unit: shown_epoch(table[1], best_epoch) for unit, table in tables.items()}
    pairs = [
        {
            "links": graphs.node_links(unit, table, top, shown[unit]),
            "matrix": graphs.heat_map(unit, table, top, shown[unit]),
        }
        for unit, table in tables.items()
    ]
    num_epochs = max((len(epochs) for _, epochs, _ in tables.values()), default=0)
    over = [graphs.over_epochs(unit, table, best_epoch) for unit, table in tables.items()] if num_epochs > 1 else []
    return {
        "graphs": pairs,
        "num_epochs": num_epochs,
        "shown": next(iter(shown.values()), 0),
        "best_epoch": "" if best_epoch is None else best_epoch,
        "curves": over,
    }


def _maps(parts: Mapping[str, Any]) -> list[Figure]:
    found = [(title, unit, part) for title, part in parts.items() if part.get("map") for unit in part["map"]["places"]]
    return [figure for title, unit, part in found if (figure := maps.feature_map(title, unit, part))]


def _errors(title: str, part: Mapping[str, Any]) -> dict[str, Any]:
    worst, caption = sections.errors(title, part)
    return {"title": title, "chart": curves.errors(title, part), "worst": worst, "caption": caption}
