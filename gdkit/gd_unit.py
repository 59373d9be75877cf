"""The graph-distillation unit: nodes teach each other along edges whose weights are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from gdkit import _check, _stack
from gdkit import functional as GF
from gdkit._autocast import for_loss
from gdkit._describe import output_text, teaching_text
from gdkit._distances import Distance, check_distance
from gdkit._edge_scorer import SCORERS, EdgeScorer
from gdkit.graph import DistillationGraph

Nodes = Tensor | Mapping[str, Tensor]


class GDOutput(NamedTuple):
    """What a :class:`GDUnit` returns.

    Attributes:
        loss: scalar, the sum of ``terms``.
        terms: "logit", "feature" and "prior", already weighted; a term that is off is 0.
        per_sample: ``(batch,)``, the distillation of each sample, without the prior.
        weights: ``(batch, edge)``, on the autograd graph also where ``detach_weights`` is set.
        distances: ``(batch, edge)``, between the logits.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    per_sample: Tensor
    weights: Tensor
    distances: Tensor

    def __repr__(self) -> str:
        return output_text(self)


class GDUnit(nn.Module):
    r"""Distil between the nodes of a directed graph, and learn who should teach whom (Eq. 7 to 9).

    .. math::
        \mathcal{L}_{dtl} = \sum_{i \to j} w_{i \to j}\, \epsilon_{i \to j}, \qquad
        w = \operatorname{softmax}\!\big((g([z_j, z_i]) + q_i) / T\big), \qquad
        z_i = [W_{logit} f(x_i),\; W_{repr}\, x_i] \tag{7-9}

    The defaults are the printed method, whose weights lower the loss by moving to the two nodes that agree best, which
    are as readily the two worst. Which form to take (measured in docs/what-edges-mean.md):

    - ``scorer="agreement"`` finds the better teachers without labels. Take it first, with batches of 16 samples or more
      and unlabelled samples among them. It asks that nodes err in different ways; two nodes it cannot tell apart. It
      compares all nodes with all, so it is for tens of them.
      The weights of each sample depend on the rest of the batch (under several processes: on each process's part of
      it), and one sample alone gives equal weights.
    - ``scorer=None`` with ``teacher_quality``, where held-out labels say who is good.
    - ``normalize="target"`` where scores must be learned: no weight can move to another pair of nodes.

    Args:
        graph: nodes and edges.
        feature_dim: width of the features of every node, or a mapping from name to width.
        logit_dim: number of logits of every node.
        hidden_dim: width of each of the two projections inside :math:`z`.
        scorer: :math:`g`: "linear" (the paper), "mlp" (one hidden layer, so that a weight can depend on teacher and
            student together), "free" (one learned number an edge), "agreement" (nothing learned: :math:`-4 \ln(1.01 -
            r_i^2)` with the :math:`r` of :func:`gdkit.functional.agreement` over the batch), None (equal weights, or
            those of ``teacher_quality``), or a module (teacher, student) -> (batch, edge), each
            (batch, edge, 2 * hidden_dim).
        normalize: "graph": weights sum to 1; "target": the weights into each target sum to 1.
        temperature: :math:`T` of that softmax, above 0.
        distance: :math:`\epsilon` between logits: "l1", "l2", "cosine", "kl" or a callable, see
            :func:`gdkit.functional.edge_distances`.
        distance_temperature: temperature of "kl".
        feature_distance: the same between features, added with ``feature_weight``; None: logits alone.
        feature_weight: factor of the feature distances.
        prior: (edge) weights to stay near; None: no prior.
        prior_weight: factor of :math:`\sum_e (\operatorname{mean}_{batch} w_e - prior_e)^2`.
        detach_teacher: distances move students, never teachers.
        detach_weights: distances teach students and never edges; the scorer then learns from the prior alone.

    Shape:
        - logits: (batch, node, logit_dim), or a mapping name -> (batch, logit_dim)
        - features: (batch, node, feature_dim), or a mapping name -> (batch, width); may be left out where neither the
          scorer nor ``feature_distance`` reads them
        - node_mask: (batch, node) boolean, or a mapping name -> (batch); an edge is present iff both its nodes are
        - teacher_quality: (node), (batch, node), or a mapping name -> () or (batch); higher = better teacher

    Returns:
        :class:`GDOutput`. A sample with no edge present adds 0 to the mean over the batch.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if an option or a shape does not fit; "kl" and "cosine" need more than one logit.

    Example:
        >>> unit = GDUnit(DistillationGraph.complete(["a", "b", "c"]), feature_dim=8, logit_dim=5, distance="kl")
        >>> out = unit(torch.randn(4, 3, 5), torch.randn(4, 3, 8))
        >>> out.loss.shape, out.weights.shape
        (torch.Size([]), torch.Size([4, 6]))

    References:
        Decoupled Multimodal Distilling for Emotion Recognition, arXiv 2303.13802; Graph Distillation for Action
        Detection with Privileged Modalities, arXiv 1712.00108.
    """

    edge_index: Tensor
    prior: Tensor | None

    def __init__(
        self,
        graph: DistillationGraph,
        feature_dim: int | Mapping[str, int],
        logit_dim: int,
        hidden_dim: int = 64,
        *,
        scorer: str | nn.Module | None = "linear",
        normalize: str = "graph",
        temperature: float = 1.0,
        distance: Distance = "l1",
        distance_temperature: float = 1.0,
        feature_distance: Distance | None = None,
        feature_weight: float = 1.0,
        prior: Tensor | Sequence[float] | None = None,
        prior_weight: float = 0.0,
        detach_teacher: bool = True,
        detach_weights: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(graph, DistillationGraph):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"GDUnit: graph must be a DistillationGraph, got {type(graph).__name__}")
        widths = _widths(graph, feature_dim)
        for argument, value in (("logit_dim", logit_dim), ("hidden_dim", hidden_dim)):
            _check.check_positive("GDUnit", argument, value, integer=True)
        for argument, value in (("temperature", temperature), ("distance_temperature", distance_temperature)):
            _check.check_positive("GDUnit", argument, value)
        for argument, value in (("feature_weight", feature_weight), ("prior_weight", prior_weight)):
            _check.check_positive("GDUnit", argument, value, zero=True)
        _check.check_choice("GDUnit", "normalize", normalize, ("graph", "target"))
        check_distance("GDUnit", "distance", distance, logit_dim)
        if feature_distance is not None:
            if len(set(widths.values())) > 1:
                raise ValueError(f"GDUnit: feature_distance needs equal widths, got feature_dim {widths}")
            check_distance("GDUnit", "feature_distance", feature_distance, next(iter(widths.values())))
        if not isinstance(scorer, nn.Module) and scorer is not None:
            _check.check_choice("GDUnit", "scorer", scorer, SCORERS, ", None or a torch.nn.Module")
        self.graph, self.widths, self.logit_dim = graph, widths, logit_dim
        self.normalize, self.temperature = normalize, temperature
        self.distance, self.distance_temperature = distance, distance_temperature
        self.feature_distance, self.feature_weight = feature_distance, feature_weight
        self.prior_weight = prior_weight
        self.detach_teacher, self.detach_weights = detach_teacher, detach_weights
        edge_index = graph.edge_index
        self.scorer = EdgeScorer(graph.names, edge_index, feature_dim, logit_dim, hidden_dim, scorer)
        self.register_buffer("edge_index", edge_index, persistent=False)
        self.register_buffer("prior", None if prior is None else _prior(prior, graph.num_edges))

    def reset_parameters(self) -> None:
        """Draw the scorer anew; "free" scores return to 0, that is to equal weights."""
        self.scorer.reset_parameters()

    def forward(
        self,
        logits: Nodes,
        features: Nodes | None = None,
        node_mask: Nodes | None = None,
        teacher_quality: Nodes | None = None,
    ) -> GDOutput:
        """Distil once; see the class for shapes."""
        names = self.graph.names
        logits = _stack.stack_nodes("GDUnit", "logits", logits, names, self.logit_dim)  # (batch, node, logit_dim)
        _check.check_not_empty("GDUnit", "logits", _check.check_floating("GDUnit", "logits", logits))
        batch, logits = logits.shape[0], for_loss(logits)
        if features is None and (self.scorer.reads_nodes or self.feature_distance is not None):
            raise ValueError("GDUnit: features must be given, as the scorer or feature_distance reads them")
        nodes = [] if features is None else _stack.stack_features("GDUnit", features, self.widths, batch)
        edge_mask = None
        if node_mask is not None:
            node_mask = _stack.stack_flags("GDUnit", "node_mask", node_mask, names, batch)
            edge_mask = node_mask[:, self.edge_index[0]] & node_mask[:, self.edge_index[1]]  # (batch, edge)
            logits = torch.where(node_mask[..., None], logits, 0.0)
            if isinstance(nodes, Tensor):
                nodes = torch.where(node_mask[..., None], nodes, 0.0)
            else:
                nodes = [torch.where(node_mask[:, i, None], x, 0.0) for i, x in enumerate(nodes)]

        scores = self.scorer(logits, nodes, node_mask)
        if teacher_quality is not None:
            quality = _stack.stack_quality("GDUnit", teacher_quality, names, logits)
            scores = scores + quality[..., self.edge_index[0]]
        weights = GF.edge_weights(scores, self.edge_index, len(names), self.normalize, self.temperature, edge_mask)
        factors = weights.detach() if self.detach_weights else weights  # (batch, edge)

        def between(x: Tensor, distance: Distance) -> Tensor:
            return GF.edge_distances(x, self.edge_index, distance, self.distance_temperature, self.detach_teacher)

        parts = [between(logits, self.distance)]
        if self.feature_distance is not None and isinstance(nodes, Tensor):
            of_features = between(nodes, self.feature_distance)
            parts.append(of_features if self.feature_weight == 1 else self.feature_weight * of_features)
        distances = torch.stack(parts)  # (term, batch, edge): terms share each launch that follows
        if edge_mask is not None:
            distances = torch.where(edge_mask, distances, 0.0)
        of_samples = (factors * distances).sum(dim=2)  # (term, batch)
        means = of_samples.mean(dim=1)
        loss, zero = means.sum(), means.new_zeros(())
        terms = {"logit": zero, "feature": zero, "prior": zero} | dict(zip(("logit", "feature"), means))
        if self.prior is not None:
            present = torch.ones_like(weights, dtype=torch.bool) if edge_mask is None else edge_mask
            mean = weights.sum(dim=0) / present.sum(dim=0).clamp(min=1)  # (edge,)
            away = torch.where(present.any(dim=0), mean - self.prior, 0.0)
            terms["prior"] = self.prior_weight * away.square().sum()
            loss = loss + terms["prior"]
        return GDOutput(loss, terms, of_samples.sum(dim=0), weights, distances[0])

    if TYPE_CHECKING:  # nn.Module says Any

        def __call__(self, *args: Any, **kwargs: Any) -> GDOutput: ...  # noqa: D102

    def extra_repr(self) -> str:
        """Who teaches whom, and the options, for ``print(module)``."""
        return (
            f"{teaching_text(self.graph)}\nlogit_dim={self.logit_dim}, "
            f"normalize={self.normalize!r}, temperature={self.temperature}, distance={self.distance!r}"
            f"{f', distance_temperature={self.distance_temperature}' if self.distance == 'kl' else ''}\n"
            f"feature_distance={self.feature_distance!r}, prior_weight={self.prior_weight}, "
            f"detach_teacher={self.detach_teacher}, detach_weights={self.detach_weights}"
        )


def _prior(prior: Tensor | Sequence[float], num_edges: int) -> Tensor:
    """The unit's own copy of a prior."""
    try:
        numbers = torch.as_tensor(prior, dtype=torch.get_default_dtype()).detach().clone()
    except (TypeError, ValueError):
        raise TypeError(f"GDUnit: prior must be a tensor or list of numbers, one an edge, got {prior!r}") from None
    return _check.check_shape("GDUnit", "prior", numbers, [num_edges], "one number an edge")


def _widths(graph: DistillationGraph, feature_dim: int | Mapping[str, int]) -> dict[str, int]:
    """The width of every node's features."""
    if isinstance(feature_dim, Mapping):
        _check.check_names("GDUnit", "feature_dim", feature_dim, graph.names)
    widths = {name: feature_dim[name] if isinstance(feature_dim, Mapping) else feature_dim for name in graph.names}
    for name, width in widths.items():
        argument = f"feature_dim[{name!r}]" if isinstance(feature_dim, Mapping) else "feature_dim"
        _check.check_positive("GDUnit", argument, width, integer=True)
    return widths
