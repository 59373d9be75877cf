"""What is left of a trained model when modalities are missing: the table of evaluate.py --missing, and two charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics import NAMES, SELECTION
from ..spread import mean_std
from .content import read_rows
from .figure import SYMBOLS, Figure, number, numbers, plain
from .table import Table, plus_minus

PROTOCOLS = {"steps": "steps of every modality", "random": "modalities of a sample, one kept"}

Case = tuple[Mapping[str, str], dict[str, tuple[float, float]]]  # a line of the file, mean and deviation of each metric


def missing_files(folder: Path) -> dict[str, Path]:
    """Split -> the file of evaluate.py --missing."""
    return {path.stem.removeprefix("missing_"): path for path in sorted(folder.glob("missing_*.csv"))}


def missing_sections(folder: Path, suite: str) -> list[dict[str, Any]]:
    """Title, charts and table of every split that was judged with modalities missing.

    Raises:
        ValueError: a file is damaged.
    """
    found = {split: read_cases(path, suite) for split, path in missing_files(folder).items()}
    return [
        {"title": split, "charts": missing_figures(cases, suite, split), "table": missing_table(cases, suite)}
        for split, cases in found.items()
        if cases
    ]


def read_cases(path: Path, suite: str) -> list[Case]:
    """Every case of the file with mean and deviation over the runs.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in read_rows(path):
            groups.setdefault((row["protocol"], row["kept"], row["rate"]), []).append(row)
        return [
            (rows[0], {name: mean_std([float(row[name] or "nan") for row in rows]) for name in NAMES[suite]})
            for rows in groups.values()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def missing_table(cases: Sequence[Case], suite: str) -> Table:
    """A line a case."""
    head = ["what is missing", "kept", "rate", "n", "empty", *NAMES[suite]]
    rows = [
        [row["protocol"], row["kept"], row["rate"] or "—", row["n"], row["empty"]]
        + [plus_minus(*spread[name]) for name in NAMES[suite]]
        for row, spread in cases
    ]
    return Table(head, rows, texts=2)


def missing_figures(cases: Sequence[Case], suite: str, split: str) -> list[Figure]:
    """Bars for what is kept whole, and a line over the rate for each of the other protocols."""
    metric, direction = SELECTION[suite]
    better = f"{'lower' if direction == 'min' else 'higher'} {metric} is better"
    whole = [(row["kept"], spread[metric]) for row, spread in cases if row["protocol"] == "whole"]
    figures = []
    if whole:
        full = whole[-1][1][0]  # the subset of all
        bars = {
            "type": "bar",
            "orientation": "h",
            "y": [plain(kept) for kept, _ in whole],
            "x": numbers(mean for _, (mean, _) in whole),
            "text": [plus_minus(*spread) for _, spread in whole],
            "textposition": "auto",
            "error_x": _spreads([std for _, (_, std) in whole]),
            "marker": {"color": ["@0" if i == len(whole) - 1 else "@5" for i in range(len(whole))]},
            "hovertemplate": "kept: %{y}<br>" + metric + " %{text}<extra></extra>",
        }
        axes = {"xaxis": {"title": {"text": metric}}, "yaxis": {"autorange": "reversed", "automargin": True}}
        said = "; ".join(f"{kept}: {number(mean)}" for kept, (mean, _) in whole)
        label = f"{metric} of {split} by the modalities that are kept. {said}; with all of them {number(full)}."
        figures.append(Figure(f"Whole modalities are missing; {better}", label, [bars], axes, 150 + 30 * len(whole)))
    data, said = [], []
    for index, (protocol, name) in enumerate(PROTOCOLS.items()):
        found = sorted((float(row["rate"]), *spread[metric]) for row, spread in cases if row["protocol"] == protocol)
        if not found:
            continue
        points = [(0.0, *whole[-1][1]), *found] if whole else found
        rates, means, stds = zip(*points, strict=True)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": list(rates),
                "y": numbers(means),
                "error_y": _spreads(stds),
                "line": {"color": f"@{index + 1}", "width": 2},
                "marker": {"color": f"@{index + 1}", "size": 9, "symbol": SYMBOLS[index]},
                "hovertemplate": "rate %{x}<br>" + metric + " %{y:.3f}<extra></extra>",
            }
        )
        said.append(f"{name}: from {number(means[0])} to {number(means[-1])} at rate {rates[-1]:g}")
    if data:
        axes = {"xaxis": {"title": {"text": "rate of dropping"}}, "yaxis": {"title": {"text": metric}}}
        label = f"{metric} of {split} over the rate of dropping by chance. {'; '.join(said)}."
        figures.append(Figure(f"Dropped by chance; {better}", label, data, axes, 360))
    return figures


def _spreads(stds: Sequence[float]) -> dict[str, Any]:
    values = numbers(stds)
    return {"type": "data", "array": values, "visible": any(values), "color": "@muted", "thickness": 1.2}
