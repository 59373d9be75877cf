"""The DMD network and its objective in one module with one state dict (Eq. 2 to 9 and 11 of arXiv 2303.13802)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gdkit import DistillationGraph, GDOutput, GDUnit, ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss

from .data import Batch
from .global_batch import losses_see
from .model import DMD, DMDOutput
from .task_losses import node_losses, task_loss


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
        global_losses: in training, losses see the samples of all processes, see :mod:`dmd.global_batch`; every process
            must then call at the same time.

    One output means regression (mean absolute error), more mean classification (cross-entropy).

    Shape:
        - batch: :class:`dmd.data.Batch`. Unlabelled samples (NaN or -100) count in no task loss and no triplet, and are
          distilled and reconstructed like the others.

    Returns:
        A mapping: "loss" (scalar), "output" (batch,) values or (batch, class) logits, every term ("task", "nodes",
        "reconstruction", "cycle", "margin", "orthogonality", "homogeneous", "heterogeneous"; unweighted scalars),
        "edges" (unit -> (batch, edge) weights, 0 where a sample lacks the edge), "node_losses" (unit -> (batch,
        modality) task losses, 0 where unlabelled or absent), "features" (unit -> modality -> (batch, width)) and
        "present" (batch, modality). All but the loss and its terms is of this process's own samples.
    """

    def __init__(self, model: DMD, config: TaskConfig, *, global_losses: bool = False) -> None:
        super().__init__()
        self.model, self.config, self.global_losses = model, config, global_losses
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
        own: DMDOutput = self.model(batch.inputs, batch.masks)
        parts, seen = own.decoupled, losses_see(batch.index, everything=self.global_losses and self.training)
        rows = (own._replace(decoupled=None), batch.labels)  # sequences stay where they are
        out, labels = seen.gather(rows, None if parts is None else parts.masks)
        names, present = self.model.names, out.present
        terms = {"task": task_loss(out.output, labels)}
        heads = [(out.joint_logits, present.any(dim=1))]
        for logits in (out.shared_logits, out.private_logits):
            heads += [(logits[name], present[:, i]) for i, name in enumerate(names)]
        logits, real = (torch.stack(parts) for parts in zip(*heads, strict=True))  # (head, batch, ...)
        terms["nodes"] = task_loss(logits, labels, real).mean()
        loss = terms["task"] + config.node_weight * terms["nodes"]
        if parts is not None:
            sequences = (parts.coupled, parts.reconstruction, parts.masks)
            terms["reconstruction"] = seen.over_steps(self.reconstruction, *sequences)  # Eq. 2
            terms["cycle"] = seen.over_steps(self.reconstruction, parts.private, parts.reencoded, parts.masks)  # Eq. 3
            terms["margin"] = self.triplets(self._stack(out.shared_features), labels, present)  # Eq. 4
            sequences = (parts.shared, parts.private, parts.masks)
            terms["orthogonality"] = seen.over_steps(self.orthogonality, *sequences)  # Eq. 5
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
            edges[name] = seen.own(distilled.weights.detach())
        output = own.output[:, 0] if self.is_regression else own.output
        logits = {"homogeneous": own.shared_logits, "heterogeneous": own.private_logits}
        losses = {name: node_losses(logits[name], batch.labels, own.present) for name in edges}
        features = {"homogeneous": own.shared_features, "heterogeneous": own.private_features}
        found = {"edges": edges, "node_losses": losses, "features": features, "present": own.present}
        return {"loss": loss, "output": output, **terms, **found}

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
