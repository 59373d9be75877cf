"""Training of one row, all seeds at once: parameters, samples and GD-Units carry the seed as their first axis.

Seeds share no number: the sum of their losses has the gradient of each alone, and Adam works on each number by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.edges_study.data import Samples, Study
from benchmarks.edges_study.rows import Row
from gdkit import DistillationGraph, GDUnit

PLENTY = 128  # labelled samples in a step where there are more than FEW
FEW = 200  # labels that fit into one step
HELD_OUT = 0.4  # share of the labels that a row with "validation" sets aside from its own budget


def stacked(make: object, seeds: Sequence[int]) -> list[Tensor]:
    """Parameters of one module a seed, drawn by that seed, as leaves (seed, ...)."""
    modules = []
    for seed in seeds:
        torch.manual_seed(seed)
        modules.append(make())
    groups = zip(*(module.parameters() for module in modules))
    return [torch.stack([parameter.detach() for parameter in group]).requires_grad_() for group in groups]


def forward(networks: dict[str, list[Tensor]], inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (seed, batch, node, class) and features (seed, batch, node, hidden) of one-hidden-layer networks."""
    logits, features = [], []
    for name, (weight, bias, out_weight, out_bias) in networks.items():
        features.append(torch.baddbmm(bias[:, None], inputs[name], weight.mT).relu())
        logits.append(torch.baddbmm(out_bias[:, None], features[-1], out_weight.mT))
    return torch.stack(logits, dim=2), torch.stack(features, dim=2)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of every seed and node, (seed, node)."""
    labels = labels[:, :, None].expand(logits.shape[:3])
    return F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none").view(logits.shape[:3]).mean(1)


def label_free(kind: str, logits: Tensor) -> Tensor:
    """Quality from what the nodes say: (seed, batch, node), or (seed, node)."""
    logs = logits.log_softmax(dim=-1)
    if kind == "confidence":  # minus the entropy
        return (logs.exp() * logs).sum(-1)
    consensus = logs.exp().mean(dim=2, keepdim=True)  # "consensus": minus the cross-entropy to it
    return (consensus * logs).sum(-1).mean(1)


class Batches:
    """The labelled and unlabelled samples of each step, the same for every row."""

    def __init__(self, study: Study, row: Row, seeds: Sequence[int]) -> None:
        self.study, size = study, study.labelled.labels.shape[1]
        self.drawn, held_out = row.drawn or study.drawn, row.quality.startswith("validation")
        self.kept = size - round(HELD_OUT * size) if held_out else size
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(self, size: int, count: int) -> Tensor:
        """Positions, (seed, count)."""
        return torch.stack([torch.randint(size, (count,), generator=generator) for generator in self.generators])

    def __call__(self, all_labels: bool) -> tuple[Samples, Samples]:
        study, few = self.study, self.study.labelled.labels.shape[1] <= FEW
        kept = study.labelled.labels.shape[1] if all_labels else self.kept
        labelled = study.labelled[slice(0, kept)] if few else study.labelled[self.draw(kept, PLENTY)]
        if not few:
            return labelled, labelled
        drawn = study.unlabelled[self.draw(study.unlabelled.labels.shape[1], self.drawn)]
        every = {name: torch.cat([x, drawn.inputs[name]], dim=1) for name, x in labelled.inputs.items()}
        return labelled, Samples(every, drawn.labels)


def train(study: Study, row: Row, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Test accuracy of every node, and its share of the weight over the last tenth of the steps: (seed, node) twice."""
    names, held_out = tuple(study.test.inputs), row.quality.startswith("validation")
    graph, hidden, classes = DistillationGraph.complete(names), study.hidden, study.num_classes

    def network(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, hidden), nn.Linear(hidden, classes))

    def make_unit() -> GDUnit:
        options = {"normalize": row.normalize, "detach_weights": row.detach_weights}
        temperature = 4 / row.sharpness if row.scorer == "agreement" else 1.0
        options |= {"scorer": row.scorer, "temperature": temperature, "distance": "kl", "distance_temperature": 2.0}
        return GDUnit(graph, hidden, classes, hidden_dim=32, **options)

    networks = {name: stacked(lambda x=x: network(x.shape[-1]), seeds) for name, x in study.test.inputs.items()}
    unit, learned = make_unit(), stacked(make_unit, seeds)
    keys = [name for name, _ in unit.named_parameters()]

    def distil(parameters: list[Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:  # of one seed
        logits, features, *quality = inputs
        arguments = {"teacher_quality": quality[0] if quality else None}
        out = torch.func.functional_call(unit, dict(zip(keys, parameters)), (logits, features), arguments)
        return out.loss, out.weights.mean(dim=0)

    factor = row.weight * study.total_weight / (len(names) if row.normalize == "target" else 1)
    parameters = [parameter for group in networks.values() for parameter in group]
    optimizer = torch.optim.Adam([*parameters, *learned], lr=2e-3, fused=True)
    batches, running, late_weights = Batches(study, row, seeds), None, []
    for step in range(study.steps):
        all_labels = row.quality.endswith("all labels") and step >= study.steps // 2
        labelled, every = batches(all_labels)
        logits, features = forward(networks, every.inputs)
        losses = cross_entropy(logits[:, : labelled.labels.shape[1]], labelled.labels)  # (seed, node)
        loss = losses.sum()
        measured = None
        if held_out and not all_labels:
            aside = study.labelled[slice(batches.kept, batches.kept + 256)]
            with torch.no_grad():
                measured = -cross_entropy(forward(networks, aside.inputs)[0], aside.labels)
        elif row.quality == "training":
            measured = -losses.detach()
        elif row.quality in ("confidence", "consensus"):
            running = label_free(row.quality, logits.detach())
        if measured is not None:
            running = measured if running is None else 0.9 * running + 0.1 * measured
        start = row.warm_up * study.steps
        rise = 1.0 if not start else float(step >= start) if row.late else min(1.0, step / start)
        if row.weight:
            quality = () if running is None else ((1.0 if row.scorer == "agreement" else row.sharpness) * running,)
            values, weights = torch.func.vmap(distil)(learned, logits, features, *quality)
            loss = loss + factor * rise * values.sum()
            if step >= 0.9 * study.steps - 1:
                late_weights.append(weights.detach())  # (seed, edge)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = forward(networks, study.test.inputs)[0].argmax(dim=-1) == study.test.labels[..., None]
    taught = (
        graph.matrix(torch.stack(late_weights).mean(0)).sum(-1) if late_weights else torch.zeros(len(seeds), len(names))
    )
    return right.float().mean(dim=1), taught / taught.sum(dim=1, keepdim=True).clamp(min=1e-9)
