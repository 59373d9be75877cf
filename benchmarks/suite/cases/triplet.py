"""The margin loss of Eq. 4 over all triplets, at N (sample, node) pairs: 48 is the published batch of 16."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import naive
from benchmarks.suite.point import Call, Point, Provider, Settings, Skipped, Work, by_mode, differentiable, skipped
from gdkit import functional as GF

NODES, DIM, MARGIN = 3, 50, 0.1
LOOPS_TO = 48  # pairs: the plain loop has thousands of triplets there already


def by_anchors(features: Tensor, labels: Tensor) -> Tensor:
    """One anchor after the other; its positives and negatives as one table."""
    units = F.normalize(features, dim=-1).transpose(0, 1).flatten(0, 1)  # (pair, dim)
    similarity = units @ units.T
    of_pair, node = labels.repeat(NODES), torch.arange(NODES, device=labels.device).repeat_interleave(len(labels))
    total, count = similarity.new_zeros(()), 0
    for i in range(len(units)):
        same = of_pair == of_pair[i]
        positives, negatives = similarity[i, same & (node != node[i])], similarity[i, ~same & (node == node[i])]
        total = total + F.relu(MARGIN - positives[:, None] + negatives[None, :]).sum()
        count += positives.numel() * negatives.numel()
    return total / max(count, 1)


def metric_learning_provider(features: Tensor, labels: Tensor) -> Provider:
    """pytorch-metric-learning with all triplets of Eq. 4, which are listed as it lists its own: through an N^3 mask."""

    def provider(mode: str) -> Call:
        try:
            from pytorch_metric_learning import distances, losses, reducers
        except ImportError as error:
            raise Skipped("pytorch-metric-learning is not installed") from error
        cosine, mean = distances.CosineSimilarity(), reducers.MeanReducer()
        loss = losses.TripletMarginLoss(MARGIN, distance=cosine, reducer=mean)

        def call(features: Tensor) -> Tensor:
            pairs = features.transpose(0, 1).flatten(0, 1)
            of_pair = labels.repeat(NODES)
            node = torch.arange(NODES, device=labels.device).repeat_interleave(len(labels))
            same, own_node = of_pair[:, None] == of_pair, node[:, None] == node
            listed = torch.where((same & ~own_node)[:, :, None] & (~same & own_node)[:, None, :])
            return loss(pairs, of_pair, listed)

        return differentiable(call, [features])(mode)

    return provider


def points(settings: Settings) -> Iterator[Point]:
    """Three nodes 50 wide, seven classes as labels in [-3, 3] have them."""
    for num_pairs in (12,) if settings.quick else (48, 192, 768):
        batch = num_pairs // NODES
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(batch, NODES, DIM, generator=generator).to(settings.device)
        labels = torch.randint(-3, 4, (batch,), generator=generator).to(settings.device)

        def plain(features: Tensor, labels: Tensor = labels) -> Tensor:
            return naive.triplet_margin_loss(features, labels, MARGIN)

        def anchors(features: Tensor, labels: Tensor = labels) -> Tensor:
            return by_anchors(features, labels)

        def ours(features: Tensor, labels: Tensor = labels) -> Tensor:
            return GF.triplet_margin_loss(features, labels, MARGIN)

        providers = {
            "loop over triplets": differentiable(plain, [features])
            if num_pairs <= LOOPS_TO
            else skipped(f"above {LOOPS_TO} pairs it takes minutes"),
            "loop over anchors": differentiable(anchors, [features]),
            "pytorch-metric-learning": metric_learning_provider(features, labels),
            "gdkit": differentiable(ours, [features]),
        }
        # All similarities, whose product has two gradients; features in, their gradients out.
        product, moved = 2 * num_pairs**2 * DIM, 4 * num_pairs * DIM
        work = by_mode(Work(product, 0, moved), Work(2 * product, 0, 2 * moved))
        sizes = {"pairs": num_pairs, "batch": batch, "nodes": NODES, "dim": DIM}
        yield Point("pairs", str(num_pairs), sizes, providers, "loop over anchors", work)
