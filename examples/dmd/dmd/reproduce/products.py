"""What the command leaves behind of a table or figure: NAME.md, NAME.csv and NAME.png."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gdkit import DistillationGraph

from ..config import RunConfig
from ..data import Recordings
from ..report import write_text
from ..spread import mean_std
from . import edges, embeddings, tables
from .outcomes import check_linear, labels_of_test, linear_outcomes, read_variant, row_outcome
from .pictures import edges_picture, embedding_picture, save, table_picture
from .plans import TABLES, plan_table
from .published import comparability, paper_numbers
from .variants import FULL, Variant, published_prior, ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("figure3", "figure4", "figure5")
WHAT = (*TABLES, *FIGURES)


@dataclass
class Job:
    """What is asked for, checked.

    Attributes:
        base: the configuration of the full model.
        recordings: with the modalities of the configuration.
        seeds: of every run.
        out: folder of the products; runs are in its folder runs/.
        dataset: "mosi", "mosei" or None: whose numbers in the paper are comparable.
        ranking: modalities from best to worst teacher, as given.
        command: that was typed, for the record.
    """

    base: RunConfig
    recordings: Recordings
    seeds: list[int]
    out: Path
    dataset: str | None
    ranking: list[str] | None
    command: str


def variants_of(what: str, job: Job) -> list[Variant]:
    """The runs that a product needs, the full model's among them.

    Raises:
        ValueError: the data or the configuration cannot give this product.
    """
    names, model = job.recordings.names, job.base.model
    if what in TABLES:
        labels_of_test(job.recordings)
        table = plan_table(what, job.base, job.recordings, job.ranking)
        if any(row.linear for row in table.rows):
            check_linear(job.base, job.seeds)
        return [FULL, *(variant for row in table.rows for variant in row.variants)]
    if len(names) < 2 or not (model.homo_gd or model.hetero_gd):
        raise ValueError(f"{what} shows what GD-Units do: it needs 2 modalities, and model.homo_gd or model.hetero_gd")
    if what == "figure5":
        forms = edges.forms(job.base, names, ranked(names, job.ranking))
        return [variant for form in forms for variant in (form.real, form.shuffled)]
    labels_of_test(job.recordings)
    return list(embeddings.VARIANTS)


def write_product(what: str, job: Job) -> str:
    """Write a table or figure from its finished runs, and return its Markdown."""
    if what in TABLES:
        text, rows, figure = _table(what, job)
    elif what == "figure5":
        text, rows, figure = _edges(job)
    else:
        text, rows, figure = _embeddings(what, job)
    data = job.recordings
    sizes = ", ".join(f"{split} {size}" for split, size in data.sizes.items())
    text += f"\n\nData: {Path(data.path).name} ({sizes}; {', '.join(data.names)}). Made by `{job.command}`\n"
    write_text(job.out / f"{what}.md", text)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_text(job.out / f"{what}.csv", stream.getvalue())
    save(figure, job.out / f"{what}.png")
    return text


def _table(what: str, job: Job) -> tuple[str, list[list[object]], Figure]:
    base, recordings, suite = job.base, job.recordings, job.recordings.metrics
    plan, labels = plan_table(what, base, recordings, job.ranking), labels_of_test(recordings)

    def read(variant: Variant):
        return read_variant(job.out, base, variant, job.seeds, recordings)

    linear = linear_outcomes(base, job.seeds) if any(row.linear for row in plan.rows) else {}
    outcomes = [row_outcome(row, job.out, base, job.seeds, recordings, linear) for row in plan.rows]
    paper = {outcome.name: paper_numbers(what, job.dataset, outcome.name) for outcome in outcomes}
    rows = tables.table_rows(plan, outcomes, read(FULL), labels, suite, paper)
    pairs = [(read(one), read(other)) for _, one, other in plan.comparisons]
    compared = tables.comparison_lines(plan, pairs, labels, suite)
    notes = [*plan.notes, *comparability(what, job.dataset, recordings)]
    title = f"{_heading(what)}: {plan.title}"
    parts = [
        f"# {title}",
        tables.markdown(rows, plan.columns, suite),
        *(["\n".join(compared)] if compared else []),
        tables.explanation(suite, len(labels), job.seeds),
        *notes,
        f"![{title}]({what}.png)",
    ]
    figure = table_picture(rows, plan.columns, suite, title)
    return "\n\n".join(parts), tables.csv_rows(rows, plan.columns, suite), figure


def _embeddings(what: str, job: Job) -> tuple[str, list[list[object]], Figure]:
    recordings, space = job.recordings, embeddings.SPACES[what]
    shown, found, labels = embeddings.collect(what, job.out, job.base, job.seeds, recordings)
    title = f"{_heading(what)}: {space} features of test samples"
    lines = [
        "| network | n | neighbours with the same label | neighbours of another modality |\n| --- | --- | --- | --- |"
    ]
    rows: list[list[object]] = [["network", "seed", "same_label", "other_modality"]]
    for name, seeds in found.items():
        shares = [mean_std([getattr(one, share) for one in seeds]) for share in ("same_label", "other_modality")]
        cells = [tables.plus_minus(*share) for share in shares]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
        rows += [[name, seed, one.same_label, one.other_modality] for seed, one in zip(job.seeds, seeds, strict=True)]
    by_chance = embeddings.chance(recordings), embeddings.chance_of_others(recordings)
    explained = (
        f"The maps are t-SNE, of seed {job.seeds[0]}: distances between far groups mean nothing there. The table is of "
        f"the features themselves: of the {embeddings.NEIGHBOURS} nearest features of other samples, of any modality, "
        "the share whose sample has the same label (numbers rounded), and the share that is of another modality; mean "
        f"± standard deviation over n seeds, at most {embeddings.MOST_SAMPLES} test samples. Of neighbours drawn at "
        f"random they would be {by_chance[0]:.3f} and {by_chance[1]:.3f}."
    )
    parts = [f"# {title}", f"![{title}]({what}.png)", "\n".join(lines), explained]
    return "\n\n".join(parts), rows, embedding_picture(shown, labels, recordings.classes, title)


def _edges(job: Job) -> tuple[str, list[list[object]], Figure]:
    names, order = job.recordings.names, ranked(job.recordings.names, job.ranking)
    graph = DistillationGraph.complete(names)
    panels, found = [], []
    rows: list[list[object]] = [["form", "labels", "unit", "epoch", "source", "target", "n", "mean", "std"]]
    for form in edges.forms(job.base, names, order):
        line = []
        for unit in edges.UNITS:
            weights = {
                kind: edges.read_edges(job.out, job.base, variant, job.seeds, unit)
                for kind, variant in (("real", form.real), ("shuffled", form.shuffled))
            }
            if weights["real"].size == 0:
                continue
            for kind, table in weights.items():
                epochs = np.arange(1, table.shape[1] + 1)
                line.append({"title": f"{form.title}\n{unit}, {kind} labels", "epochs": epochs, "weights": table})
                for epoch, edge in np.ndindex(table.shape[1:]):
                    numbers = mean_std(table[:, epoch, edge].tolist())
                    rows.append([form.title, kind, unit, epoch + 1, *graph.edges[edge], len(table), *numbers])
            prior = None
            if form.real.name == "printed-prior" and order is not None:
                option = {"homogeneous": "prior", "heterogeneous": "hetero_prior"}[unit]
                prior = published_prior(names, order, "graph")[f"{edges.GD}.{option}"]
            found.append((form.title, unit, edges.compare_labels(weights["real"], weights["shuffled"], prior)))
        panels.append(line)
    title = f"{_heading('figure5')}: who teaches whom, over the epochs"
    parts = [f"# {title}", f"![{title}](figure5.png)", *edges.edges_text(found, order is not None)]
    return "\n\n".join(parts), rows, edges_picture(panels, graph)


def _heading(what: str) -> str:
    for kind in ("table", "figure"):
        if what.startswith(kind):
            return f"{kind.capitalize()} {what.removeprefix(kind)}"
    return {"terms": "Loss terms", "units": "GD-Units"}[what]
