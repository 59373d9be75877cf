"""A GD-Unit over a complete graph: batch 16, features 256 wide, linear scorer, L1 of logits and of features."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import naive
from benchmarks.suite.point import Point, Provider, Settings, Work, by_mode, differentiable, skipped
from gdkit import DistillationGraph, GDUnit

HIDDEN, LOGITS = 64, 1
NAIVE_TO = 3  # nodes: with 16, the loop over samples and edges starts two million operations


def nodes_of(unit: GDUnit, logits: Tensor, features: Tensor) -> Tensor:
    """z of Eq. 8, (batch, node, 2 * hidden)."""
    scorer = unit.scorer
    return torch.cat([scorer.logit_projection(logits), scorer.feature_projection(features)], dim=-1)


def by_edges(unit: GDUnit, logits: Tensor, features: Tensor) -> Tensor:
    """One edge after the other for the whole batch, as the published program does."""
    z, edges = nodes_of(unit, logits, features), unit.edge_index.T.tolist()
    scores, far = [], []
    for i, j in edges:
        scores.append(unit.scorer.edge_score(torch.cat([z[:, j], z[:, i]], dim=1)))
        of_logits = (logits[:, i].detach() - logits[:, j]).abs().sum(1)
        far.append(of_logits + (features[:, i].detach() - features[:, j]).abs().sum(1))
    weights = torch.cat(scores, dim=1).softmax(dim=1)  # (batch, edge)
    return sum(weights[:, e] * far[e] for e in range(len(edges))).mean()


def by_messages(unit: GDUnit, logits: Tensor, features: Tensor) -> Tensor:
    """The edge list of the whole batch: gather, score, torch_geometric's softmax by sample, scatter."""
    from torch_geometric.utils import scatter, softmax

    batch, num_nodes, _ = features.shape
    first = torch.arange(batch, device=features.device)[:, None] * num_nodes
    source, target = ((first + ends).flatten() for ends in unit.edge_index)  # (batch * edge,)
    sample = source // num_nodes
    z, logits, features = (x.flatten(0, 1) for x in (nodes_of(unit, logits, features), logits, features))
    scores = unit.scorer.edge_score(torch.cat([z[target], z[source]], dim=1))[:, 0]
    weights = softmax(scores, sample, num_nodes=batch)
    far = sum((x[source].detach() - x[target]).abs().sum(1) for x in (logits, features))
    return scatter(weights * far, sample, dim_size=batch).mean()


def unit_work(batch: int, nodes: int, dim: int) -> dict[str, Work]:
    """Projections and scores of the nodes, differences of the edges, a softmax; features and gradients moved once."""
    edges = nodes * (nodes - 1)
    flops = 2 * batch * nodes * HIDDEN * (dim + LOGITS + 4) + 3 * batch * edges * (dim + LOGITS)
    moved = 4 * batch * nodes * (dim + LOGITS)
    forward, backward = Work(flops, batch * edges, moved), Work(2 * flops, 0, 2 * moved)
    return by_mode(forward, backward)


def points(settings: Settings) -> Iterator[Point]:
    """Over the number of nodes."""
    batch, dim = (2, 8) if settings.quick else (16, 256)
    for nodes in (3,) if settings.quick else (3, 16, 64):
        graph = DistillationGraph.complete([f"node{n}" for n in range(nodes)])
        unit = GDUnit(graph, dim, LOGITS, HIDDEN, feature_distance="l1").to(settings.device)
        inputs = [torch.randn(batch, nodes, width, device=settings.device) for width in (LOGITS, dim)]

        def provider(function: Callable[..., Tensor], unit: GDUnit = unit, inputs: list = inputs) -> Provider:
            return differentiable(lambda *x: function(unit, *x), inputs, [*unit.parameters()])

        loop = provider(lambda unit, *x: naive.gd_unit(unit, *x).loss)
        providers = {
            "loop over edges": provider(by_edges),
            "loop over samples and edges": loop
            if nodes <= NAIVE_TO
            else skipped(f"above {NAIVE_TO} nodes it starts millions of operations"),
            "torch_geometric edge list": provider(by_messages),
            "gdkit": provider(lambda unit, *x: unit(*x).loss),
        }
        work = unit_work(batch, nodes, dim)
        sizes = {"nodes": nodes, "edges": graph.num_edges, "batch": batch, "dim": dim, "hidden": HIDDEN}
        yield Point("nodes", str(nodes), sizes, providers, "loop over edges", work)
