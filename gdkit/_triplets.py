"""The mean over all triplets of Eq. 4 without a list of triplets: per anchor, a hinge sum between two sorted lists."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gdkit._distances import unit_vectors


def mean_triplet_hinge(
    features: Tensor, labels: Tensor, margin: float, real: Tensor, label_values: Tensor | None
) -> Tensor:
    r"""Mean hinge over S, and 0 where S is empty; arguments as in :func:`gdkit.functional.triplet_margin_loss`.

    An anchor with positives :math:`s_p` and negatives' bounds :math:`u_n = s_n + \alpha_n` adds
    :math:`\sum_n \sum_p \max(0, u_n - s_p) = \sum_n (c_n u_n - C(c_n))`, where :math:`c_n` counts the positives below
    :math:`u_n` and :math:`C` is the running sum of the sorted positives.

    Shape:
        - features: (batch, node, dim); labels, label_values: (batch); real: (batch, node); returns a scalar.
    """
    batch, num_nodes, _ = features.shape
    real = real.T.reshape(-1)  # (pair,): pair p is node p // batch of sample p % batch
    units = unit_vectors(torch.where(real[:, None], features.transpose(0, 1).flatten(0, 1), 0.0))  # (pair, dim)
    similarity = units @ units.T  # (pair, pair), in 16 bits also under autocast
    if similarity.dtype != torch.float64:
        similarity = similarity.float()  # sums over all pairs overflow float16
    margins = similarity.new_full((batch, batch), margin)
    if label_values is not None:
        # A NaN label is in no triplet, but 0 * NaN would still poison the sum.
        values = torch.nan_to_num(label_values).to(similarity.dtype)
        margins = margin * (values[:, None] - values[None, :]).abs()

    node = torch.arange(num_nodes, device=labels.device).repeat_interleave(batch)  # (pair,)
    same_class = labels[:, None] == labels[None, :]  # (batch, batch)
    both_real = real[:, None] & real[None, :]
    positive = same_class.repeat(num_nodes, num_nodes) & (node[:, None] != node[None, :]) & both_real  # (pair, pair)
    # Negatives live in the anchor's own node: of each row only that node's block of columns is wanted.
    own_node = node[:, None] * batch + torch.arange(batch, device=labels.device)  # (pair, batch)
    negative = ~same_class.repeat(num_nodes, 1) & both_real.gather(1, own_node)  # (pair, batch)

    bound = similarity.gather(1, own_node) + margins.repeat(num_nodes, 1)  # (pair, batch)
    ordered = torch.where(positive, similarity, torch.inf).sort(dim=1).values
    running = F.pad(torch.where(ordered.isinf(), 0.0, ordered).cumsum(1), (1, 0))  # (pair, pair + 1)
    below = torch.searchsorted(ordered.detach(), bound.detach())  # (pair, batch)
    hinges = below * bound - running.gather(1, below)
    total = torch.where(negative, hinges, 0.0).sum()
    count = (positive.sum(1) * negative.sum(1)).sum()  # |S|
    return (total / count.clamp(min=1)).to(features.dtype)
