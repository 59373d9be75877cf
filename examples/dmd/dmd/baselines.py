"""The networks that DMD is compared with, trained by the same runs: same input, same masks, same budget.

"transformer": one self-attention transformer a modality, their means concatenated; of one modality (``modalities``)
    simply a transformer.
"early_fusion": one self-attention transformer over the steps of all modalities, one modality after the other.
"mult": every modality reinforced by every other (Eq. 10) without decoupling, as in MulT (arXiv 1906.00295), optionally
    with a GD-Unit between the reinforced modalities (the paper's Table 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gdkit import CrossmodalTransformer, DistillationGraph, MultimodalTransformer

from .data import Batch
from .front import Front
from .global_batch import losses_see
from .layers import ResidualHead, SequenceProjection, masked_mean
from .options import ModelConfig
from .readout import Readout
from .task import DMDTask, TaskConfig, distillation_unit
from .task_losses import node_losses, task_loss
from .wide import wide_layers, wide_predictions

# Where each network's features stand in pictures and edges.csv.
SPACES = {"transformer": "unimodal", "early_fusion": "fused", "mult": "heterogeneous"}


class BaselineOutput(NamedTuple):
    """What :class:`Baseline` returns, by modality where it is a mapping.

    Attributes:
        output: the prediction, (batch, num_outputs).
        logits: each modality's own prediction, (batch, num_outputs); empty but for "mult".
        features: of each modality after the last transformer, (batch, width): its readout, in "early_fusion" the mean.
        present: (batch, modality), True where the modality has at least one real step.
    """

    output: Tensor
    logits: dict[str, Tensor]
    features: dict[str, Tensor]
    present: Tensor


class Baseline(nn.Module):
    """Raw features to a prediction through one of the three networks; see the module.

    Args:
        kind: "transformer", "early_fusion" or "mult".
        config: as DMD reads it, without the four switches and ``vote``; "mult" has ``num_layers`` memory layers where
            ``memory_layers`` is 0.
        input_dims: width of each modality's raw features.
        num_outputs: 1 for regression, else the number of classes.
    """

    def __init__(self, kind: str, config: ModelConfig, input_dims: Mapping[str, int], num_outputs: int) -> None:
        super().__init__()
        if kind not in SPACES:
            raise ValueError(f"network must be one of {', '.join(SPACES)}, got {kind!r}")
        self.kind, self.config, self.names, self.num_outputs = kind, config, tuple(input_dims), num_outputs
        if kind == "mult" and len(self.names) < 2:
            raise ValueError(f"network 'mult' needs at least 2 modalities, got {', '.join(self.names)}")
        dim, dropout = config.dim, config.dropout
        self.adapter = Front(config, input_dims)
        self.projection = SequenceProjection(self.adapter.dims, dim, self.adapter.kernel_sizes)
        options: dict[str, Any] = {"dropout": dropout, "attention_dropout": config.attention_dropout}
        sizes = (dim, config.num_heads, config.num_layers)
        width = dim
        if kind == "transformer":
            self.body = nn.ModuleDict({name: CrossmodalTransformer(*sizes, **options) for name in self.names})
        elif kind == "early_fusion":
            self.modality_embedding = nn.Parameter(torch.randn(len(self.names), dim) / dim**0.5)
            self.body = CrossmodalTransformer(*sizes, **options)
        else:
            memory = config.memory_layers or config.num_layers
            self.body = MultimodalTransformer(self.names, *sizes, num_memory_layers=memory, **options)
            width = (len(self.names) - 1) * dim
        read = ("fused",) if kind == "early_fusion" else self.names
        self.readouts = nn.ModuleDict(
            {name: Readout(width, config.readout, normalize=config.readout_norm) for name in read}
        )
        self.feature_dim = self.readouts[read[0]].width
        self.logit_heads = nn.ModuleDict(
            {name: ResidualHead(self.feature_dim, num_outputs, dropout) for name in (read if kind == "mult" else ())}
        )
        self.head = ResidualHead(len(read) * self.feature_dim, num_outputs, dropout)
        self.wide, self.wide_norm = nn.ModuleDict(), nn.ModuleDict()
        if config.wide is not None:
            roles = ("own", "fused") if kind == "mult" else ("fused",)
            self.wide, self.wide_norm = wide_layers(config.wide, input_dims, roles, num_outputs)
            self.wide_dropout = nn.Dropout(config.wide_dropout)

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], output_only: bool = False
    ) -> BaselineOutput:
        """Mappings name -> (batch, time, input_dim) and (batch, time); modalities may differ in time.

        With ``output_only``, which serves a trained network, "mult" has no ``logits``.
        """
        sequences, masks, statistics = self.adapter(inputs, masks)
        sequences = self.projection(sequences, masks)
        if self.kind == "early_fusion":
            mask = torch.cat([masks[name] for name in self.names], dim=1)  # (batch, all time)
            placed = [sequences[name] + self.modality_embedding[i] for i, name in enumerate(self.names)]
            fused = self.body(torch.cat(placed, dim=1), target_mask=mask)  # (batch, all time, dim)
            parts = fused.split([sequences[name].shape[1] for name in self.names], dim=1)
            features = {name: masked_mean(part, masks[name]) for name, part in zip(self.names, parts)}
            output = self.head(self.readouts["fused"](fused, mask))
        else:
            if self.kind == "mult":
                reinforced = self.body(sequences, masks)
            else:
                reinforced = {name: self.body[name](sequences[name], target_mask=masks[name]) for name in self.names}
            features = {name: self.readouts[name](reinforced[name], masks[name]) for name in self.names}
            output = self.head(torch.cat([*features.values()], dim=-1))
        heads = {} if output_only else self.logit_heads
        logits = {name: head(features[name]) for name, head in heads.items()}
        present = torch.stack([masks[name].any(dim=1) for name in self.names], dim=1)
        if self.wide:
            maps = {role: maps for role, maps in self.wide.items() if role == "fused" or logits}
            added = wide_predictions(maps, self.wide_norm, self.wide_dropout, statistics, present)
            output = output + sum(added["fused"].values())
            logits = {name: own + added["own"][name] for name, own in logits.items()}
        return BaselineOutput(output, logits, features, present)


class BaselineTask(nn.Module):
    """A baseline with its loss, read by runs and evaluation as :class:`dmd.task.DMDTask` is.

    total = task + node_weight * nodes + lambda_distillation * heterogeneous; the last two for "mult" alone, and the
    last where ``hetero_gd`` is on. Without ``node_weight`` "mult" is the MulT of its paper.
    """

    def __init__(self, model: Baseline, config: TaskConfig, *, global_losses: bool = False) -> None:
        super().__init__()
        self.model, self.config, self.global_losses = model, config, global_losses
        self.is_regression = model.num_outputs == 1
        self.units = nn.ModuleDict()
        self.text_encoder: nn.Module = nn.Identity()  # a dmd.text.TextEncoder where the text is fine-tuned
        if model.logit_heads and model.config.hetero_gd:
            graph = DistillationGraph.complete(model.names)
            name = SPACES[model.kind]
            self.units[name] = distillation_unit(config.distillation, name, graph, model.feature_dim, model.num_outputs)
            if config.distillation.quality_sharpness > 0:
                self.register_buffer(f"{name}_quality", torch.zeros(len(model.names)))

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Losses and outputs of one batch, under the names of :class:`dmd.task.DMDTask`."""
        config, space, batch = self.config, SPACES[self.model.kind], self.text_encoder(batch)
        own: BaselineOutput = self.model(batch.inputs, batch.masks)
        seen = losses_see(batch.index, everything=self.global_losses and self.training)
        out, labels = seen.gather((own, batch.labels), None)
        terms = {"task": task_loss(out.output, labels)}
        loss = terms["task"]
        if out.logits:
            heads = zip(out.logits.values(), out.present.T)
            logits, real = (torch.stack(parts) for parts in zip(*heads, strict=True))  # (head, batch, ...)
            terms["nodes"] = task_loss(logits, labels, real).mean()
            loss = loss + config.node_weight * terms["nodes"]
        edges: dict[str, Tensor] = {}
        for name, unit in self.units.items():
            quality = getattr(self, f"{name}_quality", None)
            distilled = unit(out.logits, out.features, node_mask=out.present, teacher_quality=quality)
            terms[name] = distilled.loss
            loss = loss + config.lambda_distillation * distilled.loss
            edges[name] = seen.own(distilled.weights.detach())
        output = own.output[:, 0] if self.is_regression else own.output
        losses = {name: node_losses(own.logits, batch.labels, own.present) for name in edges}
        found = {"edges": edges, "node_losses": losses, "features": {space: own.features}, "present": own.present}
        return {"loss": loss, "output": output, **terms, **found}

    set_quality = DMDTask.set_quality  # into buffers of the same names
