"""The lines of each table, for any modalities and either task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import RunConfig
from ..data import Recordings
from .variants import (
    EARLY_FUSION,
    FULL,
    MULT,
    MULT_GD,
    MULT_NODES,
    NO_GD,
    SWITCHES,
    Row,
    Variant,
    ablations,
    alone,
    changed,
    published_prior,
    ranked,
    single_transformers,
    without_terms,
)

TABLES = ("table1", "table2", "table3", "table4", "table5", "terms", "units")
GD = "objective.distillation"
QUALITY_SHARPNESS = 8.0  # where the configuration has none


@dataclass
class Table:
    """What a table holds before its runs are made.

    Attributes:
        title: above the table.
        rows: its lines.
        columns: heads of the rows' further cells.
        comparisons: (what is compared, variant, the one it is compared with), besides each row with the full model.
        notes: below the table.
    """

    title: str
    rows: list[Row]
    columns: tuple[str, ...] = ()
    comparisons: list[tuple[str, Variant, Variant]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_table(what: str, base: RunConfig, recordings: Recordings, ranking: Sequence[str] | None = None) -> Table:
    """The lines of a table.

    Raises:
        ValueError: the data or the configuration cannot give it.
    """
    names, notes = recordings.names, []
    if base.model.vote and what in ("table1", "table2", "table5"):
        notes.append("model.vote is on, which lets the parts of DMD vote; the other networks have no parts that could.")
    if len(names) < 2 and what in ("table3", "table5", "units"):
        raise ValueError(f"{what} compares how modalities teach each other and needs 2, got {', '.join(names)}")
    if what == "units":
        return _units(base, recordings, ranking)
    plans = {"table3": _table3, "table4": _table4, "table5": _table5, "terms": _terms}
    table = plans.get(what, _main)(base, names)
    table.notes += notes
    return table


def _main(base: RunConfig, names: Sequence[str]) -> Table:
    rows = [Row("linear, all modalities", linear="all"), Row("linear, strongest modality", linear="strongest")]
    rows += [Row("transformer, strongest modality", single_transformers(base, names))]
    notes = ["The strongest modality is the one that does best on the validation split."]
    if len(names) > 1:
        rows += [_row(variant) for variant in (EARLY_FUSION, MULT, NO_GD)]
    else:
        notes.append("With one modality there is no early fusion, no MulT and nothing to distil.")
    return Table("DMD and what it must beat", [*rows, _row(FULL)], notes=notes)


def _table3(base: RunConfig, names: Sequence[str]) -> Table:
    if off := [name for name in SWITCHES.values() if not getattr(base.model, name)]:
        raise ValueError(f"table3 switches parts off one by one, but model.{off[0]} is off in the configuration")
    rows = [
        Row(variant.title, (variant,), cells=tuple("yes" if is_on else "–" for is_on in flags))
        for variant, flags in ablations()
    ]
    notes = ["FD: feature decoupling; CA: cross-modal attention."]
    return Table("Parts of DMD switched off", rows, columns=tuple(SWITCHES), notes=notes)


def _table4(base: RunConfig, names: Sequence[str]) -> Table:
    rows, comparisons = [], []
    for name in names:
        without = alone(base, "no-fd-only", name, {"model.feature_decoupling": False})
        with_fd = alone(base, "only", name, {"model.feature_decoupling": True})
        rows += [Row(name, (variant,), cells=(fd,)) for variant, fd in ((without, "–"), (with_fd, "yes"))]
        comparisons.append((f"{name}: with feature decoupling against without", with_fd, without))
    rows.append(Row("all (DMD)", (FULL,), cells=("yes" if base.model.feature_decoupling else "–",)))
    notes = ["One modality has nothing to distil and nothing that reinforces it."]
    return Table("One modality alone", rows, columns=("FD",), comparisons=comparisons, notes=notes)


def _table5(base: RunConfig, names: Sequence[str]) -> Table:
    notes = [
        "MulT is trained by the loss of its prediction alone. A GD-Unit distils between predictions of the single "
        "modalities, which have to be trained: the second line has these losses without the GD-Unit."
    ]
    comparisons = [
        ("GD-Unit: with against without, both with a head a modality", MULT_GD, MULT_NODES),
        ("MulT with a GD-Unit against MulT", MULT_GD, MULT),
    ]
    rows = [_row(variant) for variant in (MULT, MULT_NODES, MULT_GD, FULL)]
    return Table("A GD-Unit added to MulT", rows, comparisons=comparisons, notes=notes)


def _terms(base: RunConfig, names: Sequence[str]) -> Table:
    variants, absent = without_terms(base, len(names))
    notes = [f"Not there to be left out: {', '.join(absent)}."] if absent else []
    return Table("Each loss term left out in turn", [_row(FULL), *map(_row, variants)], notes=notes)


def _units(base: RunConfig, recordings: Recordings, ranking: Sequence[str] | None) -> Table:
    """Scorer x normalisation in full, distance and prior from the given point alone."""
    if not (base.model.homo_gd or base.model.hetero_gd):
        raise ValueError("units compares GD-Units, but model.homo_gd and model.hetero_gd are off in the configuration")
    names, notes = recordings.names, []
    given = base.objective.distillation
    sharpness = given.quality_sharpness or QUALITY_SHARPNESS
    scorers = {name: {"scorer": name, "quality_sharpness": 0.0} for name in ("linear", "mlp", "free", "agreement")}
    scorers |= {"equal": {"scorer": None, "quality_sharpness": 0.0}}
    if base.train_on == "train":
        scorers |= {"quality": {"scorer": None, "quality_sharpness": sharpness}}
    else:
        notes.append("No line led by the validation loss: the validation split is trained on.")
    usual = given.distance or ("kl" if recordings.task == "classification" else "l1")
    # A choice: scorer, normalisation, distance, prior; None: as given.
    choices: list[tuple[str | None, str | None, str | None, str]] = []
    for normalize in ("graph", "target"):
        for scorer in scorers:
            # With two modalities each student has one teacher, whose weight is 1 whatever scores it.
            if not (normalize == "target" and len(names) == 2 and scorer != "equal"):
                choices.append((scorer, normalize, None, "none"))
    if len(names) == 2:
        notes.append("Two modalities: normalised per target every weight is 1, whatever scores it.")
    distances = ("l1", "l2", "cosine", "kl") if recordings.task == "classification" else ("l1", "l2")
    choices += [(None, None, distance, "none") for distance in distances if distance != usual]
    order = ranked(names, ranking)
    if order is None:
        notes.append("No line with a prior: name the modalities from best to worst teacher with --ranking.")
    else:
        choices.append(("linear", None, None, "published"))  # a prior needs weights that can follow it
    own = _scorer_name(given.scorer, given.quality_sharpness)
    rows: list[Row] = []
    for scorer, normalize, distance, prior in choices:
        changes: dict[str, Any] = {f"{GD}.{name}": None for name in ("prior", "hetero_prior")}
        point = (scorer or own, normalize or given.normalize, distance or usual, prior)
        changes |= {f"{GD}.{name}": value for name, value in (scorers[scorer] if scorer else {}).items()}
        changes |= {f"{GD}.normalize": normalize} if normalize else {}
        changes |= {f"{GD}.distance": distance} if distance else {}
        changes |= published_prior(names, order, point[1]) if prior == "published" and order is not None else {}
        variant = Variant("unit-" + "-".join(point).replace(" ", "-"), "", changes)
        title = "as configured" if changed(base, changes) == base else ""
        rows.append(Row(title, (variant,), cells=point))
    if not any(row.title for row in rows):
        point = (own, given.normalize, usual, "none" if given.prior is None else "given")
        rows.insert(0, Row("as configured", (FULL,), cells=point))
    columns = ("scorer", "normalisation", "distance", "prior")
    notes.append("Scorers: equal, all edges weigh the same; quality, how well each teacher does on validation.")
    return Table("scorer, normalisation, distance and prior", rows, columns=columns, notes=notes)


def _scorer_name(scorer: str | None, quality_sharpness: float) -> str:
    parts = [scorer or "", "quality" if quality_sharpness > 0 else ""]
    return " and ".join(filter(None, parts)) or "equal"


def _row(variant: Variant) -> Row:
    return Row(variant.title, (variant,))
