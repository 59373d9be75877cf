"""Where does a training step of the published network go, operator by operator: in its program, and here?

Profiles one step of each (forward, losses, backward, clipping; batch 16, MOSI's sizes, one thread of a CPU) in one
process, with PyTorch's profiler. Writes step_profile.csv (one row an operator), step_profile.md and a picture. From the
repository's root; the published program's unaligned step takes half a minute and 8 GB, and profiling it some more:

    git clone https://github.com/mdswyz/DMD published
    python benchmarks/step_profile.py --published published
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from torch.profiler import ProfilerActivity, profile

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# In place of this folder, whose `cuda` would hide a package of that name from PyTorch.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.suite.cases.step import (
    OURS,
    PUBLISHED,
    draw,
    our_providers,
    published_provider,
    released_config,
    released_task,
)
from benchmarks.suite.facts import facts
from benchmarks.suite.point import Call, Settings, Skipped

# The first group whose word is in an operator's name takes it. Colours are Okabe and Ito's.
GROUPS = {
    "views, allocation, autograd": (
        (
            *(
                "evaluate_function",
                "Backward0",
                "Accumulate",
                "empty",
                "resize",
                "alias",
                "reshape",
                "permute",
                "detach",
            ),
            *(
                "unsqueeze",
                "slice",
                "select",
                "view",
                "as_strided",
                "transpose",
                "expand",
                "narrow",
                "split",
                "aten::t$",
            ),
        ),
        "#999999",
    ),
    "matrix products": (("mm", "conv", "dot", "linear", "matmul"), "#0072B2"),
    "softmax, fused attention": (("softmax", "scaled_dot"), "#009E73"),
    # The chunks of attention draw theirs outside of operators.
    "random numbers": (("bernoulli", "rand", "dropout", "_ChunkedAttention"), "#E69F00"),
    "normalisation": (("norm",), "#CC79A7"),
    "copies, indexing": (
        ("copy", "cat", "stack", "clone", "fill", "zero", "pad", "contiguous", "index", "gather", "scatter", "nonzero"),
        "#56B4E9",
    ),
    "reductions": (("sum", "mean", "sort", "max"), "#D55E00"),
    "element by element, rest": (("",), "#F0E442"),
}


class Operator(NamedTuple):
    """Time that an operator itself took, without those that it calls."""

    setting: str
    program: str
    group: str
    name: str
    calls: int
    milliseconds: float


def group_of(name: str) -> str:
    """The group of an operator."""
    return next(group for group, (words, _) in GROUPS.items() if any(word in f"{name}$" for word in words))


def operators(setting: str, program: str, step: Call) -> list[Operator]:
    """What one step is made of, the longest first; a first one is not counted."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    rows = [
        Operator(setting, program, group_of(event.key), event.key, event.count, event.self_cpu_time_total / 1e3)
        for event in found.key_averages()
    ]
    return sorted(rows, key=lambda row: -row.milliseconds)


def by_group(rows: Sequence[Operator], setting: str, program: str) -> dict[str, float]:
    """Milliseconds of every group."""
    chosen = [row for row in rows if (row.setting, row.program) == (setting, program)]
    return {group: sum(row.milliseconds for row in chosen if row.group == group) for group in GROUPS}


def markdown(rows: Sequence[Operator]) -> str:
    """One table of groups, one column a program and setting."""
    places = list(dict.fromkeys((row.setting, row.program) for row in rows))
    tables = [by_group(rows, *place) for place in places]
    lines = ["| ms | " + " | ".join(f"{setting}, {program}" for setting, program in places) + " |"]
    lines += ["|" + "---|" * (len(places) + 1)]
    for group in GROUPS:
        lines.append(f"| {group} | " + " | ".join(f"{table[group]:.3g}" for table in tables) + " |")
    lines.append("| all | " + " | ".join(f"{sum(table.values()):.4g}" for table in tables) + " |")
    calls = [sum(row.calls for row in rows if (row.setting, row.program) == place) for place in places]
    lines.append("| calls of operators, views too | " + " | ".join(f"{count:,}" for count in calls) + " |")
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Operator], path: Path) -> None:
    """One panel a setting, one bar a program."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    figure, panels = plt.subplots(len(settings), 1, figsize=(9, 1.9 * len(settings)), layout="constrained")
    for panel, setting in zip([panels] if len(settings) == 1 else panels, settings, strict=True):
        programs = list(dict.fromkeys(row.program for row in rows if row.setting == setting))
        left = [0.0] * len(programs)
        for group, (_, colour) in GROUPS.items():
            widths = [by_group(rows, setting, program)[group] / 1e3 for program in programs]
            panel.barh(programs, widths, left=left, color=colour, label=group, edgecolor="white", linewidth=0.5)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for place, total in enumerate(left):
            panel.text(total, place, f" {total:.2f} s", va="center")
        panel.set_title(f"{setting}: seconds of a step by operator", loc="left")
        panel.set_xlim(0, 1.1 * max(left))
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Parse, profile, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="folder of a clone of the published program (github mdswyz/DMD)")
    parser.add_argument("--setting", nargs="+", choices=("aligned", "unaligned"), default=["aligned", "unaligned"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the CSV and the table")
    parser.add_argument("--images", type=Path, default=Path("docs/images/performance"), help="folder of the picture")
    arguments = parser.parse_args()
    for folder in (arguments.out, arguments.images):
        if not folder.is_dir():
            parser.error(f"no folder {folder}")
    torch.set_num_threads(1)
    settings = Settings("cpu", arguments.quick, arguments.published, False, None)
    rows: list[Operator] = []
    for setting in ["quick"] if arguments.quick else arguments.setting:
        config = released_config("mosi", setting)
        batch = draw(config.steps, config.input_dims, 4 if arguments.quick else 16, "cpu")
        ours = our_providers(lambda config=config: released_task(config), batch, settings)[OURS]
        for program, provider in ((PUBLISHED, published_provider(config, batch, settings)), (OURS, ours)):
            try:
                rows += operators(setting, program, provider("full"))
            except Skipped as reason:
                print(f"{program}: {reason}", file=sys.stderr)
    where = facts("cpu")
    with (arguments.out / "step_profile.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*Operator._fields, *where])
        writer.writerows([*row[:-1], f"{row.milliseconds:.3f}", *where.values()] for row in rows)
    table = markdown(rows)
    (arguments.out / "step_profile.md").write_text(table, encoding="utf-8")
    picture(rows, arguments.images / "step_profile.png")
    print(table)


if __name__ == "__main__":
    main()
