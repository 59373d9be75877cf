"""Every formula of the library, stateless, on stacked tensors; equation numbers are those of arXiv 2303.13802.

Axes are (batch, node, dim) and (batch, edge); in masks, True = real; ``edge_index[0]`` teaches ``edge_index[1]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gdkit import _check
from gdkit._agreement import agreement as agreement
from gdkit._autocast import for_loss
from gdkit._distances import Distance, check_distance, unit_vectors
from gdkit._masking import mean_of_real, real_steps
from gdkit._pairwise import distances_along
from gdkit._triplets import mean_triplet_hinge


def edge_scores(source_terms: Tensor, target_terms: Tensor, edge_index: Tensor) -> Tensor:
    r"""Score of every edge in the additive form of Eq. 8.

    .. math:: s_{i \to j} = a_i + b_j \tag{8}

    A linear layer over [student, teacher] is one such term a node and role: no edge is ever gathered at full width.

    Args:
        source_terms, target_terms: :math:`a` and :math:`b`, what a node adds as the teacher and as the student.
        edge_index: sources and targets.

    Shape:
        - source_terms, target_terms: (batch, node); edge_index: (2, edge); returns (batch, edge).

    Raises:
        ValueError: if a shape disagrees.

    Example:
        >>> edge_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]]), torch.tensor([[0, 1], [1, 0]]))
        tensor([[21., 12.]])
    """
    _check.check_shape("edge_scores", "source_terms", source_terms, ["batch", "node"])
    _check.check_shape("edge_scores", "target_terms", target_terms, list(source_terms.shape))
    _check.check_edge_index("edge_scores", edge_index)
    return source_terms[:, edge_index[0]] + target_terms[:, edge_index[1]]  # (batch, edge)


def edge_weights(
    scores: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    normalize: str = "graph",
    temperature: float = 1.0,
    edge_mask: Tensor | None = None,
) -> Tensor:
    r"""Weight of every edge: a softmax of the scores over the graph, or over the teachers of each target (Eq. 8).

    .. math:: w_{i \to j} = \frac{\exp(s_{i \to j} / T)}{\sum_{e \in \mathcal{N}} \exp(s_e / T)} \tag{8}

    Args:
        scores: one number an edge, any range.
        edge_index, num_nodes: sources and targets, and how many nodes there are.
        normalize: weights sum to 1 over :math:`\mathcal{N}`: "graph", all edges; "target", the edges into each target.
        temperature: :math:`T`, above 0; small is sharp.
        edge_mask: True where the edge is present; an absent edge has weight 0, and with no edge present all are 0.

    Shape:
        - scores: (batch, edge); edge_index: (2, edge); edge_mask: (edge) or (batch, edge); returns (batch, edge).

    Raises:
        TypeError, ValueError: if dtype or shape do not fit, or an option is unknown or out of range.

    Example:
        >>> edge_weights(torch.zeros(1, 2), torch.tensor([[0, 1], [1, 0]]), 2, normalize="target")
        tensor([[1., 1.]])
    """
    _check.check_real("edge_weights", "scores", scores, ["batch", "edge"])
    _check.check_edge_index("edge_weights", edge_index, scores.shape[1])
    _check.check_choice("edge_weights", "normalize", normalize, ("graph", "target"))
    _check.check_positive("edge_weights", "temperature", temperature)
    scores = scores if temperature == 1 else scores / temperature
    if edge_mask is not None:
        _check.check_edge_mask("edge_weights", edge_mask, scores.shape)
        # The lowest finite number, not -inf: a row with nothing present stays free of NaN, forward and backward.
        scores = torch.where(edge_mask, scores, torch.finfo(scores.dtype).min)
    if normalize == "graph":
        weights = scores.softmax(dim=1)
    else:
        from torch_geometric.utils import softmax

        weights = softmax(scores, edge_index[1], num_nodes=num_nodes, dim=1)
    return weights if edge_mask is None else torch.where(edge_mask, weights, 0.0)  # (batch, edge)


def edge_distances(
    x: Tensor, edge_index: Tensor, distance: Distance = "l1", temperature: float = 1.0, detach_teacher: bool = True
) -> Tensor:
    r"""Distance between teacher and student on every edge, the :math:`\epsilon_{i \to j}` of Eq. 7.

    .. math::
        \epsilon^{l1} = \lVert x_i - x_j \rVert_1,\quad \epsilon^{l2} = \lVert x_i - x_j \rVert_2^2,\quad
        \epsilon^{cosine} = 1 - \cos(x_i, x_j),\quad
        \epsilon^{kl} = T^2\, \mathrm{KL}(\mathrm{softmax}(x_i / T) \,\Vert\, \mathrm{softmax}(x_j / T)) \tag{7}

    Args:
        x, edge_index: logits or features of the nodes; sources and targets of the edges.
        distance: "l1", "l2", "cosine", "kl", which hold no vector for every edge ("l1", and along sparse edges all,
            have first derivatives only), or callable (teacher, student), (batch, edge, dim) twice to (batch, edge).
        temperature: :math:`T` of "kl", above 0.
        detach_teacher: no gradient reaches the teacher's side.

    Shape:
        - x: (batch, node, dim); edge_index: (2, edge); returns (batch, edge), at least 0, or by rounding about -1e-6.

    Raises:
        TypeError, ValueError: if ``x`` does not fit, the distance is unknown, or it is "kl" or "cosine" and dim is 1.

    Example:
        >>> edge_distances(torch.tensor([[[0.0, 0.0], [1.0, 2.0]]]), torch.tensor([[0], [1]]))
        tensor([[3.]])
    """
    _check.check_real("edge_distances", "x", x, ["batch", "node", "dim"])
    _check.check_edge_index("edge_distances", edge_index)
    _check.check_positive("edge_distances", "temperature", temperature)
    check_distance("edge_distances", "distance", distance, x.shape[-1])
    return distances_along(for_loss(x), edge_index, distance, temperature, detach_teacher)


def graph_distillation_loss(weights: Tensor, distances: Tensor, reduction: str = "mean") -> Tensor:
    r"""Weighted distance over all edges of the graph (Eq. 7 and 9).

    .. math:: \mathcal{L}_{dtl} = \lVert W \odot E \rVert_1 = \sum_{i \to j} w_{i \to j}\,\epsilon_{i \to j} \tag{9}

    Args:
        weights, distances: of the edges, at least 0.
        reduction: "mean" over the batch, or "none".

    Shape:
        - weights, distances: (batch, edge); returns a scalar, or (batch) with "none".

    Raises:
        TypeError, ValueError: if dtypes or shapes do not fit, or ``reduction`` is unknown.

    Example:
        >>> graph_distillation_loss(torch.tensor([[0.25, 0.75]]), torch.tensor([[4.0, 8.0]]))
        tensor(7.)
    """
    owner = "graph_distillation_loss"
    _check.check_real(owner, "weights", weights, ["batch", "edge"])
    _check.check_real(owner, "distances", distances, weights.shape)
    _check.check_choice(owner, "reduction", reduction, ("mean", "none"))
    per_sample = (weights * distances).sum(dim=1)  # (batch,)
    return per_sample.mean() if reduction == "mean" else per_sample


def triplet_margin_loss(
    features: Tensor,
    labels: Tensor,
    margin: float = 0.1,
    node_mask: Tensor | None = None,
    sample_mask: Tensor | None = None,
    label_values: Tensor | None = None,
) -> Tensor:
    r"""Same class across nodes closer than other classes within a node, by a margin (Eq. 4).

    .. math::
        \mathcal{L}_{mar} = \frac{1}{|S|} \sum_{(i,j,k) \in S} \max(0, \alpha - \cos(x_i, x_j) + \cos(x_i, x_k)) \tag{4}

    :math:`i, j, k` run over all (sample, node) pairs of the batch; :math:`S` holds those with node(i) != node(j),
    node(i) = node(k), class(i) = class(j), class(i) != class(k). The triplets are summed through sorted lists, never
    listed: O(N^2 log N) time and O(N^2) memory in the number of pairs N. Without any, the loss is a 0 on the graph.

    Args:
        features: of the nodes.
        labels: class of each sample.
        margin: :math:`\alpha`, at least 0.
        node_mask: True where the node is present.
        sample_mask: True where the sample is labelled; others are in no triplet.
        label_values: if given, the margin is ``margin * |label_values[i] - label_values[k]|``; it gets no gradient.

    Shape:
        - features: (batch, node, dim); node_mask: (batch, node); labels and all others: (batch); returns a scalar.

    Raises:
        ValueError: if a shape disagrees or ``margin`` is below 0.

    Example:
        >>> triplet_margin_loss(torch.stack([torch.eye(2), torch.eye(2).flip(0)]), torch.tensor([0, 1]), margin=0.1)
        tensor(0.1000)
    """
    owner = "triplet_margin_loss"
    _check.check_real(owner, "features", features, ["batch", "node", "dim"])
    _check.check_positive(owner, "margin", margin, zero=True)
    for argument, given in (("labels", labels), ("label_values", labels if label_values is None else label_values)):
        _check.check_shape(owner, argument, given, features.shape[:1])
    real = None if node_mask is None else _check.check_mask(owner, "node_mask", node_mask, features.shape[:2])
    if sample_mask is not None:
        labelled = _check.check_mask(owner, "sample_mask", sample_mask, features.shape[:1])[:, None]
        real = labelled.expand(features.shape[:2]) if real is None else real & labelled
    return mean_triplet_hinge(for_loss(features), labels, margin, real, label_values)


def soft_orthogonality(shared: Tensor, private: Tensor, kind: str = "hinge", mask: Tensor | None = None) -> Tensor:
    r"""How far shared and private features are from orthogonal (one node's term of Eq. 5).

    .. math:: \mathcal{L}_{ort} = \operatorname{mean}\, h(\cos(x^{com}, x^{prt})) \tag{5}

    Args:
        shared, private: :math:`x^{com}` and :math:`x^{prt}`.
        kind: "hinge" :math:`h(c) = \max(0, c)`; "absolute" :math:`|c|`; "squared" :math:`c^2`; "signed" :math:`c`, the
            printed form, whose minimum is at opposite, not orthogonal, features.
        mask: True where the step is real; others count in no mean, and a mean of none is 0.

    Shape:
        - shared, private: (..., dim); mask: (...); returns a scalar in [0, 1] ([-1, 1] if "signed").

    Raises:
        ValueError: if a shape disagrees or ``kind`` is unknown.

    Example:
        >>> soft_orthogonality(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]), kind="squared")
        tensor(0.5000)
    """
    _check.check_choice("soft_orthogonality", "kind", kind, ("hinge", "absolute", "squared", "signed"))
    shared, private = real_steps("soft_orthogonality", mask, shared=shared, private=private)
    cosine = (unit_vectors(shared) * unit_vectors(private)).sum(-1)
    penalty = {"hinge": torch.relu, "absolute": torch.abs, "squared": torch.square, "signed": torch.clone}[kind](cosine)
    return mean_of_real(penalty[..., None], mask)


def reconstruction_loss(x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean squared error over the real elements (one node's term of Eq. 2 and of Eq. 3).

    .. math:: \mathcal{L}_{rec} = \operatorname{mean}\, (x - \hat{x})^2 \tag{2}

    Args:
        x, x_hat: what is to be reconstructed, and the reconstruction.
        mask: True where the step is real; others count in no mean.

    Shape:
        - x, x_hat: (..., dim); mask: (...); returns a scalar, 0 where nothing is real.

    Raises:
        ValueError: if a shape disagrees.

    Example:
        >>> reconstruction_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(2.)
    """
    x, x_hat = real_steps("reconstruction_loss", mask, x=x, x_hat=x_hat)
    return mean_of_real((x - x_hat).square(), mask)
