"""Several runs side by side on one page: compare.html, and report.html of a run over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import saved_processes
from ..config import RunConfig
from ..edge_tables import EdgeTables, shown_epoch
from ..metrics import SELECTION
from ..runs import run_folders
from ..spread import mean_std
from . import graphs, sections
from .command import PLACES, command_of
from .content import Content, read_content
from .curves import series
from .figure import DASHES, NUM_COLORS, Figure, color, is_defined, lines, number
from .missing import missing_sections
from .table import Spread, Table, metrics_table, plus_minus
from .writing import write_page


@dataclass
class Group:
    """One column of a comparison: a run, or the runs of one configuration over seeds."""

    title: str
    runs: list[Content]

    def spread(self, split: str) -> dict[str, Spread]:
        """Metric -> mean and deviation over the runs."""
        found = [run.metrics(split) for run in self.runs]
        return {
            name: mean_std([one.get(name) for one in found]) for name in dict.fromkeys(n for one in found for n in one)
        }

    def curve(self, value: Callable[[Mapping[str, Any]], float | None]) -> dict[int, float]:
        """Epoch -> mean over the runs of what is read of the epoch."""
        by_epoch: dict[int, list[float | None]] = {}
        for run in self.runs:
            for epoch in run.history:
                by_epoch.setdefault(epoch["epoch"], []).append(value(epoch))
        return {epoch: mean_std(values)[0] for epoch, values in sorted(by_epoch.items())}

    def graphs(self) -> EdgeTables:
        """Unit -> the graph with the mean of the kept epochs' weights as its only epoch."""
        tables: EdgeTables = {}
        for unit in dict.fromkeys(unit for run in self.runs for unit in run.edges):
            kept = [(run.edges[unit], run.results.get("best_epoch")) for run in self.runs if unit in run.edges]
            graph = kept[0][0][0]
            if graph.num_edges == 0 or any(table[0].edges != graph.edges for table, _ in kept):
                continue
            rows = [table[2][shown_epoch(table[1], best)].tolist() for table, best in kept]
            mean = [mean_std(values)[0] for values in zip(*rows, strict=True)]
            tables[unit] = graph, np.zeros(1, np.int64), np.array([mean])
        return tables


def read_group(folder: Path, title: str) -> tuple[Group, list[Path]]:
    """The finished runs in a folder, and the folders of those that are not finished.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: a file is damaged.
    """
    runs = [read_content(one) for one in run_folders(folder)]
    return Group(title, [run for run in runs if run.results]), [run.folder for run in runs if not run.results]


def write_comparison(path: Path, groups: Sequence[Group]) -> Path:
    """Write the page that compares these runs."""
    first = groups[0].runs[0]
    remarks = []
    if len({run.described["sha256"] for group in groups for run in group.runs}) > 1:
        remarks.append("The runs were trained on different data: their metrics do not compare.")
    if len({run.described["metrics"] for group in groups for run in group.runs}) > 1:
        remarks.append("The runs have different tasks: where one has no such metric, there is a dash.")
    page = _page(groups, first.described["metrics"]) | {
        "kind": "Comparison of runs",
        "title": f"{len(groups)} runs side by side",
        "lead": ", ".join(group.title for group in groups),
        **{"links": [], "missing": [], "command": None},
    }
    page["warnings"] = [*remarks, *page["warnings"]]
    return _write(path, page)


def write_seeds(root: Path) -> Path:
    """Write report.html of a run over seeds: the mean, and the seeds side by side; of those that are finished, if any.

    Raises:
        FileNotFoundError, ValueError: a run is not there, or damaged.
    """
    whole, unfinished = read_group(root, "mean ± std")
    whole.runs = whole.runs or [read_content(one) for one in unfinished]  # evaluated all the same
    groups = [Group(f"seed {run.config.seed}", [run]) for run in whole.runs]
    first = whole.runs[0]
    suite, config = first.described["metrics"], first.config
    page = _page([whole, *groups], suite, whole=True)
    pages = [(group.title, f"{run.folder.name}/report.html") for group in groups for run in group.runs]
    options = {"processes": saved_processes(first.folder), "seeds": [run.config.seed for run in whole.runs]}
    page |= {
        "kind": "Report of a run over seeds",
        "title": f"{sections.heading(first)}, {len(groups)} seeds",
        "lead": "; ".join(sections.lead(first).split("; ")[:-1]),
        "command": command_of(replace(config, seed=RunConfig.seed), **options),
        "facts": sections.facts(first, options["processes"]),
        "links": [(title, link) for title, link in pages if (root / link).is_file()],
        "missing": missing_sections(root, suite),
    }
    page["warnings"] = [*(f"The run of {one.name} is not finished." for one in unfinished), *page["warnings"]]
    return _write(root / "report.html", page)


def _page(groups: Sequence[Group], suite: str, *, whole: bool = False) -> dict[str, Any]:
    """What both pages show; `whole`: the first group is the mean of the others, and is in the tables alone."""
    single = groups[1:] if whole else groups
    tables = [
        (split, metrics_table({group.title: group.spread(split) for group in groups}, mark=not whole))
        for split in dict.fromkeys(
            ["test", "valid", *(title for group in groups for run in group.runs for title in run.parts)]
        )
    ]
    costs = [
        [
            group.title,
            str(len(group.runs)),
            *(_cost(group, name) for name in ("epochs", "best_epoch", "seconds", "peak_memory_mb")),
        ]
        for group in groups
    ]
    return {
        "warnings": [f"{group.title}: {text}" for group in single for text in dict.fromkeys(_warnings(group))],
        "tables": [(split, table) for split, table in tables if table.rows],
        "learning": _curves(single, suite),
        "graphs": _graphs(groups),
        "several": any(len(group.runs) > 1 for group in single),
        "options": None if whole else differences(groups),
        "costs": Table(["run", "seeds", "epochs", "epoch kept", "seconds", "peak memory, MB"], costs),
    }


def _write(path: Path, page: dict[str, Any]) -> Path:
    names = {"learning": "Learning", "graphs": "Graphs", "missing": "Missing modalities", "options": "Differences"}
    page["parts"] = [
        ("results", "Results"),
        *((key, text) for key, text in names.items() if page[key]),
        ("costs", "Cost"),
    ]
    write_page(path, "comparison.html", page)
    return path


def _warnings(group: Group) -> list[str]:
    several = len(group.runs) > 1
    return [f"seed {run.config.seed}, {text}" if several else text for run in group.runs for text in run.warnings]


def _cost(group: Group, name: str) -> str:
    mean, std = mean_std([run.results.get(name) for run in group.runs])
    digits = 0 if name == "peak_memory_mb" else 1
    is_whole = math.isfinite(mean) and mean == int(mean) and not std > 0
    return number(mean, 0) if is_whole else plus_minus(mean, std, digits)


def _curves(groups: Sequence[Group], suite: str) -> list[Figure]:
    metric, direction = SELECTION[suite]
    wanted = {
        f"Validation {metric} ({'lower' if direction == 'min' else 'higher'} is better)": ("valid", metric),
        "Validation loss": ("valid", "loss"),
        "Training loss": ("train", "loss"),
    }
    figures, titles = [], [group.title for group in groups]
    for heading, (part, name) in wanted.items():
        curves = {group.title: group.curve(lambda epoch: series([epoch], part, name)[0]) for group in groups}  # noqa: B023
        epochs = sorted({epoch for curve in curves.values() for epoch in curve})
        found = {key: [curve.get(epoch) for epoch in epochs] for key, curve in curves.items()}
        found = {key: values for key, values in found.items() if is_defined(values)}
        if not found:
            continue
        ends = {key: [x for x in values if x is not None][-1] for key, values in found.items()}
        said = "; ".join(f"{key}: {number(last)}" for key, last in ends.items())
        figure = lines(heading, f"{heading} over the epochs. At the end {said}.", epochs, found)
        for trace, title in zip(figure.data, found, strict=True):  # one colour a run in all charts
            index = titles.index(title)
            trace["line"] |= {"color": color(index), "dash": DASHES[index // NUM_COLORS % len(DASHES)]}
            trace["marker"]["color"] = color(index)
        figures.append(figure)
    return figures


def _graphs(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """For each unit the graphs of all groups, on one scale."""
    found = {group.title: group.graphs() for group in groups}
    units = dict.fromkeys(unit for tables in found.values() for unit in tables)
    top = max([graphs.heaviest(tables) for tables in found.values() if tables] or [1.0])
    rows = []
    for unit in units:
        figures = []
        for title, tables in found.items():
            if unit in tables:
                figure = graphs.node_links(unit, tables[unit], top, 0)
                figure.title, figure.frames = title, {}
                figure.label = f"{title}: {figure.label}"
                figures.append(figure)
        rows.append({"title": unit, "charts": figures})
    return rows


def differences(groups: Sequence[Group]) -> Table:
    """The options in which the runs differ, a column a run."""
    options = [
        group.runs[0].options | {"seed": ", ".join(str(run.config.seed) for run in group.runs)} for group in groups
    ]
    names = [name for name in dict.fromkeys(n for one in options for n in one) if name not in PLACES]
    rows = [[name, *(sections.text(one.get(name)) for one in options)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return Table(["option", *(group.title for group in groups)], rows, texts=len(groups) + 1)
