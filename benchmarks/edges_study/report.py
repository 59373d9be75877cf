"""What is made of the lines of edges.csv: gains paired by seed, their intervals, a Markdown table, pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

COLUMNS = (
    "study",
    "row",
    "scorer",
    "normalize",
    "quality",
    "sharpness",
    "detach_weights",
    "warm_up",
    "late",
    "weight",
    "drawn",
)
COLORS = ("#1b6ca8", "#4fa3d1", "#8c6bb1", "#e0a030", "#c44e52", "#777777")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of edges.csv; accuracies and weights as lists, a number a node."""
    with path.open(newline="", encoding="utf-8") as file:
        lines: list[dict[str, Any]] = list(csv.DictReader(file))
    for line in lines:
        line["nodes"] = line["nodes"].split()
        for column in ("accuracy", "out_weight"):
            line[column] = [float(line[f"{column}_{i + 1}"]) for i in range(len(line["nodes"]))]
    return lines


def interval(values: np.ndarray) -> np.ndarray:
    """Half the width of the 95 % interval of the mean over the first axis (Student's t)."""
    n = len(values)
    if n < 2:
        return np.zeros(values.shape[1:])
    return stats.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / np.sqrt(n)


def summary(lines: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By study and row: mean accuracy, gain against "alone" of the same seed, their intervals, weight shares, rho."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for study in dict.fromkeys(line["study"] for line in lines):
        of_study = [line for line in lines if line["study"] == study]
        alone = {line["seed"]: np.array(line["accuracy"]) for line in of_study if line["row"] == "alone"}
        found[study] = {}
        for row in dict.fromkeys(line["row"] for line in of_study):
            of_row = [line for line in of_study if line["row"] == row]
            accuracy = np.array([line["accuracy"] for line in of_row])  # (seed, node)
            gain = accuracy - np.array([alone[line["seed"]] for line in of_row])
            accuracy, gain = (np.hstack([x, x.mean(1, keepdims=True)]) for x in (accuracy, gain))  # (seed, node + 1)
            found[study][row] = {
                "nodes": of_row[0]["nodes"],
                "seeds": len(of_row),
                "accuracy": (accuracy.mean(0), interval(accuracy)),
                "gain": (gain.mean(0), interval(gain)),
                "out_weight": np.mean([line["out_weight"] for line in of_row], axis=0),
                "rho": None if row == "alone" else np.mean([float(line["rho"]) for line in of_row]),
            }
    return found


def markdown(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """One table a study: rho, accuracy of each node with its interval, and the gain of the mean, paired by seed."""
    text: list[str] = []
    for study, rows in found.items():
        first = next(iter(rows.values()))
        head = ["row", "rho", *first["nodes"], "mean", "gain of the mean, points", "worst node, points"]
        text += [f"### {study}, {first['seeds']} seeds", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for name, row in rows.items():
            (mean, half), (gain, gain_half) = row["accuracy"], row["gain"]
            cells = [name, "" if row["rho"] is None else f"{row['rho']:+.2f}"]
            cells += [f"{m:.3f} ± {h:.3f}" for m, h in zip(mean, half)]
            plain = row["rho"] is None
            cells += ["" if plain else f"{100 * gain[-1]:+.1f} ± {100 * gain_half[-1]:.1f}"]
            cells += ["" if plain else f"{100 * gain[:-1].min():+.1f} ({row['nodes'][int(gain[:-1].argmin())]})"]
            text.append("| " + " | ".join(cells) + " |")
        text.append("")
    return "\n".join(text)


def rows_drawn(rows: dict[str, dict[str, Any]], most: int = 30) -> list[str]:
    """All rows but "alone", from the top of a picture to its bottom."""
    return [name for name in rows if name != "alone"][:most][::-1]


def gain_picture(found: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """The gain of every node in every row where labels are few, a panel a data set."""
    few = {study: rows for study, rows in found.items() if "100 labels" in study}
    figure = Figure(figsize=(13, 0.32 * max(len(rows) for rows in few.values()) + 1.8), layout="constrained")
    for ax, (study, rows) in zip(figure.subplots(1, len(few), squeeze=False)[0], few.items(), strict=True):
        names = rows_drawn(rows, 99)
        for n, node in enumerate(next(iter(rows.values()))["nodes"]):
            mean, half = (np.array([100 * rows[name]["gain"][i][n] for name in names]) for i in (0, 1))
            y = np.arange(len(names)) + 0.09 * (2 - n)
            ax.errorbar(mean, y, xerr=half, fmt="o", ms=4, lw=1, color=COLORS[n], label=node)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.7, len(names) - 0.3)
        ax.grid(axis="y", alpha=0.2)
        ax.set_xlabel("gain against no distillation, points")
        ax.set_title(study)
        ax.legend(title="node", fontsize=8, loc="lower left")
    figure.savefig(path, dpi=80)


def weight_picture(found: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """How the weight is shared between the teachers, where reliability was planted and labels are few."""
    rows = found["planted, 100 labels"]
    names, left = rows_drawn(rows, 99), 0.0
    figure = Figure(figsize=(9, 0.27 * len(names) + 1.4), layout="constrained")
    ax = figure.subplots()
    for n, node in enumerate(next(iter(rows.values()))["nodes"]):
        share = np.array([rows[name]["out_weight"][n] for name in names])
        ax.barh(range(len(names)), share, left=left, color=COLORS[n], label=node)
        left = left + share
    for y, name in enumerate(names):
        ax.text(1.01, y, f"{rows[name]['rho']:+.2f}", va="center", fontsize=8)
    ax.text(1.01, len(names) - 0.2, "rho", fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of the weight that a node gives out; node: scale of its signal")
    ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(path, dpi=80)
