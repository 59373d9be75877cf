"""A GD-Unit with a linear scorer and L1 of logits and features: over complete graphs, and along a million edges.

And where one of gdkit's two forms of distances overtakes the other: a table of all pairs of nodes, or edge by edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import naive
from benchmarks.suite.point import Point, Provider, Settings, Work, by_mode, differentiable, skipped
from gdkit import DistillationGraph, GDUnit
from gdkit._pairwise import distances_along, edge_by_edge, from_table

HIDDEN, LOGITS = 64, 1
NAIVE_TO = 3  # nodes: with 16, the loop over samples and edges starts two million operations
EDGES_TO = 64  # nodes, to which one edge after the other takes seconds
VECTORS_TO = 2**27  # numbers, half a gigabyte: what has a vector for every edge holds several times that
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


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


def by_vectors(unit: GDUnit, logits: Tensor, features: Tensor) -> Tensor:
    """All edges at once, each with the vectors of its teacher and of its student."""
    z, (source, target) = nodes_of(unit, logits, features), unit.edge_index
    as_student, as_teacher = unit.scorer.edge_score.weight[0].chunk(2)
    scores = (z @ as_teacher)[:, source] + (z @ as_student)[:, target] + unit.scorer.edge_score.bias
    far = sum((x[:, source].detach() - x[:, target]).abs().sum(2) for x in (logits, features))
    return (scores.softmax(dim=1) * far).sum(dim=1).mean()


def unit_work(batch: int, nodes: int, edges: int, dim: int) -> dict[str, Work]:
    """Projections and scores of the nodes, differences of the edges, a softmax; features and gradients moved once."""
    flops = 2 * batch * nodes * HIDDEN * (dim + LOGITS + 4) + 3 * batch * edges * (dim + LOGITS)
    moved = 4 * batch * nodes * (dim + LOGITS)
    forward, backward = Work(flops, batch * edges, moved), Work(2 * flops, 0, 2 * moved)
    return by_mode(forward, backward)


def random_edges(nodes: int, edges: int) -> Tensor:
    """So many different edges, (2, edge): as many from each node, to random other ones."""
    pairs = nodes * (nodes - 1)
    places = torch.arange(edges) * pairs // edges + torch.randint(pairs // edges, (edges,))
    source, target = places // (nodes - 1), places % (nodes - 1)
    return torch.stack([source, target + (target >= source)])


def unit_point(sweep: str, graph: DistillationGraph, batch: int, dim: int, device: str) -> Point:
    """A GD-Unit beside its rivals on one graph."""
    nodes, edges = graph.num_nodes, graph.num_edges
    unit = GDUnit(graph, dim, LOGITS, HIDDEN, feature_distance="l1").to(device)
    inputs = [torch.randn(batch, nodes, width, device=device) for width in (LOGITS, dim)]

    def provider(function: Callable[..., Tensor], reason: str = "") -> Provider:
        if reason:
            return skipped(reason)
        return differentiable(lambda *x: function(unit, *x), inputs, [*unit.parameters()])

    too_many = f"above {EDGES_TO} nodes it starts millions of operations" if nodes > EDGES_TO else ""
    too_much = "a vector for every edge takes gigabytes" if batch * edges * dim > VECTORS_TO else ""
    naive_to = f"above {NAIVE_TO} nodes it starts millions of operations" if nodes > NAIVE_TO else ""
    providers = {
        "loop over edges": provider(by_edges, too_many),
        "loop over samples and edges": provider(lambda unit, *x: naive.gd_unit(unit, *x).loss, naive_to),
        "torch_geometric edge list": provider(by_messages, too_much),
        "vectors of all edges": provider(by_vectors, too_much),
        "gdkit": provider(lambda unit, *x: unit(*x).loss),
    }
    sizes = {"nodes": nodes, "edges": edges, "batch": batch, "dim": dim, "hidden": HIDDEN}
    baseline = "vectors of all edges" if too_many else "loop over edges"
    return Point(sweep, str(nodes), sizes, providers, baseline, unit_work(batch, nodes, edges, dim))


def density_points(settings: Settings) -> Iterator[Point]:
    """Both forms over the share of pairs that are edges: distances and their gradients alone."""
    nodes, dim = (20, 8) if settings.quick else (512, 64)
    x = torch.randn(1, nodes, dim, device=settings.device)
    for distance in ("l1", "l2", "cosine"):
        for density in (1.0,) if settings.quick else DENSITIES:
            edge_index = random_edges(nodes, round(density * nodes * (nodes - 1))).to(settings.device)

            def provider(sums: Callable, distance: str = distance, edge_index: Tensor = edge_index) -> Provider:
                return differentiable(lambda x: distances_along(x, edge_index, distance, 1.0, True, sums), [x])

            providers = {"gdkit, edge by edge": provider(edge_by_edge), "gdkit, table": provider(from_table)}
            sizes = {"nodes": nodes, "edges": edge_index.shape[1], "batch": 1, "dim": dim}
            sweep = f"density, {distance}"
            yield Point(sweep, str(density), sizes, providers, "gdkit, edge by edge", {"full": None})


def points(settings: Settings) -> Iterator[Point]:
    """Over the number of nodes; over that of sparse ones with 50 students each; over the density."""
    batch, dim = (2, 8) if settings.quick else (16, 256)
    for nodes in (3,) if settings.quick else (3, 16, 64, 256, 1024):
        yield unit_point("nodes", DistillationGraph.complete(map(str, range(nodes))), batch, dim, settings.device)
    for nodes, degree in ((40, 3),) if settings.quick else ((1000, 50), (20_000, 50)):
        names, ends = [str(n) for n in range(nodes)], random_edges(nodes, nodes * degree).T.tolist()
        graph = DistillationGraph.from_edges(names, [(names[i], names[j]) for i, j in ends])
        dim = 8 if settings.quick else 64
        yield unit_point(f"sparse nodes, {degree} students each", graph, 1, dim, settings.device)
    yield from density_points(settings)
