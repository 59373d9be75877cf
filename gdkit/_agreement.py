"""Who is right, judged without labels: one factor behind the correlations between what the nodes say."""

from __future__ import annotations

import torch
from torch import Tensor

from gdkit import _check

ITERATIONS = 8  # the factor's error halves in each, from a start that is close
SHARPNESS = 4.0  # of a GDUnit's scores; benchmarks/edges.py compares 1 to 8: 1 and 2 are too soft, 8 is as good


def agreement(logits: Tensor, node_mask: Tensor | None = None) -> Tensor:
    r"""Correlation of every node with the truth, estimated from how the nodes correlate with each other.

    .. math:: \operatorname{corr}(p_i, p_j) \approx r_i\, r_j \qquad (i \neq j)

    Where nodes err independently, what two of them have in common is the truth, so that their correlation is the
    product of their correlations with it. Three nodes or more tell the factors apart; of two nodes both get the same.
    :math:`p` are the probabilities, softmax(logits), or the number itself where there is one logit; the correlation is
    taken over the samples that have both nodes and over all classes together, :math:`r` by alternating least squares.

    Args:
        logits: of the nodes; no gradient goes through them.
        node_mask: True where the node is present.

    Shape:
        - logits: (batch, node, logit_dim); node_mask: (batch, node); returns (node), float32 or wider, in [0, 1]; 0 for
          a node that always says the same, or shares fewer than two samples with every other.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape disagrees.

    Example:
        >>> truth, noise = torch.randn(4000, 1, 1), torch.randn(4000, 3, 1)
        >>> r = agreement(truth + torch.tensor([0.5, 1.0, 2.0])[:, None] * noise)  # in truth .89, .71, .45
        >>> (r - torch.tensor([0.89, 0.71, 0.45])).abs().max() < 0.1
        tensor(True)

    References:
        Estimating Accuracy from Unlabeled Data, UAI 2014; Ranking and combining multiple predictors without labeled
        data, arXiv 1303.3257.
    """
    _check.check_real("agreement", "logits", logits, ["batch", "node", "dim"])
    x = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    there = torch.ones_like(x[..., 0])
    if node_mask is not None:
        node_mask = _check.check_mask("agreement", "node_mask", node_mask, x.shape[:2])
        there, x = there * node_mask, torch.where(node_mask[..., None], x, 0.0)
    x = (x.softmax(dim=-1) if x.shape[-1] > 1 else x) * there[..., None]
    own = there.sum(dim=0).clamp(min=1)[:, None]  # (node, 1)
    scale = (x.square().sum(dim=0) / own).sum(dim=-1)  # (node,)
    x = (x - x.sum(dim=0) / own) * there[..., None]  # centred, so that nothing cancels in the products below

    # Sums of products, not matrix products, which autocast would round to half precision.
    both = (there[:, :, None] * there[:, None])[..., None]  # (batch, node, node, 1)
    count = both.sum(dim=0)  # (node, node, 1)
    first, samples = x[:, :, None], count.clamp(min=1)
    mean = (both * first).sum(dim=0) / samples  # (node, node, dim), of i over the samples that have j as well
    covariance = ((first * x[:, None]).sum(dim=0) / samples - mean * mean.transpose(0, 1)).sum(dim=-1)
    variance = ((both * first.square()).sum(dim=0) / samples - mean.square()).sum(dim=-1)
    varies = variance > torch.finfo(x.dtype).eps ** 1.5 * scale[:, None]  # more than rounding
    pairs = (count[..., 0] > 1) & varies & varies.T & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    correlation = covariance / torch.where(pairs, variance * variance.T, 1.0).sqrt()
    correlation = torch.where(pairs, correlation, 0.0)  # (node, node)

    pairs = pairs.to(x.dtype)
    r = (correlation.sum(dim=1) / pairs.sum(dim=1).clamp(min=1)).clamp(0, 1).sqrt()
    for _ in range(ITERATIONS):
        best = (correlation * r).sum(dim=1) / (pairs * r.square()).sum(dim=1).clamp(min=torch.finfo(x.dtype).eps)
        r = ((r + best) / 2).clamp(0, 1)
    return r


def agreement_scores(logits: Tensor, node_mask: Tensor | None) -> Tensor:
    """Score of every node as a teacher: log-precision of its answers given the truth, (node,)."""
    return -SHARPNESS * (1.01 - agreement(logits, node_mask).square()).log()
