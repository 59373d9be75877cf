"""What is left of a trained model when modalities are missing: the table and the picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import nn
from tqdm import tqdm

from .data import Recordings, make_loader
from .evaluation import evaluate
from .metrics import NAMES, SELECTION
from .missing import FORMULAS, missing_cases, num_cases
from .pictures import COLORS
from .report import write_text
from .spread import mean_std

CASE = ("protocol", "kept", "rate", "seed")  # what tells one row from another

Rows = Sequence[Mapping[str, Any]]


def judge_missing(
    module: nn.Module,
    recordings: Recordings,
    split: str,
    accelerator: Accelerator,
    *,
    rates: Sequence[float],
    seed: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    """Every protocol's rows on one split: protocol, kept, rate, seed, formula, empty, n, and the metrics."""
    samples = recordings.splits[split]
    total = num_cases(len(samples.inputs), rates)
    hidden = None if accelerator.is_main_process else True
    rows: list[dict[str, Any]] = []
    for case in tqdm(missing_cases(samples, rates, seed), "missing", total, leave=False, disable=hidden):
        changed = replace(recordings, splits=recordings.splits | {split: case.split})
        # Not by the accelerator, which would keep every loader, and so every case's copy of the data.
        loader = prepare_data_loader(make_loader(case.split, batch_size), accelerator.device)
        judged = evaluate(module, loader, changed, split, accelerator)
        rows.append(case.row() | judged["metrics"])
    return rows


def write_missing(path: Path, runs: Mapping[int, Rows], suite: str) -> str:
    """Write `path` as .csv (one line a run and case), .md (mean and deviation over the runs) and .png.

    Args:
        path: of any suffix.
        runs: seed of the training run -> its rows.
        suite: of the metrics.

    Returns:
        The Markdown table.
    """
    columns = ["run_seed", *CASE, "n", "empty", *NAMES[suite], "formula"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"run_seed": seed} | row for seed, rows in runs.items() for row in rows)
    write_text(path.with_suffix(".csv"), text.getvalue())
    table = missing_table(runs, suite)
    write_text(path.with_suffix(".md"), table + "\n")
    draw_missing(path.with_suffix(".png"), runs, suite)
    return table


def missing_table(runs: Mapping[int, Rows], suite: str) -> str:
    """One line a case; with several runs, mean ± standard deviation (n - 1) of what is defined."""
    lines = [
        f"| {' | '.join([*CASE, 'n', 'empty', *NAMES[suite]])} |",
        "|" + "---|" * (len(CASE) + 2 + len(NAMES[suite])),
    ]
    for rows in zip(*runs.values(), strict=True):
        cells = [*(rows[0][name] for name in CASE), rows[0]["n"], rows[0]["empty"]]
        cells = ["—" if cell is None else str(cell) for cell in cells]
        lines.append(f"| {' | '.join([*cells, *(_cell(*_spread(rows, name)) for name in NAMES[suite])])} |")
    seeds = ", ".join(map(str, runs))
    notes = [f"- `{protocol}`: {formula}." for protocol, formula in FORMULAS.items()]
    over = f"Mean ± standard deviation over the runs of seeds {seeds}" if len(runs) > 1 else f"The run of seed {seeds}"
    notes.append(f"- {over}. All n labelled samples count, also the `empty` ones, which have no modality left.")
    return "\n".join([*lines, "", *notes])


def draw_missing(path: Path, runs: Mapping[int, Rows], suite: str) -> None:
    """Bars for what is kept whole, and a line over the rate for each of the other protocols."""
    from matplotlib.figure import Figure

    metric, direction = SELECTION[suite]
    cases = [(rows[0], *_spread(rows, metric)) for rows in zip(*runs.values(), strict=True)]
    whole = [case for case in cases if case[0]["protocol"] == "whole"]
    full = whole[-1]  # the subset of all
    better = f"{metric} ({'lower' if direction == 'min' else 'higher'} is better)"
    figure = Figure(figsize=(11.5, max(3.6, 1.2 + 0.3 * len(whole))), layout="constrained")
    bars, lines = figure.subplots(1, 2, width_ratios=(1.25, 1))
    labels = [row["kept"] for row, _, _ in whole]
    colors = [COLORS[0] if row is full[0] else "#9db8cc" for row, _, _ in whole]
    values = [mean for _, mean, _ in whole]
    errors = [0.0 if math.isnan(std) else std for _, _, std in whole]
    drawn = bars.barh(range(len(whole)), values, xerr=errors if any(errors) else None, color=colors, ecolor="#444444")
    bars.bar_label(drawn, [_cell(mean, std) for _, mean, std in whole], padding=4, fontsize=9)
    bars.set_yticks(range(len(whole)), labels, fontsize=9)
    bars.axvline(full[1], color=COLORS[0], linewidth=0.8, linestyle="--", zorder=0)
    bars.margins(x=0.3 if len(runs) > 1 else 0.12, y=0.3 / len(whole))
    bars.set_xlim(left=min(0.0, *values))
    bars.set(title="whole modalities are missing; kept:", xlabel=better)
    for protocol, label, color, marker in (
        ("steps", "steps of every modality", COLORS[1], "o"),
        ("random", "modalities of a sample, one kept", COLORS[2], "s"),
    ):
        points = sorted((row["rate"], mean, std) for row, mean, std in cases if row["protocol"] == protocol)
        rates, means, spreads = np.array([(0.0, *full[1:]), *points]).T
        spreads = np.nan_to_num(spreads) if len(runs) > 1 else None
        lines.errorbar(rates, means, spreads, color=color, marker=marker, capsize=3, label=label)
    lines.grid(alpha=0.25)
    lines.legend(frameon=False)
    lines.set(title=f"dropped by chance, seed {cases[-1][0]['seed']}", xlabel="rate of dropping", ylabel=better)
    over = f", mean ± std over {len(runs)} runs" if len(runs) > 1 else ""
    if len(whole) > 15:  # many bars need height, two lines do not
        lines.set(box_aspect=1, anchor="N")
    figure.suptitle(f"Missing modalities, n = {full[0]['n']}{over}", fontsize=12)
    figure.savefig(path, dpi=130)


def _spread(rows: Rows, metric: str) -> tuple[float, float]:
    return mean_std([row[metric] for row in rows])


def _cell(mean: float, std: float) -> str:
    if math.isnan(mean):
        return "—"
    return f"{mean:z.3f}" if math.isnan(std) else f"{mean:z.3f} ± {std:.3f}"
