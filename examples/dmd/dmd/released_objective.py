"""The objective of the published DMD program, rebuilt from gdkit's losses; every quirk is an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gdkit import DistillationGraph, GDOutput, GDUnit, ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss
from gdkit import functional as GF

from .data import Batch
from .released_network import NAMES, ReleasedNetwork, ReleasedOutput
from .task_losses import task_loss

# The published program lists its edges by student; gdkit's graph by teacher.
PUBLISHED_EDGES = (
    ("vision", "language"),
    ("acoustic", "language"),
    ("language", "vision"),
    ("acoustic", "vision"),
    ("language", "acoustic"),
    ("vision", "acoustic"),
)
GRAPH = DistillationGraph.complete(NAMES)
# Position in a graph's edges of each published edge.
PUBLISHED_ORDER = [GRAPH.edges.index(edge) for edge in PUBLISHED_EDGES]


def favouring_prior(favoured: list[float]) -> list[float]:
    """Softmax of the favoured edges at temperature 0.25, from published order to the graph's."""
    weights = (torch.tensor(favoured, dtype=torch.float64) / 0.25).softmax(0).tolist()
    return [weights[PUBLISHED_EDGES.index(edge)] for edge in GRAPH.edges]


@dataclass
class ReleasedObjective:
    """Weights and quirks of the published objective; the defaults are its settings.

    Args:
        lambda_decoupling, lambda_distillation, gamma: as in :class:`dmd.task.TaskConfig`; the eight task losses are
            summed.
        margin: of the margin loss, times the distance of two labels.
        margin_pairs: "all": every other (sample, modality) pair with the anchor's label is a positive, every pair with
            another label a negative, whatever their modalities, and equal labels are a class; "paper": Eq. 4 with
            labels rounded to classes.
        orthogonality_axis: of the cosine between shared and private features: "batch" or "feature" (Eq. 5).
        temperature: of the softmax over the edges.
        homogeneous_prior, heterogeneous_prior: weight of every edge, in the order of ``GRAPH.edges``; the default
            steers both graphs towards what language teaches.
        prior_weight: factor of the squared distance of the mean weights to the prior.
        add_prior: the prior is also added to the learned weights.
        homogeneous_repr: factor of the distances between the features in the homogeneous graph. The published program
            computes them with 10, and leaves them out.
        heterogeneous_repr: factor of the term that pushes the features of student and teacher apart.
    """

    lambda_decoupling: float = 0.1
    lambda_distillation: float = 0.05
    gamma: float = 0.1
    margin: float = 0.15
    margin_pairs: Literal["all", "paper"] = "all"
    orthogonality_axis: Literal["batch", "feature"] = "batch"
    temperature: float = 8.0
    homogeneous_prior: list[float] | None = field(default_factory=lambda: favouring_prior([0, 0, 1, 0, 1, 0]))
    heterogeneous_prior: list[float] | None = field(default_factory=lambda: favouring_prior([0, 0, 1, 0, 1, 1]))
    prior_weight: float = 10.0
    add_prior: bool = True
    homogeneous_repr: float = 0.0
    heterogeneous_repr: float = 10.0


class ReleasedTask(nn.Module):
    """The published network with its objective in one module; used like :class:`dmd.task.DMDTask`.

    Args:
        model: the network.
        config: weights and quirks of the objective.

    Shape:
        - batch: :class:`dmd.data.Batch` of regression; the masks only say which modalities a sample has. Unlabelled
          samples (NaN) count in no task loss and in no margin.

    Returns:
        A mapping as :class:`dmd.task.DMDTask` returns it. "nodes" is the sum of the seven task losses beside "task".
    """

    def __init__(self, model: ReleasedNetwork, config: ReleasedObjective) -> None:
        super().__init__()
        self.model, self.config, self.is_regression = model, config, True
        sizes = model.config

        def unit(feature_dim: int, hidden_dim: int, prior: list[float] | None) -> GDUnit:
            return GDUnit(
                GRAPH,
                feature_dim,
                1,
                hidden_dim,
                temperature=config.temperature,
                prior=prior,
                prior_weight=config.prior_weight,
            )

        self.units = nn.ModuleDict(
            {
                "homogeneous": unit(sizes.dim, sizes.homogeneous_dim, config.homogeneous_prior),
                "heterogeneous": unit(2 * sizes.dim, sizes.heterogeneous_dim, config.heterogeneous_prior),
            }
        )
        self.triplets = TripletMarginLoss(config.margin, binning="round", proportional=True)
        self.orthogonality = SoftOrthogonalityLoss("hinge")
        self.reconstruction = ReconstructionLoss()
        self.text_model: nn.Module | None = None  # a dmd.released_text.ReleasedText where the checkpoint has a BERT

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Losses and outputs of one batch; see the class."""
        text = {} if self.text_model is None else {"language": self.text_model(batch)}
        out: ReleasedOutput = self.model({**batch.inputs, **text})
        config, labels = self.config, batch.labels
        parts = out.decoupled
        heads = [out.joint_logits, *out.shared_logits.values(), *out.private_logits.values()]
        terms = {
            "task": task_loss(out.output, labels),
            "nodes": task_loss(torch.stack(heads), labels).sum(),
            "reconstruction": self.reconstruction(parts.coupled, parts.reconstruction),
            "cycle": self.reconstruction(parts.private, parts.reencoded),
            "margin": self._margin(out.aligned, labels),
            "orthogonality": self._orthogonality(parts.shared, parts.private),
        }
        features = {"homogeneous": out.shared_features, "heterogeneous": out.private_features}
        logits = {"homogeneous": out.shared_logits, "heterogeneous": out.private_logits}
        edges: dict[str, Tensor] = {}
        for name in self.units:
            distilled, weights, edges[name] = self._distil(name, logits[name], features[name])
            factor = getattr(config, f"{name}_repr")
            apart = factor * self._repr_term(name, features[name], weights) if factor else 0.0
            terms[name] = distilled["logit"] + distilled["prior"] + apart
        coupling = config.gamma * (terms["margin"] + terms["orthogonality"])
        decoupling = terms["reconstruction"] + terms["cycle"] + coupling
        distillation = terms["homogeneous"] + terms["heterogeneous"]
        loss = terms["task"] + terms["nodes"] + config.lambda_decoupling * decoupling
        loss = loss + config.lambda_distillation * distillation
        present = torch.stack([batch.masks[name].any(dim=1) for name in NAMES], dim=1)
        found = {"edges": edges, "features": features, "present": present}
        return {"loss": loss, "output": out.output[:, 0], **terms, **found}

    def distillation_terms(self, out: ReleasedOutput) -> dict[str, dict[str, Tensor]]:
        """Every distillation term by unit: "logit", "prior", and "repr" with the factor 10 that both have published."""
        found: dict[str, dict[str, Tensor]] = {}
        for name in self.units:
            shared = name == "homogeneous"
            logits = out.shared_logits if shared else out.private_logits
            features = out.shared_features if shared else out.private_features
            terms, weights, edges = self._distil(name, logits, features)
            found[name] = terms | {"repr": 10 * self._repr_term(name, features, weights), "edges": edges}
        return found

    def _distil(
        self, name: str, logits: Mapping[str, Tensor], features: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Terms, the weights that the distances get, and the learned weights alone."""
        unit = self.units[name]
        out: GDOutput = unit(logits, features)
        weights, terms = out.weights, dict(out.terms)
        if self.config.add_prior and unit.prior is not None:
            weights = weights + unit.prior  # pyright: ignore[reportOperatorIssue]
            terms["logit"] = GF.graph_distillation_loss(weights, out.distances)
        return terms, weights, out.weights.detach()

    def _repr_term(self, name: str, features: Mapping[str, Tensor], weights: Tensor) -> Tensor:
        """Distances of the features along the edges, or, in the heterogeneous graph, how much they agree."""
        stacked = torch.stack([features[node] for node in NAMES], dim=1)  # (batch, node, dim)
        if name == "homogeneous":
            return GF.graph_distillation_loss(weights, GF.edge_distances(stacked, self.units[name].edge_index))
        agreement = (1 - GF.edge_distances(stacked, self.units[name].edge_index, "cosine")).relu()  # (batch, edge)
        return (weights.mean(dim=0) * agreement.mean(dim=0)).sum()

    def _margin(self, aligned: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        if self.config.margin_pairs == "paper":
            return self.triplets(aligned, labels)
        features = torch.cat([aligned[name] for name in NAMES])  # (pair, dim)
        return label_distance_margin(features, labels.repeat(len(NAMES)), self.config.margin)

    def _orthogonality(self, shared: Mapping[str, Tensor], private: Mapping[str, Tensor]) -> Tensor:
        if self.config.orthogonality_axis == "feature":
            return self.orthogonality(shared, private)
        moved = [{name: x.movedim(0, -1) for name, x in part.items()} for part in (shared, private)]
        return self.orthogonality(*moved)  # each (time, dim, batch)


def label_distance_margin(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The published margin loss: a mean over positives and negatives of each anchor, then a mean over the anchors.

    Features are (pair, dim), labels (pair,).
    An anchor's positives are all other pairs with its label, its negatives all pairs with another one.
    """
    units = nn.functional.normalize(features, dim=-1)
    cosine = units @ units.T  # (pair, pair)
    labelled = ~labels.isnan()
    values = labels.nan_to_num()
    same = values[:, None] == values[None, :]
    both = labelled[:, None] & labelled[None, :]
    positive = same & both & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    negative = ~same & both
    bound = cosine + margin * (values[:, None] - values[None, :]).abs()  # (anchor, negative)
    hinges = (bound[:, None, :] - cosine[:, :, None]).relu()  # (anchor, positive, negative)
    counted = positive[:, :, None] & negative[:, None, :]
    count = counted.sum(dim=(1, 2))
    per_anchor = torch.where(counted, hinges, 0.0).sum(dim=(1, 2)) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)
