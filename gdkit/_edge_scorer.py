"""One score an edge from the two nodes it joins: the g of Eq. 8 in its built-in forms, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import _check
from gdkit import functional as GF
from gdkit._agreement import agreement_scores
from gdkit._autocast import is_autocast_on, without_autocast
from gdkit._layers import check_dtype_of_layer, is_untouched
from gdkit._transformer_layer import is_plain

SCORERS = ("linear", "mlp", "free", "agreement")


class EdgeScorer(nn.Module):
    r"""Score every edge: :math:`g([z_j, z_i])` with :math:`z_i = [W_{logit} f(x_i), W_{repr} x_i]` (Eq. 8).

    Args:
        names: of the nodes.
        edge_index: (2, edge).
        feature_dim: width of every node's features, or a mapping from name to width.
        logit_dim: number of logits.
        hidden_dim: width of each projection.
        scorer: "linear", "mlp", "free", "agreement", None, or a module (teacher, student) -> (batch, edge).

    Shape:
        - logits: (batch, node, logit_dim); features: (batch, node, feature_dim), or one (batch, width) a node;
          node_mask: (batch, node), read by "agreement" alone; returns (batch, edge).
    """

    edge_index: Tensor

    def __init__(
        self,
        names: Sequence[str],
        edge_index: Tensor,
        feature_dim: int | Mapping[str, int],
        logit_dim: int,
        hidden_dim: int,
        scorer: str | nn.Module | None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("edge_index", edge_index, persistent=False)
        self.kind = scorer if isinstance(scorer, str) or scorer is None else "module"
        if self.kind == "free":
            self.scores = nn.Parameter(torch.zeros(edge_index.shape[1]))
        if not self.reads_nodes:
            return
        self.logit_projection = nn.Linear(logit_dim, hidden_dim)
        if isinstance(feature_dim, Mapping):
            _check.check_module_names("GDUnit", self.names)
            projections = {name: nn.Linear(feature_dim[name], hidden_dim) for name in self.names}
            self.feature_projection = nn.ModuleDict(projections)
        else:
            self.feature_projection = nn.Linear(feature_dim, hidden_dim)
        if isinstance(scorer, nn.Module):
            self.edge_score = scorer
        elif scorer == "linear":
            self.edge_score = nn.Linear(4 * hidden_dim, 1)
        else:
            self.edge_score = nn.Sequential(nn.Linear(4 * hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))

    @property
    def reads_nodes(self) -> bool:
        """Whether a score depends on logits and features."""
        return self.kind in ("linear", "mlp", "module")

    def reset_parameters(self) -> None:
        """Draw all learned parts anew; "free" scores return to 0, that is to equal weights."""
        if self.kind == "free":
            nn.init.zeros_(self.scores)
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and callable(reset):
                reset()

    def forward(self, logits: Tensor, features: Tensor | Sequence[Tensor], node_mask: Tensor | None = None) -> Tensor:
        """Scores before quality and temperature."""
        source = self.edge_index[0]
        if self.kind == "agreement":
            scores = agreement_scores(logits, node_mask).to(logits.dtype)[source]
            return scores.expand(logits.shape[0], -1)  # (batch, edge)
        if not self.reads_nodes:
            scores = self.scores if self.kind == "free" else logits.new_zeros(source.shape[0])
            return scores.expand(logits.shape[0], -1)  # (batch, edge)
        if is_autocast_on(logits):  # float16 ends at 65504, below what features and scores may be
            dtype = self.logit_projection.weight.dtype
            logits = logits.to(dtype)
            features = features.to(dtype) if isinstance(features, Tensor) else [x.to(dtype) for x in features]
            with without_autocast(logits):
                return self._read(logits, features)
        check_dtype_of_layer("GDUnit", "logits", logits, self.logit_projection)
        if isinstance(features, Tensor):
            check_dtype_of_layer("GDUnit", "features", features, self._projection_of(self.names[0]))
        else:
            for name, x in zip(self.names, features, strict=True):
                check_dtype_of_layer("GDUnit", f"features[{name!r}]", x, self._projection_of(name))
        return self._read(logits, features)

    def _projection_of(self, name: str) -> nn.Module:
        """The layer that reads a node's features."""
        projection = self.feature_projection
        return projection[name] if isinstance(projection, nn.ModuleDict) else projection

    def _read(self, logits: Tensor, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Scores that depend on the nodes."""
        source, target = self.edge_index[0], self.edge_index[1]
        if isinstance(self.feature_projection, nn.ModuleDict):
            of_nodes = features.unbind(dim=1) if isinstance(features, Tensor) else features
            pairs = zip(self.names, of_nodes, strict=True)
            projected = torch.stack([self.feature_projection[name](x) for name, x in pairs], dim=1)
        else:
            projected = self.feature_projection(features)
        z = torch.cat([self.logit_projection(logits), projected], dim=-1)  # (batch, node, 2 * hidden_dim)
        if self.kind == "module":
            scores = self.edge_score(z[:, source], z[:, target])
            return _check.check_shape("GDUnit", "scorer(teacher, student)", scores, [z.shape[0], source.shape[0]])
        first = cast(nn.Linear, self.edge_score[0] if isinstance(self.edge_score, nn.Sequential) else self.edge_score)
        if not (is_plain(first) and is_untouched(self.edge_score)):
            # Called as a whole, as with an adapter, a hook or sharded weights only that is right.
            return self.edge_score(torch.cat([z[:, target], z[:, source]], dim=-1))[..., 0]  # (batch, edge)
        # A linear layer over [student, teacher] is a sum of one product a node and role.
        as_student, as_teacher = first.weight.chunk(2, dim=1)
        student_terms = F.linear(z, as_student, first.bias)  # (batch, node, 1 or hidden_dim)
        teacher_terms = F.linear(z, as_teacher)
        if not isinstance(self.edge_score, nn.Sequential):
            return GF.edge_scores(teacher_terms[..., 0], student_terms[..., 0], self.edge_index)
        hidden = teacher_terms[:, source] + student_terms[:, target]  # (batch, edge, hidden_dim)
        return self.edge_score[1:](hidden)[..., 0]

    def extra_repr(self) -> str:
        """The kind, for ``print(module)``."""
        return f"kind={self.kind!r}"
