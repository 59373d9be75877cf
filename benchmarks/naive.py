"""Every formula of gdkit as plain loops: the oracle of the tests and the slowest provider of the benchmarks.

Each function is written from its equation alone, one sample, node, edge, triplet or step at a time, and shares no code
with `gdkit`. Vectors along the last axis (dim, class) are the smallest thing handled whole. Autograd works through all
of it, so that gradients can be compared as well as values. Shapes are those of the counterparts in `gdkit.functional`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.naive_agreement import agreement_scores

Distance = str | Callable[[Tensor, Tensor], Tensor]


def total(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Sum of scalars; of none of them, a zero that is still on the graph of `like`."""
    result = like.sum() * 0
    for value in values:
        result = result + value
    return result


def mean(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Mean of scalars; of none of them, zero."""
    return total(values, like) / max(len(values), 1)


def softmax(values: Sequence[Tensor]) -> list[Tensor]:
    """exp(v_i) / sum_j exp(v_j), shifted by the largest value so that nothing overflows."""
    largest = max((value.item() for value in values), default=0.0)
    powers = [torch.exp(value - largest) for value in values]
    return [power / sum(powers) for power in powers]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """cos(a, b) = a . b / (|a| |b|); a zero vector is at right angles to everything."""
    if not a.any() or not b.any():
        return (a.sum() + b.sum()) * 0
    return (a * b).sum() / (torch.sqrt((a * a).sum()) * torch.sqrt((b * b).sum()))


def vector_distance(teacher: Tensor, student: Tensor, distance: Distance, temperature: float = 1.0) -> Tensor:
    """epsilon of Eq. 7: how far one student is from one teacher, each (dim,)."""
    if callable(distance):
        return distance(teacher[None, None], student[None, None])[0, 0]
    if distance == "l1":
        return (teacher - student).abs().sum()
    if distance == "l2":
        return ((teacher - student) * (teacher - student)).sum()
    if distance == "cosine":
        return 1 - cosine(teacher, student)
    if distance == "kl":  # T^2 * sum_c p_c * (log p_c - log q_c)
        p, q = (softmax(list(logits / temperature)) for logits in (teacher, student))
        return temperature**2 * total([a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q)], teacher)
    raise ValueError(f"unknown distance {distance!r}")


def edge_scores(source_terms: Tensor, target_terms: Tensor, edge_index: Tensor) -> Tensor:
    """Eq. 8 with a linear g, which splits into a term of the teacher and one of the student."""
    rows = [[s[i] + t[j] for i, j in edge_index.T.tolist()] for s, t in zip(source_terms, target_terms)]
    return torch.stack([torch.stack(row) for row in rows])


def edge_weights(
    scores: Tensor,
    edge_index: Tensor,
    normalize: str = "graph",
    temperature: float = 1.0,
    edge_mask: Tensor | None = None,
) -> Tensor:
    """The softmax after Eq. 8: over all present edges, or over the present edges into each target."""
    edges = edge_index.T.tolist()
    rows = []
    for b in range(len(scores)):
        present = [e for e in range(len(edges)) if edge_mask is None or edge_mask[b, e]]
        row = [scores[b].sum() * 0 for _ in edges]
        for group in [None] if normalize == "graph" else {edges[e][1] for e in present}:
            members = [e for e in present if group is None or edges[e][1] == group]
            for e, weight in zip(members, softmax([scores[b, e] / temperature for e in members])):
                row[e] = weight
        rows.append(torch.stack(row))
    return torch.stack(rows)


def edge_distances(
    x: Tensor, edge_index: Tensor, distance: Distance = "l1", temperature: float = 1.0, detach_teacher: bool = True
) -> Tensor:
    """epsilon_{i -> j} of Eq. 7 for every edge of every sample."""
    rows = []
    for sample in x:
        teachers = sample.detach() if detach_teacher else sample
        row = [vector_distance(teachers[i], sample[j], distance, temperature) for i, j in edge_index.T.tolist()]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def graph_distillation_loss(weights: Tensor, distances: Tensor, reduction: str = "mean") -> Tensor:
    """Eq. 7 and 9: weight times distance, summed over the edges of each sample."""
    per_sample = [total([w * d for w, d in zip(*sample)], weights) for sample in zip(weights, distances)]
    return torch.stack(per_sample) if reduction == "none" else mean(per_sample, weights)


def prior_penalty(weights: Tensor, prior: Tensor, edge_mask: Tensor | None = None) -> Tensor:
    """sum_e (mean of w_e over the samples that have the edge - prior_e)^2."""
    terms = []
    for e in range(weights.shape[1]):
        present = [weights[b, e] for b in range(len(weights)) if edge_mask is None or edge_mask[b, e]]
        if present:
            terms.append((mean(present, weights) - prior[e]) ** 2)
    return total(terms, weights)


def triplets(
    labels: Tensor, num_nodes: int, node_mask: Tensor | None = None, sample_mask: Tensor | None = None
) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """The set S of Eq. 4: (i, j, k), each (sample, node), with m[i] != m[j], m[i] = m[k], c[i] = c[j], c[i] != c[k]."""
    items = list(itertools.product(range(len(labels)), range(num_nodes)))
    items = [i for i in items if (sample_mask is None or sample_mask[i[0]]) and (node_mask is None or node_mask[i])]
    c = labels.tolist()
    pairs = [(i, j) for i in items for j in items if i[1] != j[1] and c[i[0]] == c[j[0]]]
    return [(i, j, k) for i, j in pairs for k in items if i[1] == k[1] and c[i[0]] != c[k[0]]]


def triplet_margin_loss(
    features: Tensor,
    labels: Tensor,
    margin: float = 0.1,
    node_mask: Tensor | None = None,
    sample_mask: Tensor | None = None,
    label_values: Tensor | None = None,
) -> Tensor:
    """Eq. 4: mean over S of max(0, alpha - cos(X_i, X_j) + cos(X_i, X_k)); alpha may grow with |label_i - label_k|."""
    terms = []
    for i, j, k in triplets(labels, features.shape[1], node_mask, sample_mask):
        alpha = margin if label_values is None else margin * abs(label_values[i[0]] - label_values[k[0]])
        value = alpha - cosine(features[i], features[j]) + cosine(features[i], features[k])
        terms.append(torch.clamp(value, min=0))
    return mean(terms, features)


def real_vectors(x: Tensor, mask: Tensor | None) -> list[tuple[int, ...]]:
    """Positions of the vectors along the last axis that the mask keeps."""
    positions = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask.expand(x.shape[:-1])
    return [tuple(position) for position in positions.nonzero().tolist()]


def soft_orthogonality(shared: Tensor, private: Tensor, kind: str = "hinge", mask: Tensor | None = None) -> Tensor:
    """Eq. 5 for one node: the cosine of every real step's shared and private vector, through `kind`, averaged."""
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "hinge": lambda value: torch.clamp(value, min=0),
        "absolute": torch.abs,
        "squared": lambda value: value * value,
        "signed": lambda value: value,
    }
    return mean([kinds[kind](cosine(shared[at], private[at])) for at in real_vectors(shared, mask)], shared + private)


def reconstruction_loss(x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. 2 and 3 for one node: mean of the squared differences over the elements of real steps."""
    squares = [(x[at] - x_hat[at]) ** 2 for at in real_vectors(x, mask)]
    return mean([element for square in squares for element in square], x + x_hat)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    band: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Eq. 10, one query at a time: (output, weights). A query that is padding or sees no key gives zeros."""
    batch, heads, time, head_dim = query.shape
    output = []
    weights = torch.zeros(batch, heads, time, key.shape[2], dtype=query.dtype)
    for b, h, i in itertools.product(range(batch), range(heads), range(time)):
        seen = [j for j in range(key.shape[2]) if key_mask is None or key_mask[b, j]]
        seen = [j for j in seen if (band is None or j - i <= band) and (query_mask is None or query_mask[b, i])]
        scores = [(query[b, h, i] * key[b, h, j]).sum() / math.sqrt(head_dim) for j in seen]
        answer = (query[b, h].sum() + key[b, h].sum() + value[b, h].sum()) * 0 * torch.ones_like(value[b, h, 0])
        for j, weight in zip(seen, softmax(scores)):
            answer = answer + weight * value[b, h, j]
            weights[b, h, i, j] = weight.detach()
        output.append(answer)
    return torch.stack(output).reshape(batch, heads, time, -1), weights


def gd_unit(
    unit: Any,
    logits: Mapping[str, Tensor] | Tensor,
    features: Mapping[str, Tensor] | Tensor | None = None,
    node_mask: Tensor | None = None,
    teacher_quality: Tensor | None = None,
) -> SimpleNamespace:
    """Eq. 7-9 for a whole `gdkit.GDUnit`, whose options and parameters it reads; gives the fields of its output."""
    names, edge_index, scorer = unit.graph.names, unit.graph.edge_index, unit.scorer
    logits = torch.stack([logits[name] for name in names], dim=1) if isinstance(logits, Mapping) else logits
    if isinstance(features, Tensor):
        features = {name: features[:, n] for n, name in enumerate(names)}
    edges, batch = edge_index.T.tolist(), len(logits)
    there = torch.ones(batch, len(names), dtype=torch.bool) if node_mask is None else node_mask
    present = torch.stack([torch.stack([row[i] & row[j] for i, j in edges]) for row in there])
    agreed = agreement_scores(logits.detach(), there) if scorer.kind == "agreement" else logits.new_zeros(len(names))

    def z(b: int, n: int) -> Tensor:  # [W_logit f(x), W_repr x]
        project = scorer.feature_projection
        project = project[names[n]] if isinstance(project, nn.ModuleDict) else project
        return torch.cat([scorer.logit_projection(logits[b, n]), project(features[names[n]][b])])

    def score(b: int, e: int) -> Tensor:  # g of Eq. 8
        i, j = edges[e]
        if scorer.kind in (None, "free", "agreement"):
            return scorer.scores[e] if scorer.kind == "free" else agreed[i]
        if scorer.kind == "module":
            return scorer.edge_score(z(b, i)[None, None], z(b, j)[None, None])[0, 0]
        return scorer.edge_score(torch.cat([z(b, j), z(b, i)]))[0]

    scores = torch.stack([torch.stack([score(b, e) for e in range(len(edges))]) for b in range(batch)])
    if teacher_quality is not None:
        quality = teacher_quality if teacher_quality.dim() == 2 else torch.stack([teacher_quality] * batch)
        scores = scores + torch.stack([torch.stack([row[i] for i, _ in edges]) for row in quality])
    weights = edge_weights(scores, edge_index, unit.normalize, unit.temperature, present)
    used = weights.detach() if unit.detach_weights else weights

    def distil(x: Tensor, distance: Distance, factor: float) -> tuple[Tensor, Tensor]:  # Eq. 7 and 9
        far = edge_distances(x, edge_index, distance, unit.distance_temperature, unit.detach_teacher)
        far = torch.where(present, far, 0.0)
        return factor * graph_distillation_loss(used, far, "none"), far

    per_sample, distances = distil(logits, unit.distance, 1.0)
    zero = logits.sum() * 0
    terms = {"logit": mean(list(per_sample), logits), "feature": zero, "prior": zero}
    if unit.feature_distance is not None:
        stacked = torch.stack([features[name] for name in names], dim=1)
        of_features, _ = distil(stacked, unit.feature_distance, unit.feature_weight)
        terms["feature"], per_sample = mean(list(of_features), stacked), per_sample + of_features
    if unit.prior is not None:
        terms["prior"] = unit.prior_weight * prior_penalty(weights, unit.prior, present)
    return SimpleNamespace(
        loss=sum(terms.values()), terms=terms, per_sample=per_sample, weights=weights, distances=distances
    )
