"""The DMD network and its objective in one module with one state dict (Eq. 2 to 9 and 11 of arXiv 2303.13802)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import DistillationGraph, GDOutput, GDUnit, ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss

from .data import Batch
from .model import DMD, DMDOutput


@dataclass
class DistillationConfig:
    """The two GD-Units; every field as in :class:`gdkit.GDUnit`.

    Args:
        scorer: "agreement" (better nodes teach, found without labels from three modalities on), "linear" (the
            paper's), "mlp", "free", or null: equal weights.
        normalize: "target" (the weights into each student sum to 1; with two modalities each is 1) or "graph" (the
            paper's: all sum to 1, which drives them to the two that agree best, and these may be the two worst).
        temperature: of the softmax over the edges.
        distance: between logits: "l1", "l2", "cosine" or "kl"; null: "l1" for regression, "kl" for classes.
        distance_temperature: of "kl".
        feature_distance: the same between features; null: none.
        feature_weight: factor of the feature distances.
        hidden_dim: width of the scorer's projections.
        prior: weight of every edge (source, target) that the learned weights are kept near, in the order of
            edges.csv; null: no prior.
        hetero_prior: the prior of the heterogeneous unit; null: the same one.
        prior_weight: factor of the squared distance to the prior.
        detach_weights: the distances teach the students and never the edges.
        quality_sharpness: above 0, each node's teacher_quality is minus this times its loss on the validation split
            after the epoch before. This reads the validation labels, as the choice of the best epoch does.
    """

    scorer: str | None = "linear"
    normalize: str = "target"
    temperature: float = 1.0
    distance: str | None = None
    distance_temperature: float = 2.0
    feature_distance: str | None = None
    feature_weight: float = 1.0
    hidden_dim: int = 32
    prior: list[float] | None = None
    hetero_prior: list[float] | None = None
    prior_weight: float = 0.0
    detach_weights: bool = False
    quality_sharpness: float = 0.0

    def __post_init__(self) -> None:
        if not self.quality_sharpness >= 0:
            raise ValueError(f"quality_sharpness must be at least 0, got {self.quality_sharpness}")


@dataclass
class TaskConfig:
    """Weights of the objective, total = task + node_weight * nodes + lambda_decoupling * decoupling
    + lambda_distillation * (homogeneous + heterogeneous).

    Args:
        lambda_decoupling: the paper's lambda_1.
        lambda_distillation: the paper's lambda_2.
        gamma: weight of margin and orthogonality inside the decoupling loss.
        reconstruction_weight: further factor of Eq. 2 in the decoupling loss; 0 leaves the term out.
        cycle_weight: the same of Eq. 3.
        margin_weight: the same of Eq. 4.
        orthogonality_weight: the same of Eq. 5.
        margin: alpha of the triplet loss.
        proportional_margin: make that margin proportional to the distance of the labels (regression).
        orthogonality: "hinge", "absolute", "squared" or "signed" (as printed).
        node_weight: weight of the mean task loss of the single modalities' predictions and the joint one, without which
            nothing trains the logits that are distilled.
        distillation: the two GD-Units.
    """

    lambda_decoupling: float = 0.1
    lambda_distillation: float = 0.05
    gamma: float = 0.1
    reconstruction_weight: float = 1.0
    cycle_weight: float = 1.0
    margin_weight: float = 1.0
    orthogonality_weight: float = 1.0
    margin: float = 0.1
    proportional_margin: bool = False
    orthogonality: str = "hinge"
    node_weight: float = 1.0
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def __post_init__(self) -> None:
        factors = [f"{term}_weight" for term in ("reconstruction", "cycle", "margin", "orthogonality", "node")]
        for name in ("lambda_decoupling", "lambda_distillation", "gamma", *factors):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


class DMDTask(nn.Module):
    """A DMD network with everything that trains it.

    Args:
        model: the network; its ``config`` says which parts are on.
        config: weights of the objective.

    One output means regression (mean absolute error), more mean classification (cross-entropy).

    Shape:
        - batch: :class:`dmd.data.Batch`. Unlabelled samples (NaN or -100) count in no task loss and no triplet, and are
          distilled and reconstructed like the others.

    Returns:
        A mapping: "loss" (scalar), "output" (batch,) values or (batch, class) logits, every term ("task", "nodes",
        "reconstruction", "cycle", "margin", "orthogonality", "homogeneous", "heterogeneous"; unweighted scalars),
        "edges" (unit -> (batch, edge) weights, 0 where a sample lacks the edge), "node_losses" (unit -> (batch,
        modality) task losses, 0 where unlabelled or absent), "features" (unit -> modality -> (batch, width)) and
        "present" (batch, modality).
    """

    def __init__(self, model: DMD, config: TaskConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.is_regression = regression = model.num_outputs == 1
        if config.proportional_margin and not regression:
            raise ValueError("proportional_margin needs labels with a distance; classes have none")
        switches = {"homogeneous": model.config.homo_gd, "heterogeneous": model.config.hetero_gd}
        widths = {"homogeneous": model.shared_dim, "heterogeneous": model.private_dim}
        self.units = nn.ModuleDict()
        if len(model.names) > 1:
            graph = DistillationGraph.complete(model.names)
            for name in (unit for unit, is_on in switches.items() if is_on):
                self.units[name] = distillation_unit(config.distillation, name, graph, widths[name], model.num_outputs)
        binning = "round" if regression else None
        for name in self.units if config.distillation.quality_sharpness > 0 else ():
            self.register_buffer(f"{name}_quality", torch.zeros(len(model.names)))
        self.triplets = TripletMarginLoss(config.margin, binning=binning, proportional=config.proportional_margin)
        self.orthogonality = SoftOrthogonalityLoss(config.orthogonality)
        self.reconstruction = ReconstructionLoss()
        self.text_encoder: nn.Module = nn.Identity()  # a dmd.text.TextEncoder where the text is fine-tuned

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Losses and outputs of one batch; see the class."""
        config, batch = self.config, self.text_encoder(batch)
        out: DMDOutput = self.model(batch.inputs, batch.masks)
        names, present = self.model.names, out.present
        terms = {"task": task_loss(out.output, batch.labels)}
        heads = [(out.joint_logits, present.any(dim=1))]
        for logits in (out.shared_logits, out.private_logits):
            heads += [(logits[name], present[:, i]) for i, name in enumerate(names)]
        logits, real = (torch.stack(parts) for parts in zip(*heads, strict=True))  # (head, batch, ...)
        terms["nodes"] = task_loss(logits, batch.labels, real).mean()
        loss = terms["task"] + config.node_weight * terms["nodes"]
        if out.decoupled is not None:
            parts = out.decoupled
            terms["reconstruction"] = self.reconstruction(parts.coupled, parts.reconstruction, parts.masks)  # Eq. 2
            terms["cycle"] = self.reconstruction(parts.private, parts.reencoded, parts.masks)  # Eq. 3
            terms["margin"] = self.triplets(self._stack(out.shared_features), batch.labels, present)  # Eq. 4
            terms["orthogonality"] = self.orthogonality(parts.shared, parts.private, parts.masks)  # Eq. 5
            decoding = config.reconstruction_weight * terms["reconstruction"] + config.cycle_weight * terms["cycle"]
            coupling = config.margin_weight * terms["margin"] + config.orthogonality_weight * terms["orthogonality"]
            loss = loss + config.lambda_decoupling * (decoding + config.gamma * coupling)  # Eq. 6
        read = {
            "homogeneous": (out.shared_logits, out.shared_features),
            "heterogeneous": (out.private_logits, out.private_features),
        }
        edges: dict[str, Tensor] = {}
        for name, unit in self.units.items():
            quality = getattr(self, f"{name}_quality", None)
            distilled: GDOutput = unit(*read[name], node_mask=present, teacher_quality=quality)
            terms[name] = distilled.loss  # Eq. 7 to 9
            loss = loss + config.lambda_distillation * distilled.loss  # Eq. 11
            edges[name] = distilled.weights.detach()
        output = out.output[:, 0] if self.is_regression else out.output
        features = {name: features for name, (_, features) in read.items()}
        results = {"loss": loss, "output": output, **terms, "edges": edges, "features": features, "present": present}
        return results | {"node_losses": {name: node_losses(read[name][0], batch.labels, present) for name in edges}}

    def set_quality(self, node_losses: Mapping[str, Sequence[float]]) -> None:
        """Take each node's loss, unit -> one number a modality, as how bad a teacher it is; see DistillationConfig.

        A modality without a loss (NaN: no labelled sample has it) gets the mean of the others.
        """
        if self.config.distillation.quality_sharpness == 0:
            return
        for name, losses in node_losses.items():
            buffer = getattr(self, f"{name}_quality")
            values = torch.tensor(losses, dtype=buffer.dtype)
            values = torch.where(values.isnan(), values.nanmean().nan_to_num(), values)
            buffer.copy_(-self.config.distillation.quality_sharpness * values)

    def _stack(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([features[name] for name in self.model.names], dim=1)  # (batch, modality, dim)


def sample_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error or cross-entropy of each sample, (..., batch), of logits (..., batch, num_outputs) of one head or
    more, and which samples are labelled, (batch,)."""
    if labels.is_floating_point():
        return (logits.squeeze(-1) - labels.nan_to_num()).abs(), ~labels.isnan()
    losses = F.cross_entropy(
        logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(logits.shape[:-1]), labels != -100


@torch.no_grad()
def node_losses(logits: Mapping[str, Tensor], labels: Tensor, present: Tensor) -> Tensor:
    """Loss of each modality's own prediction, (batch, modality); 0 where the sample is unlabelled or lacks it."""
    losses, labelled = sample_losses(torch.stack([*logits.values()]), labels)
    return torch.where(labelled[:, None] & present, losses.T, 0.0)


def task_loss(logits: Tensor, labels: Tensor, real: Tensor | None = None) -> Tensor:
    """Mean absolute error or cross-entropy over the labelled samples that are real; 0 without any.

    Shape:
        - logits: (..., batch, num_outputs), of one head or more; labels: (batch,); real: (..., batch); returns (...).
    """
    losses, labelled = sample_losses(logits, labels)
    counted = labelled if real is None else labelled & real
    return torch.where(counted, losses, 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def distillation_unit(
    config: DistillationConfig, name: str, graph: DistillationGraph, feature_dim: int, logit_dim: int
) -> GDUnit:
    """The GD-Unit of this name that a configuration describes; one logit means regression."""
    prior = config.hetero_prior if name == "heterogeneous" and config.hetero_prior is not None else config.prior
    return GDUnit(
        graph,
        feature_dim,
        logit_dim,
        config.hidden_dim,
        scorer=config.scorer,
        normalize=config.normalize,
        temperature=config.temperature,
        distance=config.distance or ("l1" if logit_dim == 1 else "kl"),
        distance_temperature=config.distance_temperature,
        feature_distance=config.feature_distance,
        feature_weight=config.feature_weight,
        prior=prior,
        prior_weight=config.prior_weight,
        detach_weights=config.detach_weights,
    )
