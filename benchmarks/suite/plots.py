"""Pictures of the rows: time and memory over lengths, how many times faster, how far from the floor."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.suite.report import TERMS, Row, by, point_name, sizes_of

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers besides, for print without colour. Of
# gdkit's backends those are drawn that "auto" does not hide; the CSV has all.
STYLES = {
    "bmm, built mask": ("#777777", "o"),
    "nn.MultiheadAttention": ("#E69F00", "s"),
    "SDPA": ("#CC79A7", "^"),
    "SDPA, width padded": ("#D55E00", "v"),
    "FlexAttention": ("#56B4E9", "D"),
    "CUDA C++": ("#000000", "P"),
    "gdkit chunked": ("#009E73", "X"),
    "gdkit auto": ("#0072B2", "*"),
}
OURS, RIVAL = "#0072B2", "#D55E00"
WHOLES = ("loader and step", "import torch")  # of which the data case takes parts
TERM_MARKERS = {"flops": "s", "exponentials": "o", "bytes": "^"}


def draw(rows: list[Row], folder: Path, name: str) -> None:
    """Everything that the rows have something for, as performance_<name>_<picture>.png."""
    timed = [row for row in rows if row["seconds"] is not None]
    # On a GPU there are lengths at every width; the published heads' is drawn.
    drawn = [row for row in timed if "at width" not in row["sweep"] or "at width 5," in row["sweep"]]
    full = [row for row in drawn if row["mode"] == "full"]
    pictures = {
        "length": ([row for row in full if row["case"] == "attention" and "length" in row["sweep"]], over_length),
        # Where gdkit itself is the baseline, there is nothing to hold it against.
        "faster": ([r for r in full if r["times_faster"] is not None and is_rival(r["baseline"])], faster),
        "floor": ([row for row in full if row["floor_percent"] is not None], floor_share),
    }
    for picture, (chosen, how) in pictures.items():
        if chosen:
            figure = how(chosen)
            figure.savefig(folder / f"performance_{name}_{picture}.png", dpi=120)
            plt.close(figure)


def is_rival(provider: str) -> bool:
    """Whether a baseline is another way to the same, and not gdkit itself or a part of what gdkit does."""
    return not is_ours(provider) and provider not in WHOLES


def style_of(provider: str) -> tuple[str, str] | None:
    """Colour and marker in every picture; None: not drawn."""
    return STYLES.get(provider.partition(" to ")[0]) or STYLES.get(provider)


def scores_of(row: Row) -> float:
    """Scores of all heads and samples, hidden ones too."""
    sizes = sizes_of(row)
    return float(sizes["batch"]) * float(sizes["heads"]) * float(sizes["queries"]) * float(sizes["keys"])


def over_length(rows: list[Row]) -> plt.Figure:
    """Forward with backward, time above and memory below, a score: lines that only grow with the work are level."""
    sweeps = by(rows, "sweep")
    figure, panels = plt.subplots(
        2, len(sweeps), figsize=(5.2 * len(sweeps) + 0.6, 8.4), squeeze=False, sharex="col", sharey="row"
    )
    for (sweep, of), (above, below) in zip(sweeps.items(), panels.T):
        places = [*by(of, "x")]
        for provider, of_provider in by(of, "provider").items():
            style = style_of(provider)
            if style is None:
                continue
            at = [places.index(row["x"]) for row in of_provider]
            options = {"color": style[0], "marker": style[1], "label": provider, "zorder": 3}
            options |= {"linewidth": 2.4, "markersize": 9} if provider == "gdkit auto" else {"linewidth": 1.3}
            above.plot(at, [1e9 * row["seconds"] / scores_of(row) for row in of_provider], **options)
            below.plot(at, [(row["memory_bytes"] or math.nan) / scores_of(row) for row in of_provider], **options)
        first = [of_x[0] for of_x in by(of, "x").values()]
        floors = [1e9 * row["floor_seconds"] / scores_of(row) for row in first]
        above.plot(range(len(places)), floors, "k--", linewidth=1, label="floor")
        above.set_title(sweep.partition(", ")[2] or sweep)
        below.set_xticks(range(len(places)), places, rotation=35)
        below.set_xlabel("steps (queries x keys)")
        for axes in (above, below):
            axes.set_yscale("log")
            axes.grid(alpha=0.3)
            plain_ticks(axes.yaxis)
    panels[0][0].set_ylabel("forward and backward, ns a score")
    panels[1][0].set_ylabel("peak memory, bytes a score")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.set_layout_engine("constrained")
    return figure


def plain_ticks(axis) -> None:
    """0.5, 1, 2, 5, 10 rather than powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def label_of(row: Row) -> str:
    """A point in few words."""
    what, _, conditions = row["sweep"].partition(", ")
    if row["case"] == "attention" and row["sweep"].startswith(("length", "width")):
        return f"{what.split()[0]} {row['x']}" + (f"; {conditions}" if conditions else "")
    name = point_name(row)
    if row["case"] == "attention":
        return f"length {what.split()[0]}; {name.partition(' (')[0]}"
    return row["sweep"] if name == "-" else f"{row['sweep']}: {name}"


def is_ours(provider: str) -> bool:
    """gdkit, or the example built on it."""
    return provider.startswith(("gdkit", "examples"))


def ours_and_rival(of: list[Row]) -> tuple[Row | None, Row | None]:
    """gdkit as it comes, and the fastest of what it does not have."""
    mine = {row["provider"]: row for row in of if is_ours(row["provider"])}
    others = [row for row in of if row["provider"] not in mine and row["provider"] != "CUDA C++"]
    own = next((mine[name] for name in ("gdkit auto", "gdkit", "examples/dmd") if name in mine), None)
    return own, min(others, key=lambda row: row["seconds"], default=None)


def panels_of(rows: list[Row], width: float = 9.5) -> tuple[plt.Figure, list[tuple[Axes, str, list[list[Row]]]]]:
    """A panel a case, with a line a point."""
    cases = {case: [*by(of, "point").values()] for case, of in by(with_point(rows), "case").items()}
    lines = [len(points) for points in cases.values()]
    height = 0.27 * sum(lines) + 0.75 * len(cases) + 0.6
    figure, axes = plt.subplots(
        len(cases), 1, figsize=(width, height), squeeze=False, height_ratios=[n + 0.6 for n in lines]
    )
    figure.set_layout_engine("constrained")
    for each, points in zip(axes[:, 0], cases.values()):
        each.set_yticks(range(len(points)), [label_of(of[0]) for of in points], fontsize=8)
        each.set_ylim(len(points) - 0.4, -0.6)
        each.set_xscale("log")
        each.grid(axis="x", alpha=0.3)
        each.tick_params(axis="x", labelsize=8)
    return figure, [(each, case, points) for each, (case, points) in zip(axes[:, 0], cases.items())]


def with_point(rows: list[Row]) -> list[Row]:
    """Rows with what tells points apart."""
    return [{**row, "point": (row["sweep"], row["sizes"])} for row in rows]


def faster(rows: list[Row]) -> plt.Figure:
    """gdkit beside each case's baseline, with the 20 and 80 % quantiles, and where the fastest rival stands."""
    figure, panels = panels_of(rows)
    for axes, case, points in panels:
        values: list[float] = [1.0]
        for place, of in enumerate(points):
            own, rival = ours_and_rival(of)
            if own is not None:
                value = own["times_faster"]
                around = [[value - own["times_faster_20"]], [own["times_faster_80"] - value]]
                axes.barh(place, value - 1, left=1, height=0.62, color=OURS, alpha=0.85)
                axes.errorbar(value, place, xerr=around, color="black", linewidth=1, capsize=2)
                axes.text(1.01, place, f"{value:.2g}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
                values += [value, own["times_faster_20"], own["times_faster_80"]]
            if rival is not None and rival["provider"] != rival["baseline"]:
                axes.plot(rival["times_faster"], place, "D", color=RIVAL, markerfacecolor="white", markersize=6)
                values.append(rival["times_faster"])
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xlim(min(0.7, min(values) / 1.25), max(2.0, max(values) * 1.25))
        plain_ticks(axes.xaxis)
        baselines = " or ".join(dict.fromkeys(of[0]["baseline"] for of in points))
        axes.set_title(f"{case}: times as fast as {baselines}", fontsize=10, loc="left")
    handles = [plt.Rectangle((0, 0), 1, 1, color=OURS), plt.Line2D([], [], **hollow("D"))]
    figure.legend(handles, ["gdkit", "fastest rival but that one"], loc="outside lower center", ncols=2, frameon=False)
    return figure


def hollow(marker: str) -> dict[str, object]:
    """How a rival is marked."""
    return {"marker": marker, "linestyle": "none", "color": RIVAL, "markerfacecolor": "white"}


def floor_share(rows: list[Row]) -> plt.Figure:
    """How much of a call is the least that its arithmetic, exponentials or memory traffic take on this machine."""
    figure, panels = panels_of(rows)
    chosen = [row for _, _, points in panels for of in points for row in ours_and_rival(of) if row is not None]
    lowest = min(row["floor_percent"] for row in chosen)
    for axes, case, points in panels:
        for place, of in enumerate(points):
            own, rival = ours_and_rival(of)
            marker = TERM_MARKERS[of[0]["floor_term"]]
            if rival is not None:
                axes.plot(rival["floor_percent"], place, markersize=9, **hollow(marker))
            if own is not None:
                axes.plot(own["floor_percent"], place, marker, color=OURS, markersize=6)
        axes.set_xlim(lowest / 1.5, 150)
        axes.axvline(100, color="black", linewidth=1)
        plain_ticks(axes.xaxis)
        axes.set_title(f"{case}: floor over measured time, %", fontsize=10, loc="left")
    handles = [plt.Line2D([], [], marker=m, linestyle="none", color=OURS) for m in TERM_MARKERS.values()]
    labels = [f"gdkit, floor: {TERMS[term]}" for term in TERM_MARKERS]
    handles.append(plt.Line2D([], [], **hollow("o")))
    figure.legend(handles, [*labels, "fastest rival"], loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
