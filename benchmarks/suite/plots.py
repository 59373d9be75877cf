"""Pictures of the rows: time and memory over length, how many times faster, how far from the floor."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.suite.report import Row, by, point_name

# Okabe and Ito's palette, which colour-blind readers can tell apart; markers besides, for print without colour.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442")
MARKERS = "osD^vPX*"


def draw(rows: list[Row], folder: Path, name: str) -> None:
    """Everything that the rows have something for, as performance_<name>_<picture>.png."""
    timed = [row for row in rows if row["seconds"] is not None]
    lengths = [row for row in timed if row["case"] == "attention" and row["sweep"].startswith("length")]
    pictures = {
        "length": (lengths, over_length),
        "faster": ([row for row in timed if row["mode"] == "full" and row["times_faster"] is not None], faster),
        "floor": ([row for row in lengths if row["mode"] == "full" and row["floor_percent"]], floor_share),
    }
    for picture, (chosen, how) in pictures.items():
        if chosen:
            figure = how(chosen)
            figure.savefig(folder / f"performance_{name}_{picture}.png", dpi=120)
            plt.close(figure)


def lines(axes: Axes, rows: list[Row], column: str, scale: float) -> None:
    """A line a provider over the number of scores of a head, the same colour and marker in every panel."""
    for number, (provider, of) in enumerate(by(rows, "provider").items()):
        points = sorted((scores_of(row), row[column] * scale) for row in of if row[column])
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.plot(*zip(*points), color=colour, marker=marker, markersize=5, linewidth=1.5, label=provider)
    axes.set(xscale="log", yscale="log")
    axes.grid(alpha=0.3)


def scores_of(row: Row) -> float:
    """Scores of one head."""
    sizes = dict(part.split("=", 1) for part in row["sizes"].split(", "))
    return float(sizes["queries"]) * float(sizes["keys"])


def per_sample(rows: list[Row]) -> list[Row]:
    """Time and memory of a sample: on a CPU the batch shrinks with the length."""
    found: list[Row] = []
    for row in rows:
        batch = float(dict(part.split("=", 1) for part in row["sizes"].split(", "))["batch"])
        found.append({**row, "seconds": row["seconds"] / batch, "memory_bytes": row["memory_bytes"] / batch})
    return found


def over_length(rows: list[Row]) -> plt.Figure:
    """Forward with backward: time above, memory below; without and with dropout and band."""
    sweeps = by([row for row in per_sample(rows) if row["mode"] == "full"], "sweep")
    figure, panels = plt.subplots(2, len(sweeps), figsize=(5.5 * len(sweeps), 8), squeeze=False, sharex=True)
    for (sweep, of), (above, below) in zip(sweeps.items(), panels.T):
        lines(above, of, "seconds", 1e3)
        lines(below, of, "memory_bytes", 1e-6)
        above.set_title(sweep.partition(", ")[2])
        above.set_ylabel("ms a sample, forward and backward")
        below.set(ylabel="MB a sample at the peak", xlabel="scores of a head (queries x keys)")
    return with_legend(figure, panels)


def floor_share(rows: list[Row]) -> plt.Figure:
    """How much of a call is the least that its arithmetic, exponentials or memory take on this machine."""
    sweeps = by(rows, "sweep")
    figure, panels = plt.subplots(1, len(sweeps), figsize=(5.5 * len(sweeps), 5), squeeze=False, sharey=True)
    for (sweep, of), axes in zip(sweeps.items(), panels[0]):
        lines(axes, of, "floor_percent", 1.0)
        axes.set(title=sweep.partition(", ")[2], xlabel="scores of a head (queries x keys)")
    panels[0][0].set_ylabel("floor over measured time, %")
    return with_legend(figure, panels)


def with_legend(figure: plt.Figure, panels) -> plt.Figure:
    """One legend for all panels, below them."""
    found = dict(pair[::-1] for axes in panels.flat for pair in zip(*axes.get_legend_handles_labels()))
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    figure.legend(found.values(), found.keys(), loc="lower center", ncols=3, frameon=False)
    return figure


def faster(rows: list[Row]) -> plt.Figure:
    """Our own providers beside each case's baseline, one bar a point."""
    ours = [row for row in rows if row["provider"].startswith("gdkit") and row["provider"] != row["baseline"]]
    ours = [row for row in ours if "reference" not in row["provider"]]
    cases = by(ours, "case")
    if not cases:
        return plt.figure()
    heights = [len(of) for of in cases.values()]
    figure, panels = plt.subplots(
        len(cases), 1, figsize=(9, 1.2 * len(cases) + 0.23 * sum(heights)), squeeze=False, height_ratios=heights
    )
    for (case, of), axes in zip(cases.items(), panels[:, 0]):
        for place, row in enumerate(of):
            colour = COLOURS[1 + list(by(of, "provider")).index(row["provider"]) % 7]
            axes.barh(place, row["times_faster"], color=colour)
            axes.text(row["times_faster"] * 1.05, place, f"{row['times_faster']:.2g}", va="center", fontsize=7)
        labels = [f"{row['sweep']}, {point_name(row)}: {row['provider']}" for row in of]
        axes.set_yticks(range(len(of)), labels, fontsize=7)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", title=f"{case}: times as fast as {of[0]['baseline']}")
        axes.margins(x=0.15)
        axes.invert_yaxis()
    figure.tight_layout()
    return figure
