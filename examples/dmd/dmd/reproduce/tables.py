"""From finished runs to a table: Markdown, CSV and the numbers of its picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics import SELECTION
from ..spread import mean_std
from .inference import (
    NUM_FLIPS,
    NUM_RESAMPLES,
    bootstrap_interval,
    holm,
    resampling_counts,
    sample_errors,
    sign_flip_test,
)
from .outcomes import Outcome
from .plans import Table
from .published import METRICS, Numbers

SHOWN = {
    "mosi": ("mae", "corr", "acc7", "acc2_neg_pos", "f1_neg_pos"),
    "sims": ("mae", "corr", "acc5", "acc2_nonpos_pos", "f1_nonpos_pos"),
    "accuracy": ("accuracy", "f1_macro"),
}
CSV_COLUMNS = ("n", "metric", "mean", "std", "low", "high", "difference", "difference_std", "p", "p_holm", "paper")


def summarise(outcome: Outcome, labels: np.ndarray, suite: str, counts: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Each shown metric's mean and standard deviation over the seeds, and its interval over the test samples."""
    return {
        metric: (
            *mean_std([seed[metric] for seed in outcome.metrics]),
            *bootstrap_interval(outcome.predictions, labels, suite, metric, counts),
        )
        for metric in SHOWN[suite]
    }


def compare(one: Outcome, other: Outcome, labels: np.ndarray, suite: str) -> tuple[float, float, float]:
    """Difference of the main metric, its mean and standard deviation over the seeds, and p of the paired test."""
    metric = SELECTION[suite][0]
    values = [np.array([seed[metric] for seed in outcome.metrics]) for outcome in (one, other)]
    errors = [sample_errors(outcome.predictions, labels, suite) for outcome in (one, other)]
    return *mean_std((values[0] - values[1]).tolist()), sign_flip_test(errors[0] - errors[1])


def table_rows(
    table: Table,
    outcomes: Sequence[Outcome],
    full: Outcome,
    labels: np.ndarray,
    suite: str,
    paper: Mapping[str, Mapping[str, Numbers]],
) -> list[dict[str, Any]]:
    """All that the table says, one mapping a line.

    Args:
        table: its plan.
        outcomes: one a row of the plan.
        full: the full model.
        labels: of the labelled test samples.
        suite: of the metrics.
        paper: row name -> setting -> numbers.
    """
    counts = resampling_counts(len(labels))
    rows = []
    for row, outcome in zip(table.rows, outcomes, strict=True):
        is_full = outcome.name == full.name
        difference = (math.nan,) * 3 if is_full else compare(outcome, full, labels, suite)
        rows.append(
            {
                "title": outcome.title,
                "cells": row.cells,
                "n": len(outcome.metrics),
                "seeds": {metric: [seed[metric] for seed in outcome.metrics] for metric in SHOWN[suite]},
                "metrics": summarise(outcome, labels, suite, counts),
                "difference": difference,
                "paper": paper.get(outcome.name, {}),
                "is_full": is_full,
            }
        )
    for line, p in zip(rows, holm([line["difference"][2] for line in rows]), strict=True):
        line["p_holm"] = p
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], suite: str) -> str:
    """The table; the column of the paper only where it says something."""
    main, shown = SELECTION[suite][0], SHOWN[suite]
    has_paper, has_title = any(row["paper"] for row in rows), any(row["title"] for row in rows)
    head = [*(["network"] if has_title else []), *columns, "n", *shown, f"{main} − DMD", "p", "p (Holm)"]
    head += [f"paper: {' / '.join(METRICS)}"] if has_paper else []
    lines = [head, ["---"] * len(head)]
    for row in rows:
        mean, std, p = row["difference"]
        compared = ["–"] * 3 if row["is_full"] else [plus_minus(mean, std, "+"), p_text(p), p_text(row["p_holm"])]
        numbers = [interval_text(*row["metrics"][metric]) for metric in shown]
        cells = [*([row["title"]] if has_title else []), *row["cells"], str(row["n"]), *numbers, *compared]
        lines.append([*cells, *([_paper(row["paper"])] if has_paper else [])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def csv_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], suite: str) -> list[list[object]]:
    """A head, then one line a network and metric; an empty cell is undefined, or said of another metric."""
    table: list[list[object]] = [["network", *columns, *CSV_COLUMNS]]
    for row in rows:
        for metric, numbers in row["metrics"].items():
            compared = [*row["difference"], row["p_holm"]] if metric == SELECTION[suite][0] else [math.nan] * 4
            place = METRICS.index(metric) if metric in METRICS else None
            paper = (
                [f"{setting} {_share(values[place])}".strip() for setting, values in row["paper"].items()]
                if (place is not None)
                else []
            )
            filled = ["" if math.isnan(value) else round(value, 6) for value in [*numbers, *compared]]
            cells = [row["n"], metric, *filled, "; ".join(text for text in paper if text != "–")]
            table.append([row["title"], *row["cells"], *cells])
    return table


def comparison_lines(
    table: Table, pairs: Sequence[tuple[Outcome, Outcome]], labels: np.ndarray, suite: str
) -> list[str]:
    """The table's own comparisons, in a line each; Holm's correction is over them."""
    found = [compare(*pair, labels, suite) for pair in pairs]
    adjusted = holm([p for _, _, p in found])
    return [
        f"- {what}: {SELECTION[suite][0]} {plus_minus(mean, std, '+')}, {p_is(p)}, after Holm {p_is(corrected)}"
        for (what, _, _), (mean, std, p), corrected in zip(table.comparisons, found, adjusted, strict=True)
    ]


def explanation(suite: str, num_samples: int, seeds: Sequence[int]) -> str:
    """How to read the table, in one paragraph."""
    main = SELECTION[suite][0]
    error = "share of seeds with a wrong class" if suite == "accuracy" else "absolute error"
    return (
        f"Mean ± standard deviation (n − 1) over n seeds ({', '.join(map(str, seeds))}), test split. In brackets: 95 % "
        f"percentile bootstrap interval of that mean over the {num_samples} labelled test samples ({NUM_RESAMPLES} "
        f"resamples; all seeds are judged on the same resample). {main} − DMD: difference to DMD, seed by seed. p: "
        f"two-sided sign-flip test against DMD, paired over the test samples, of each sample's {error} averaged over "
        f"the seeds ({NUM_FLIPS} sign patterns); p (Holm): corrected for all tests of the table. A small p says that "
        "these trained networks differ on other samples; whether networks of other seeds would, the ± of the "
        "difference says."
    )


def interval_text(mean: float, std: float, low: float, high: float) -> str:
    """0.896 ± 0.025 [0.85, 0.94]"""
    interval = "" if math.isnan(low) else f" [{low:z.3f}, {high:z.3f}]"
    return f"{plus_minus(mean, std)}{interval}"


def plus_minus(mean: float, std: float, sign: str = "") -> str:
    """0.896 ± 0.025"""
    if math.isnan(mean):
        return "–"
    return f"{mean:{sign}z.3f}" + ("" if math.isnan(std) else f" ± {std:.3f}")


def number(value: float) -> str:
    """Three decimals, or a dash."""
    return "–" if math.isnan(value) else f"{value:z.3f}"


def p_text(value: float) -> str:
    """A p value; very small ones by their bound."""
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_is(value: float) -> str:
    """The same in a sentence: p = 0.012"""
    return f"p {p_text(value)}" if value < 0.001 else f"p = {p_text(value)}"


def _share(percent: float | None) -> str:
    return "–" if percent is None else f"{percent / 100:.3f}"


def _paper(settings: Mapping[str, Numbers]) -> str:
    lines = [" / ".join(map(_share, numbers)) + (f" ({name})" if name else "") for name, numbers in settings.items()]
    return "<br>".join(lines) or "–"
