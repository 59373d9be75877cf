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
    names = recordings.names
    if len(names) < 2 and what in ("table3", "table5", "units"):
        raise ValueError(f"{what} compares how modalities teach each other and needs 2, got {', '.join(names)}")
    if what == "units":
        return _units(base, recordings, ranking)
    plans = {"table3": _table3, "table4": _table4, "table5": _table5, "terms": _terms}
    return plans.get(what, _main)(base, names)


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
    choices: list[tuple[dict[str, Any], str]] = []
    for normalize in ("graph", "target"):
        for scorer in ("linear", "mlp", "free", None):
            # With two modalities each student has one teacher, whose weight is 1 whatever scores it.
            if not (normalize == "target" and len(names) == 2 and scorer is not None):
                choices.append(({"scorer": scorer, "normalize": normalize}, "none"))
    if len(names) == 2:
        notes.append("Two modalities: normalised per target every weight is 1, whatever scores it.")
    distances = ("l1", "l2", "cosine", "kl") if recordings.task == "classification" else ("l1", "l2")
    usual = given.distance or ("kl" if recordings.task == "classification" else "l1")
    choices += [({"distance": distance}, "none") for distance in distances if distance != usual]
    order = ranked(names, ranking)
    if order is None:
        notes.append("No line with a prior: name the modalities from best to worst teacher with --ranking.")
    else:
        scorer = given.scorer or "linear"  # a prior needs weights that can follow it
        choices.append(({"scorer": scorer}, "published"))
    rows: list[Row] = []
    for choice, prior in choices:
        point = {"scorer": given.scorer, "normalize": given.normalize, "distance": usual} | choice
        changes = {f"{GD}.{name}": value for name, value in choice.items()}
        changes |= {f"{GD}.prior": None, f"{GD}.hetero_prior": None}
        if prior == "published" and order is not None:
            changes |= published_prior(names, order, point["normalize"])
        label = "-".join(str(value) for value in point.values()) + ("-prior" if prior == "published" else "")
        cells = (str(point["scorer"]), point["normalize"], point["distance"], prior)
        variant = Variant(f"unit-{label.lower()}", "GD-Unit", changes)
        title = "as configured" if changed(base, changes) == base else ""
        rows.append(Row(title, (variant,), cells=cells))
    if not any(row.title for row in rows):
        point = (str(given.scorer), given.normalize, usual, "none" if given.prior is None else "given")
        rows.insert(0, Row("as configured", (FULL,), cells=point))
    columns = ("scorer", "normalisation", "distance", "prior")
    return Table("Choices of the GD-Unit", rows, columns=columns, notes=notes)


def _row(variant: Variant) -> Row:
    return Row(variant.title, (variant,))
