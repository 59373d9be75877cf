"""gdkit's agreement of nodes as plain loops, one pair of nodes and one sample at a time; the oracle of its tests."""

import math

import torch
from torch import Tensor


def said(logits: Tensor) -> Tensor:
    """What one node says of one sample: probabilities of its classes, or its single number."""
    return logits if len(logits) == 1 else torch.exp(logits) / torch.exp(logits).sum()


def correlation(first: list[Tensor], second: list[Tensor]) -> float | None:
    """Of two lists of vectors, all their elements together; None where it does not exist."""
    if len(first) < 2:
        return None
    centred = [[x - sum(given) / len(given) for x in given] for given in (first, second)]
    variances = [sum(float(x @ x) for x in given) for given in centred]
    squares = [sum(float(x @ x) for x in given) for given in (first, second)]
    if any(variance <= 1e-12 * square for variance, square in zip(variances, squares)):
        return None
    return sum(float(x @ y) for x, y in zip(*centred)) / math.sqrt(variances[0] * variances[1])


def agreement(logits: Tensor, node_mask: Tensor | None = None, iterations: int = 8) -> Tensor:
    """The r with r_i * r_j nearest to the correlation of i and j over all pairs, by alternating least squares."""
    batch, nodes, _ = logits.shape
    there = [[b for b in range(batch) if node_mask is None or node_mask[b, n]] for n in range(nodes)]
    pairs: dict[tuple[int, int], float] = {}
    for i in range(nodes):
        for j in range(nodes):
            both = [b for b in there[i] if b in there[j]]
            found = correlation([said(logits[b, i]) for b in both], [said(logits[b, j]) for b in both])
            if i != j and found is not None:
                pairs[i, j] = found
    others = [[j for j in range(nodes) if (i, j) in pairs] for i in range(nodes)]
    means = [sum(pairs[i, j] for j in others[i]) / max(len(others[i]), 1) for i in range(nodes)]
    r = [math.sqrt(min(max(mean, 0.0), 1.0)) for mean in means]
    for _ in range(iterations):
        best = []
        for i in range(nodes):
            squares = sum(r[j] ** 2 for j in others[i])
            best.append(sum(pairs[i, j] * r[j] for j in others[i]) / max(squares, torch.finfo(logits.dtype).eps))
        r = [min(max((now + target) / 2, 0.0), 1.0) for now, target in zip(r, best)]
    return torch.tensor(r, dtype=logits.dtype)


def agreement_scores(logits: Tensor, node_mask: Tensor | None = None) -> Tensor:
    """-4 ln(1.01 - r^2): the score of each node as a teacher."""
    return torch.stack([-4 * torch.log(1.01 - r * r) for r in agreement(logits, node_mask)])
