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
LOOPS_TO, RIVALS_TO = 48, 768  # pairs: the plain loop has thousands of triplets at 48 already, N^3 is 4e8 at 768


def by_anchors(features: Tensor, labels: Tensor, label_values: Tensor | None = None) -> Tensor:
    """One anchor after the other; its positives and negatives as one table."""
    units = F.normalize(features, dim=-1).transpose(0, 1).flatten(0, 1)  # (pair, dim)
    similarity = units @ units.T
    of_pair, node = labels.repeat(NODES), torch.arange(NODES, device=labels.device).repeat_interleave(len(labels))
    total, count = similarity.new_zeros(()), 0
    for i in range(len(units)):
        same = of_pair == of_pair[i]
        is_negative = ~same & (node == node[i])
        positives, negatives = similarity[i, same & (node != node[i])], similarity[i, is_negative]
        margins: float | Tensor = MARGIN
        if label_values is not None:
            values = label_values.repeat(NODES)
            margins = MARGIN * (values[i] - values[is_negative]).abs()
        total = total + F.relu(margins - positives[:, None] + negatives[None, :]).sum()
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


def published_provider(features: Tensor, labels: Tensor, settings: Settings) -> Provider:
    """The published program's loop over anchors, whose margin grows with the distance of the labels.

    What it computes is no mean over the triplets of Eq. 4: it takes all pairs, whatever their node, and means within
    each anchor first. So it answers in another shape, by which no difference from the others is taken.
    """

    def provider(mode: str) -> Call:
        if settings.published is None:
            raise Skipped("--published was not given")
        from benchmarks.suite.cases.step import published_modules

        loss = published_modules(settings.published)["training"].HingeLoss()
        of_pair = labels.repeat(NODES)

        def call(pairs: Tensor) -> Tensor:
            return loss(of_pair, pairs)[None]

        return differentiable(call, [features.transpose(0, 1).flatten(0, 1)])(mode)

    return provider


def points(settings: Settings) -> Iterator[Point]:
    """Three nodes 50 wide, seven classes as labels in [-3, 3] have them; a constant margin, and one of the labels."""
    for num_pairs in (12,) if settings.quick else (48, 192, 768, 4095):
        for sweep in ("pairs", "pairs, label-distance margin"):
            yield point(sweep, num_pairs, settings)


def point(sweep: str, num_pairs: int, settings: Settings) -> Point:
    """All providers at one number of pairs."""
    batch = num_pairs // NODES
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, NODES, DIM, generator=generator).to(settings.device)
    labels = torch.randint(-3, 4, (batch,), generator=generator).to(settings.device)
    values = None if sweep == "pairs" else labels.float()
    providers = {
        "loop over triplets": differentiable(
            lambda x: naive.triplet_margin_loss(x, labels, MARGIN, label_values=values), [features]
        )
        if num_pairs <= LOOPS_TO
        else skipped(f"above {LOOPS_TO} pairs it takes minutes"),
        "loop over anchors": differentiable(lambda x: by_anchors(x, labels, values), [features]),
        "gdkit": differentiable(lambda x: GF.triplet_margin_loss(x, labels, MARGIN, label_values=values), [features]),
    }
    if values is None:
        providers["pytorch-metric-learning"] = metric_learning_provider(features, labels)
    else:
        providers["published program"] = published_provider(features, labels, settings)
    if num_pairs > RIVALS_TO:
        why = f"above {RIVALS_TO} pairs it takes minutes or tens of gigabytes"
        providers |= {name: skipped(why) for name in set(providers) - {"loop over triplets", "gdkit"}}
    # All similarities, whose product has two gradients; features in, their gradients out.
    product, moved = 2 * num_pairs**2 * DIM, 4 * num_pairs * DIM
    work = by_mode(Work(product, 0, moved), Work(2 * product, 0, 2 * moved))
    sizes = {"pairs": num_pairs, "batch": batch, "nodes": NODES, "dim": DIM}
    return Point(sweep, str(num_pairs), sizes, providers, "loop over anchors", work)
