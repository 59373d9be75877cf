"""What a learned graph looks like at the end of a run, and a warning where it should not be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

COLLAPSED_SHARE = 0.95  # of one edge among those that it competes with
COLLAPSED_ENTROPY = 0.3  # 1: all edges weigh the same; 0: a single one has all the weight


def report_graphs(task: nn.Module, judged: Mapping[str, Any], *, unseen: bool) -> dict[str, Any]:
    """:func:`graph_report` of each GD-Unit.

    Args:
        task: whose units they are.
        judged: what :func:`dmd.evaluation.evaluate` says of the validation split.
        unseen: whether training did without that split; if not, its losses do not say who is good.
    """
    units: Any = task.units
    reports: dict[str, Any] = {}
    for name, weights in judged["edges"].items():
        graph = units[name].graph
        losses = judged["node_losses"].get(name) if unseen else None
        losses = dict(zip(graph.names, losses or [math.nan] * graph.num_nodes, strict=True))
        reports[name] = graph_report(weights, graph.edges, losses, units[name].normalize)
    return reports


def graph_report(
    weights: Sequence[float], edges: Sequence[tuple[str, str]], losses: Mapping[str, float], normalize: str
) -> dict[str, Any]:
    """Weights, entropy and teachers of one graph.

    Args:
        weights: mean weight of every edge over the validation samples; NaN where no sample has the edge.
        edges: (source, target) of every edge; the source teaches.
        losses: validation loss of each node's own prediction; NaN where no labelled sample has it.
        normalize: "graph": the weights of all edges compete; "target": those into each target.

    Returns:
        "entropy" in [0, 1] (the mean over competing groups of two edges or more, each in units of its largest possible
        entropy; 1 without such a group), "heaviest" edge and its "share" of its group, "out_weight" of each node,
        "valid_loss" of each node, and "warnings", a list of sentences.
    """
    known = [(edge, weight) for edge, weight in zip(edges, weights, strict=True) if not math.isnan(weight)]
    groups: dict[str, list[tuple[tuple[str, str], float]]] = {}
    for edge, weight in known:
        groups.setdefault(edge[1] if normalize == "target" else "", []).append((edge, weight))
    competing = [group for group in groups.values() if len(group) > 1 and sum(weight for _, weight in group) > 0]
    shares = {edge: weight / sum(w for _, w in group) for group in competing for edge, weight in group}
    entropies = [_entropy([shares[edge] for edge, _ in group]) for group in competing]
    report: dict[str, Any] = {
        "entropy": sum(entropies) / len(entropies) if entropies else 1.0,
        "out_weight": {name: sum(w for (source, _), w in known if source == name) for name in losses},
        "valid_loss": dict(losses),
        "warnings": [],
    }
    if shares:
        heaviest = max(shares, key=shares.__getitem__)
        report |= {"heaviest": list(heaviest), "share": shares[heaviest]}
        if shares[heaviest] > COLLAPSED_SHARE:
            among = "all edges" if normalize == "graph" else f"the edges into {heaviest[1]}"
            edge = f"{heaviest[0]} -> {heaviest[1]}"
            report["warnings"].append(
                f"the graph has collapsed: {edge} has {shares[heaviest]:.0%} of the weight of {among}"
            )
        elif report["entropy"] < COLLAPSED_ENTROPY:
            report["warnings"].append(
                f"the graph has nearly collapsed: its weights have {report['entropy']:.2f} of the largest entropy"
            )
        judged = {name: loss for name, loss in losses.items() if not math.isnan(loss)}
        if len(judged) > 1:
            worst = max(judged, key=judged.__getitem__)
            teacher = max(judged, key=report["out_weight"].__getitem__)
            others = [report["out_weight"][name] for name in judged if name != worst]
            if teacher == worst and report["out_weight"][worst] > 1.05 * max(others):  # not for a tie
                report["warnings"].append(
                    f"the heaviest teacher, {worst}, is the worst on the validation split (loss {judged[worst]:.3f}; "
                    f"the best, {min(judged, key=judged.__getitem__)}, has {min(judged.values()):.3f})"
                )
    return report


def _entropy(shares: Sequence[float]) -> float:
    """Entropy of shares that sum to 1, in units of the largest that so many can have."""
    return -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares))
