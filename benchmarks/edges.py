"""Who teaches whom, and does it help? Scorers, normalisations, qualities, sharpness, detached weights and warm-up.

Two data sets, labels few and plenty; every row of a study has the same labels, the same batches and the same total
weight. Writes edges.csv (a line a row and seed), edges.md (accuracy and gain with 95 % intervals over seeds, and rho,
Spearman's correlation of what a node gives out with its reliability) and two pictures. From the repository's root:

    python benchmarks/edges.py                 # ten seeds, about half an hour on one core
    python benchmarks/edges.py --resume        # the same, but rows that edges.csv has already are kept
    python benchmarks/edges.py --quick         # two seeds of two steps, to see that it runs
    python benchmarks/edges.py --draw          # tables and pictures again, from edges.csv
"""

import argparse
import csv
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.edges_study.data import studies
from benchmarks.edges_study.report import COLUMNS, gain_picture, markdown, read, summary, weight_picture
from benchmarks.edges_study.rows import rows_of
from benchmarks.edges_study.training import train


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Rank correlation of two lists of distinct numbers; of equal numbers only, 0."""
    if first.max() - first.min() < 1e-6:
        return 0.0
    ranks = [x.argsort().argsort().double() for x in (first, second)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def lines_by_row(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    """What a file has already, by study and row."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            found.setdefault((line["study"], line["row"]), []).append(line)
    return found


def write(path: Path, lines: list[dict[str, str]]) -> None:
    """Replace the file by these lines at once: whenever the run is stopped, it is whole."""
    parts = [f"{name}_{i + 1}" for name in ("accuracy", "out_weight") for i in range(6)]
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "seed", "nodes", "rho", *parts], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    os.replace(beside, path)


def run(path: Path, seeds: list[int], quick: bool, kept: dict[tuple[str, str], list[dict[str, str]]]) -> None:
    """Train every row that is not kept, and write all lines there are after each; rows of other seeds are not kept."""
    wanted = [str(seed) for seed in seeds]
    kept = {key: lines for key, lines in kept.items() if [line["seed"] for line in lines] == wanted}
    done: list[dict[str, str]] = []
    for study in studies(seeds, quick):
        alone = None
        for row in rows_of(study.name):
            lines = kept.pop((study.name, row.name), [])
            done += lines
            if lines:
                columns = [f"accuracy_{i + 1}" for i in range(len(study.test.inputs))]
                values = torch.tensor([[float(line[column]) for column in columns] for line in lines])
                alone = values if alone is None else alone
                continue
            start = time.perf_counter()
            accuracy, taught = train(study, row, seeds)
            alone = accuracy if alone is None else alone
            fields = {**row._asdict(), "study": study.name, "row": row.name, "scorer": row.scorer or "none"}
            fields["sharpness"] = "" if row.scorer != "agreement" and row.quality == "none" else row.sharpness
            fields["weight"] = row.weight * study.total_weight
            fields["drawn"] = row.drawn or (study.drawn if "100 labels" in study.name else 0)
            for s, seed in enumerate(seeds):
                reliability = alone[s] if study.reliability is None else torch.tensor(study.reliability)
                rho = "" if row.weight == 0 else f"{spearman(taught[s], reliability):.4f}"
                numbers = {f"accuracy_{i + 1}": f"{value:.4f}" for i, value in enumerate(accuracy[s].tolist())}
                numbers |= {f"out_weight_{i + 1}": f"{value:.4f}" for i, value in enumerate(taught[s].tolist())}
                line = {name: str(fields[name]) for name in COLUMNS} | numbers
                done.append(line | {"seed": str(seed), "nodes": " ".join(study.test.inputs), "rho": rho})
            write(path, done + [line for lines in kept.values() for line in lines])
            mean = " ".join(f"{value:.3f}" for value in accuracy.mean(0).tolist())
            print(f"{study.name} | {row.name} | {mean} | {time.perf_counter() - start:.0f} s", flush=True)
    write(path, done)


def main() -> None:
    """Parse, call, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of edges.csv and edges.md")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder of the pictures")
    parser.add_argument("--quick", action="store_true", help="two seeds of two steps")
    parser.add_argument("--resume", action="store_true", help="train only the rows that edges.csv does not have")
    parser.add_argument("--draw", action="store_true", help="train nothing: read edges.csv")
    arguments = parser.parse_args()
    for folder in (arguments.out, arguments.images):
        if not folder.is_dir():
            parser.error(f"no folder {folder}")
    path = arguments.out / "edges.csv"
    if (arguments.draw or arguments.resume) and not path.is_file():
        parser.error(f"--draw and --resume read {path}, which is not there")
    torch.set_num_threads(1)  # the matrices are small, and so the figures are the same on any number of cores
    if not arguments.draw:
        seeds = arguments.seeds[:2] if arguments.quick else arguments.seeds
        run(path, seeds, arguments.quick, lines_by_row(path) if arguments.resume else {})
    found = summary(read(path))
    (arguments.out / "edges.md").write_text(markdown(found), encoding="utf-8")
    gain_picture(found, arguments.images / "edges_gain.png")
    weight_picture(found, arguments.images / "edges_weight.png")


if __name__ == "__main__":
    main()
