"""What does gdkit cost beside the alternatives, and how far is it from what the machine could do?

Attention, crossmodal transformers, the margin loss, GD-Units, DMD's training step and its loader, each beside rivals
that compute the same: time, memory, operations, waits for the device, and the floor that counts and measured rates
give. Writes performance_<device>.csv and .md, and pictures; docs/performance.md says how it measures. From the
repository's root:

    python benchmarks/run.py                                    # everything, on one thread: half an hour
    python benchmarks/run.py --only triplet,step --published DIR  # two cases; rows of the others are kept
    python benchmarks/run.py --quick                            # tiny sizes, to see that it runs
    python benchmarks/run.py --draw                             # table and pictures again, from the CSV
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

# In place of this folder, whose `cuda` would hide a package of that name from PyTorch.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.suite.cases import attention, crossmodal, data, gd_unit, step, triplet
from benchmarks.suite.facts import ROOT, facts, slug
from benchmarks.suite.floors import measure_rates
from benchmarks.suite.measure import Effort, measure_point
from benchmarks.suite.plots import draw
from benchmarks.suite.point import Point, Settings
from benchmarks.suite.report import markdown, read, write

CASES: dict[str, Callable[[Settings], Iterator[Point]]] = {
    "attention": attention.points,
    "triplet": triplet.points,
    "gd_unit": gd_unit.points,
    "crossmodal": crossmodal.points,
    "step": step.points,
    "data": data.points,
}


DATA = ROOT.parent / "shared" / "data"  # where it exists


def run(settings: Settings, cases: list[str], effort: Effort, path: Path) -> None:
    """Measure the cases, and write all rows after each point; rows that the file has of other cases are kept."""
    kept = [row for row in read(path) if row["case"] not in cases]
    rates = measure_rates(settings.device, settings.quick)
    common = facts(settings.device) | {f"rate_{name}": rate for name, rate in rates._asdict().items()}
    rows: dict[str, list[dict]] = {case: [row for row in kept if row["case"] == case] for case in CASES}
    for case in cases:
        for point in CASES[case](settings):
            started = time.perf_counter()
            rows[case] += [row | common for row in measure_point(case, point, settings.device, rates, effort)]
            write(path, [row for of_case in rows.values() for row in of_case])
            print(f"{case} | {point.sweep} | {point.x} | {time.perf_counter() - started:.1f} s", flush=True)


def data_folder(arguments: argparse.Namespace) -> Path | None:
    """Where feature files lie; none in a trial, which is to be short."""
    return arguments.data_folder if not arguments.quick and arguments.data_folder.is_dir() else None


def main() -> None:
    """Parse, measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases with commas between; by default all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds that a point's rounds in a mode may take")
    parser.add_argument("--published", type=Path, help="folder of a clone of the published program (github mdswyz/DMD)")
    parser.add_argument(
        "--data-folder", type=Path, default=DATA, help="folder of feature files to measure the loader on"
    )
    parser.add_argument("--compile", action="store_true", help="also compiled training steps: three minutes for each")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and two rounds on a CPU, into a new folder")
    parser.add_argument("--draw", action="store_true", help="measure nothing: read the CSV")
    parser.add_argument("--out", type=Path, help="folder of the CSV and the table; by default benchmarks/results")
    parser.add_argument("--images", type=Path, help="folder of the pictures; by default docs/images/performance")
    arguments = parser.parse_args()
    cases = arguments.only.split(",")
    if unknown := [case for case in cases if case not in CASES]:
        parser.error(f"--only names {', '.join(unknown)}; there are {', '.join(CASES)}")
    is_trial = arguments.quick and not (arguments.out and arguments.images)
    trial = Path(tempfile.mkdtemp(prefix="performance-")) if is_trial else None
    arguments.out = arguments.out or trial or Path("benchmarks/results")
    arguments.images = arguments.images or trial or Path("docs/images/performance")
    given = [arguments.data_folder] if arguments.data_folder != DATA else []
    for folder in (arguments.out, arguments.images, *given):
        if not folder.is_dir():
            parser.error(f"no folder {folder}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but PyTorch finds no CUDA device here")
    if arguments.quick and arguments.device == "cuda":
        parser.error("--quick is for a CPU")
    torch.set_num_threads(arguments.threads)
    name = slug(arguments.device) + ("-quick" if arguments.quick else "")  # a trial must not replace real figures
    path = arguments.out / f"performance_{name}.csv"
    if arguments.draw and not path.is_file():
        parser.error(f"--draw reads {path}, which is not there")
    if not arguments.draw:
        effort = Effort(2, 2) if arguments.quick else Effort(budget=arguments.budget)
        settings = Settings(
            arguments.device, arguments.quick, arguments.published, arguments.compile, data_folder(arguments)
        )
        run(settings, cases, effort, path)
    rows = read(path)
    path.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")
    draw(rows, arguments.images, name)
    print(f"wrote {path}, the same as .md, and pictures in {arguments.images}")


if __name__ == "__main__":
    main()
