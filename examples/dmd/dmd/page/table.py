"""Tables of metrics for the pages: how a number is written, and which of several is best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .figure import number

LOWER_IS_BETTER = ("mae",)

Spread = tuple[float, float]  # mean, standard deviation (NaN of a single value)


@dataclass
class Table:
    """Head and rows of text.

    Attributes:
        texts: how many columns on the left are text; numbers stand on the right of theirs.
        best: for each row, the columns whose cell is best.
    """

    head: list[str]
    rows: list[list[str]]
    texts: int = 1
    best: list[set[int]] = field(default_factory=list)


def metrics_table(columns: Mapping[str, Mapping[str, Spread]], *, digits: int = 4, mark: bool = False) -> Table:
    """A row a metric, a column a run or split.

    Args:
        columns: title -> metric -> mean and deviation.
        digits: behind the point.
        mark: mark the best of each row, where two or more are defined.
    """
    names = dict.fromkeys(name for column in columns.values() for name in column)
    table = Table(["metric", *columns], [])
    for name in names:
        spreads = [column.get(name, (math.nan, math.nan)) for column in columns.values()]
        table.rows.append(
            [f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}", *(plus_minus(*x, digits) for x in spreads)]
        )
        table.best.append(_best([mean for mean, _ in spreads], name) if mark else set())
    return table


def plus_minus(mean: float, std: float, digits: int = 3) -> str:
    """Mean, with the deviation where there is one."""
    text = number(mean, digits)
    return f"{text} ± {number(std, digits)}" if math.isfinite(mean) and math.isfinite(std) else text


def _best(means: Sequence[float], name: str) -> set[int]:
    defined = [mean for mean in means if math.isfinite(mean)]
    if len(defined) < 2:
        return set()
    best = min(defined) if name in LOWER_IS_BETTER else max(defined)
    # Equal as they are written, so that no difference is marked that cannot be seen.
    return {i + 1 for i, mean in enumerate(means) if math.isfinite(mean) and number(mean, 4) == number(best, 4)}
