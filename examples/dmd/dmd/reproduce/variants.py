"""Which networks a table or figure compares: each a run configuration that differs in a few fields from the given one.

A variant's name is the name of its folder, so tables that need the same network share its runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..config import RunConfig

SWITCHES = {"FD": "feature_decoupling", "HomoGD": "homo_gd", "CA": "cross_attention", "HeteroGD": "hetero_gd"}
# The published program hard-codes what its edges are kept near (docs/reproduce.md): languages first.
RANKING = ({"language", "text"}, {"vision", "video", "visual"}, {"acoustic", "audio"})
PRIOR_WEIGHT = 10.0


@dataclass(frozen=True)
class Variant:
    """A network to train: name of its folder, title in tables, and what differs, by dotted field."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of a table: one variant, the one of several that is best on validation, or a linear model.

    Attributes:
        title: what the line says first.
        variants: candidates.
        linear: "all" modalities or the "strongest" one, instead of variants.
        cells: further columns.
    """

    title: str
    variants: tuple[Variant, ...] = ()
    linear: str | None = None
    cells: tuple[str, ...] = ()


FULL = Variant("full", "DMD")
NO_GD = Variant("no-gd", "DMD without GD", {"model.homo_gd": False, "model.hetero_gd": False})
NO_HETERO = Variant("no-hetero-gd", "DMD without HeteroGD", {"model.hetero_gd": False})
MULT = Variant("mult", "MulT", {"network": "mult", "model.hetero_gd": False, "objective.node_weight": 0.0})
MULT_NODES = Variant("mult-nodes", "MulT with a head a modality", {"network": "mult", "model.hetero_gd": False})
MULT_GD = Variant("mult-gd", "MulT with a GD-Unit", {"network": "mult", "model.hetero_gd": True})
EARLY_FUSION = Variant("early-fusion", "early fusion", {"network": "early_fusion"})


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """A configuration with other values in some fields, named with dots."""

    def put(part: Any, names: Sequence[str], value: Any) -> Any:
        first, rest = names[0], names[1:]
        return replace(part, **{first: put(getattr(part, first), rest, value) if rest else value})

    for name, value in changes.items():
        config = put(config, name.split("."), value)
    return config


def folder_name(base: RunConfig, variant: Variant) -> str:
    """The variant's name; that of the full model where nothing differs from it."""
    return FULL.name if changed(base, variant.changes) == base else variant.name


def alone(base: RunConfig, prefix: str, name: str, changes: Mapping[str, Any]) -> Variant:
    """A variant that has one modality only."""
    # A text encoder makes the modality language, and has nothing to do without it.
    text = {"text": None} if base.text is not None and name != "language" else {}
    folder = re.sub(r"[^\w-]", "_", name)
    return Variant(f"{prefix}-{folder}", name, {**text, "modalities": [name], **changes})


def single_transformers(base: RunConfig, names: Sequence[str]) -> tuple[Variant, ...]:
    """A transformer on each modality."""
    return tuple(alone(base, "transformer", name, {"network": "transformer"}) for name in names)


def ablations() -> list[tuple[Variant, tuple[bool, ...]]]:
    """The six lines of the paper's Table 3, with what is on."""
    rows = []
    for on in ("1111", "1110", "1101", "1100", "1000", "0000"):
        flags = tuple(flag == "1" for flag in on)
        off = {part: switch for (part, switch), flag in zip(SWITCHES.items(), flags, strict=True) if not flag}
        title = "DMD" + (f" without {', '.join(off)}" if off else "")
        named = {"1111": FULL.name, "1110": NO_HETERO.name}
        name = named.get(on, "no-" + "-".join(part.lower() for part in off))
        rows.append((Variant(name, title, {f"model.{switch}": False for switch in off.values()}), flags))
    return rows


def without_terms(base: RunConfig, num_modalities: int) -> tuple[list[Variant], list[str]]:
    """Each loss term left out in turn, and which are not there to be left out."""
    variants, absent = [], []
    decoupling = ("reconstruction", "cycle", "margin", "orthogonality")
    for term in decoupling:
        weight = getattr(base.objective, f"{term}_weight") * base.objective.lambda_decoupling
        weight *= base.objective.gamma if term in ("margin", "orthogonality") else 1
        is_there = base.model.feature_decoupling and weight > 0 and (term != "margin" or num_modalities > 1)
        if is_there:
            changes = {f"objective.{term}_weight": 0.0}
            variants.append(Variant(f"no-{term}", f"without {term}", changes))
        else:
            absent.append(term)
    if base.objective.node_weight > 0:
        variants.append(Variant("no-nodes", "without node losses", {"objective.node_weight": 0.0}))
    else:
        absent.append("node losses")
    for term, switch in (("homogeneous", "homo_gd"), ("heterogeneous", "hetero_gd")):
        if getattr(base.model, switch) and num_modalities > 1 and base.objective.lambda_distillation > 0:
            name = NO_HETERO.name if term == "heterogeneous" else "no-homo-gd"
            variants.append(Variant(name, f"without {term}", {f"model.{switch}": False}))
        else:
            absent.append(term)
    return variants, absent


def ranked(names: Sequence[str], given: Sequence[str] | None) -> list[str] | None:
    """The modalities from best to worst teacher: as given, else language, vision, acoustic; None: unknown.

    Raises:
        ValueError: what is given does not name every modality once.
    """
    if given is not None:
        if sorted(given) != sorted(names):
            raise ValueError(f"--ranking must name each of {', '.join(names)} once, got {' '.join(given)}")
        return list(given)
    places = {name: [i for i, known in enumerate(RANKING) if name.lower() in known] for name in names}
    if not all(places.values()):
        return None
    return sorted(names, key=lambda name: places[name])


def published_prior(names: Sequence[str], ranking: Sequence[str], normalize: str) -> dict[str, Any]:
    """What the published program keeps its edges near, as changes of the configuration.

    Homogeneous: the best modality teaches all others. Heterogeneous: each modality teaches those below it. A softmax of
    1 / 0.25 on these edges and 0 on all others, over the graph, or over the edges into each target.
    """
    edges = [(source, target) for source in names for target in names if source != target]  # in the graph's order
    place = {name: i for i, name in enumerate(ranking)}
    wanted = {
        "prior": [float(place[source] == 0) for source, _ in edges],
        "hetero_prior": [float(place[source] < place[target]) for source, target in edges],
    }
    changes: dict[str, Any] = {"objective.distillation.prior_weight": PRIOR_WEIGHT}
    for option, scores in wanted.items():
        weights = np.exp(np.array(scores) / 0.25)
        together = [[t == target if normalize == "target" else True for _, t in edges] for _, target in edges]
        weights = weights / (np.array(together) @ weights)
        changes[f"objective.distillation.{option}"] = weights.round(6).tolist()
    return changes
