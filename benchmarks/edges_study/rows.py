"""What is compared: main effects of every factor, and the crosses that say something."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One way to distil; "alone" is without distillation.

    Attributes:
        name: shown in tables.
        scorer, normalize, detach_weights: as GDUnit takes them.
        quality: where ``teacher_quality`` comes from: "none"; "validation", minus the running cross-entropy on 40 % of
            the row's own labels, which do not train (in the first half of the steps, with "then all labels");
            "training", the same on the labels that train; "confidence", minus the entropy of each sample; "consensus",
            minus the cross-entropy of a node to the mean of all, over the batch.
        sharpness: factor of the quality; of "agreement", 4 / temperature.
        warm_up: share of the steps over which the weight of distillation rises from 0, or is 0 where ``late``.
        weight: share of the study's total weight.
        drawn: samples without a label in a step; None: as many as in the study's other rows.
        where: "all" studies, "few" labels, or "planted" with few labels.
    """

    name: str
    scorer: str | None = None
    normalize: str = "graph"
    quality: str = "none"
    sharpness: float = 4.0
    detach_weights: bool = False
    warm_up: float = 0.0
    late: bool = False
    weight: float = 1.0
    drawn: int | None = None
    where: str = "planted"


ALONE = Row("alone", weight=0.0, where="all")
MAIN = [
    Row("linear, graph (printed)", "linear", where="all"),
    Row("linear, target", "linear", "target", where="all"),
    Row("equal weights", where="few"),
    Row("validation loss", quality="validation", where="few"),
    Row("validation loss, then all labels", quality="validation, then all labels", where="few"),
    Row("agreement", "agreement", where="all"),
]
SCORERS = [
    Row("mlp, graph", "mlp"),
    Row("mlp, target", "mlp", "target"),
    Row("free, graph", "free"),
    Row("free, target", "free", "target"),
    Row("agreement, target", "agreement", "target"),
]
QUALITIES = [
    Row("training loss", quality="training"),
    Row("confidence of each sample", quality="confidence", where="few"),
    Row("nearness to the consensus", quality="consensus", where="few"),
    Row("validation loss, target", normalize="target", quality="validation"),
    Row("linear, graph + validation loss", "linear", quality="validation"),
    Row("linear, target + validation loss", "linear", "target", quality="validation"),
    Row("agreement + validation loss", "agreement", quality="validation"),
    Row("agreement + confidence", "agreement", quality="confidence"),
]
SHARPNESS = [
    Row("validation loss, sharpness 1", quality="validation", sharpness=1.0),
    Row("validation loss, sharpness 16", quality="validation", sharpness=16.0, where="few"),
    Row("confidence of each sample, sharpness 1", quality="confidence", sharpness=1.0),
    Row("confidence of each sample, sharpness 16", quality="confidence", sharpness=16.0),
    Row("agreement, sharpness 1", "agreement", sharpness=1.0),
    Row("agreement, sharpness 2", "agreement", sharpness=2.0),
    Row("agreement, sharpness 8", "agreement", sharpness=8.0),
]
DETACHED = [
    Row("linear, graph, detached", "linear", detach_weights=True),
    Row("linear, target, detached", "linear", "target", detach_weights=True),
    Row("linear, graph + validation loss, detached", "linear", quality="validation", detach_weights=True),
]
WARM_UP = [
    Row(f"{name}, {text}", scorer, normalize, warm_up=0.4, late=late)
    for name, scorer, normalize in (
        ("linear, graph", "linear", "graph"),
        ("linear, target", "linear", "target"),
        ("agreement", "agreement", "graph"),
    )
    for text, late in (("rising over 40 % of the steps", False), ("after 40 % of the steps", True))
]
QUARTER = [
    Row(f"{name}, a quarter of the weight", scorer, normalize, weight=0.25)
    for name, scorer, normalize in (
        ("linear, graph", "linear", "graph"),
        ("linear, target", "linear", "target"),
        ("agreement", "agreement", "graph"),
    )
]
DRAWN = [
    Row(f"{name}, {drawn} unlabelled samples a step", scorer, normalize, drawn=drawn)
    for name, scorer, normalize, sizes in (
        ("linear, target", "linear", "target", (32, 256)),
        ("agreement", "agreement", "graph", (32, 256, 1024)),
    )
    for drawn in sizes
]
ROWS = [ALONE, *MAIN, *SCORERS, *QUALITIES, *SHARPNESS, *DETACHED, *WARM_UP, *QUARTER, *DRAWN]


def rows_of(study: str) -> list[Row]:
    """The rows of a study by its name."""
    wanted = {"all"}
    if "100 labels" in study:
        wanted |= {"few", "planted"} if study.startswith("planted") else {"few"}
    return [row for row in ROWS if row.where in wanted]
