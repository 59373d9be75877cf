"""The lines of edges.csv as one table a GD-Unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gdkit import DistillationGraph

UnitTable = tuple[DistillationGraph, np.ndarray, np.ndarray]  # graph, epochs, (epoch, edge) weights
EdgeTables = dict[str, UnitTable]


def edge_tables(rows: Iterable[Mapping[str, Any]]) -> EdgeTables:
    """Weights in the edge order of each unit's graph; NaN where unknown, and of two rows for one weight the later."""
    by_unit: dict[str, dict[tuple[int, tuple[str, str]], float]] = {}
    for row in rows:
        key = (int(row["epoch"]), (row["source"], row["target"]))
        weight = row["weight"]
        by_unit.setdefault(row["unit"], {})[key] = np.nan if weight in (None, "") else float(weight)
    units: EdgeTables = {}
    for unit, weights in by_unit.items():
        pairs = dict.fromkeys(pair for _, pair in weights)
        graph = DistillationGraph.from_edges(dict.fromkeys(name for pair in pairs for name in pair), pairs)
        epochs = sorted({epoch for epoch, _ in weights})
        table = [[weights.get((epoch, edge), np.nan) for edge in graph.edges] for epoch in epochs]
        units[unit] = graph, np.array(epochs), np.array(table)
    return units


def shown_epoch(epochs: np.ndarray, best_epoch: int | None) -> int:
    """Position of the epoch whose weights were kept; else of the last."""
    found = np.flatnonzero(epochs == best_epoch)
    return int(found[0]) if len(found) else len(epochs) - 1
