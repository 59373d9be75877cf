"""Rows as a CSV, and what of them a page shows: a table of times for each sweep and mode, and one of costs."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COLUMNS = (
    "case",
    "sweep",
    "x",
    "sizes",
    "mode",
    "provider",
    "seconds",
    "seconds_20",
    "seconds_80",
    "runs",
    "calls_a_run",
    "baseline",
    "times_faster",
    "times_faster_20",
    "times_faster_80",
    "memory_bytes",
    "memory_by",
    "launches",
    "syncs",
    "floor_seconds",
    "floor_term",
    "floor_percent",
    "samples_per_second",
    "difference",
    "skipped",
    "rate_flops",
    "rate_exponentials",
    "rate_bytes",
    "device",
    "device_name",
    "threads",
    "python",
    "torch",
    "triton",
    "gdkit",
    "numpy",
    "revision",
    "date",
)
NUMBERS = {name for name in COLUMNS if name.startswith(("seconds", "times_faster", "floor_s", "floor_p", "rate_"))}
NUMBERS |= {"memory_bytes", "launches", "syncs", "samples_per_second", "difference", "runs", "threads"}
TERMS = {"flops": "arithmetic", "exponentials": "exponentials", "bytes": "memory"}

Row = Mapping[str, Any]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file by these rows at once: whenever the run is stopped, it is whole."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()})
    os.replace(beside, path)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV, numbers as numbers and empty cells as None; of no file, none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: None if value == "" else float(value) if key in NUMBERS else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def seconds_text(value: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def bytes_text(value: float) -> str:
    """Two or three digits and a unit."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e3:.3g} kB"


def table(head: list[str], lines: list[list[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)] + [""]


def by(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    """Rows grouped by a column, in the order in which its values come first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def sizes_of(row: Row) -> dict[str, str]:
    """The cell "sizes" taken apart."""
    return dict(part.split("=", 1) for part in row["sizes"].split(", "))


def point_name(row: Row) -> str:
    """Where on the sweep, with the batch where that changes."""
    sizes = sizes_of(row)
    name = row["x"] or ", ".join(f"{key} {sizes[key]}" for key in ("dropout", "band") if key in sizes) or "-"
    return f"{name} (batch {sizes['batch']})" if "batch" in sizes and sizes["batch"] != "16" else name


def times(rows: list[Row], mode: str) -> list[str]:
    """A line a point, a column a provider: median time, and how many times faster than the baseline."""
    providers = [name for name, of in by(rows, "provider").items() if any(row["seconds"] for row in of)]
    lines = []
    for _, of_point in by(rows, "sizes").items():
        first, cells = of_point[0], {row["provider"]: row for row in of_point}
        least = first["floor_seconds"]
        bound = "" if least is None else f"{seconds_text(least)} ({TERMS[first['floor_term']]})"
        line = [point_name(first), bound]
        for provider in providers:
            row = cells.get(provider)
            text = "" if row is None or row["seconds"] is None else seconds_text(row["seconds"])
            faster = row["times_faster"] if row is not None and text else None
            is_baseline = provider == first["baseline"]
            line.append(text if faster is None or is_baseline else f"{text} (×{faster:.3g})")
        lines.append(line)
    return [f"*{mode}*", "", *table(["", "floor", *providers], lines)]


def costs(rows: list[Row]) -> list[str]:
    """A line a point: peak memory, operations, waits."""
    providers = [name for name, of in by(rows, "provider").items() if any(row["seconds"] for row in of)]
    lines = []
    for _, of_point in by(rows, "sizes").items():
        cells = {row["provider"]: row for row in of_point if row["seconds"] is not None}
        line = [point_name(of_point[0])]
        for provider in providers:
            row = cells.get(provider)
            parts = [] if row is None or row["memory_bytes"] is None else [bytes_text(row["memory_bytes"])]
            parts += [] if row is None or row["launches"] is None else [f"{row['launches']:.0f}", f"{row['syncs']:.0f}"]
            line.append(" / ".join(parts))
        lines.append(line)
    return ["*memory / operations / waits*", "", *table(["", *providers], lines)]


def absent(rows: list[Row]) -> list[str]:
    """Who was not measured where, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["skipped"]:
            found.setdefault((row["provider"], row["skipped"]), []).append(row["mode"])
    lines = [
        f"- {who}: {why} ({len(modes)} rows: {', '.join(dict.fromkeys(modes))})" for (who, why), modes in found.items()
    ]
    return ["Not measured:", "", *lines, ""] if lines else []


def markdown(rows: list[Row]) -> str:
    """All cases."""
    text: list[str] = []
    for case, of_case in by(rows, "case").items():
        first = of_case[0]
        text += [f"### {case}", ""]
        text += [
            f"{first['device_name']}, {first['threads']:.0f} thread(s), torch {first['torch']}, gdkit {first['gdkit']} "
            f"at {first['revision']}, {first['date']}; baseline: {first['baseline']}.",
            "",
        ]
        for sweep, of_sweep in by(of_case, "sweep").items():
            text += [f"#### {sweep}", ""]
            modes = by(of_sweep, "mode")
            for mode, of_mode in modes.items():
                text += times(of_mode, mode)
            text += costs([*modes.values()][-1])
        text += absent(of_case)
    return "\n".join(text)
