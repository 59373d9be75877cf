"""The mean over all triplets of Eq. 4 without a list of triplets, and its gradient in closed form."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from gdkit._autocast import without_autocast
from gdkit._hinge_counts import hinge_counts


def mean_triplet_hinge(
    features: Tensor, labels: Tensor, margin: float, real: Tensor | None, label_values: Tensor | None
) -> Tensor:
    r"""Mean hinge over S, and 0 where S is empty; arguments as in :func:`gdkit.functional.triplet_margin_loss`.

    A hinge is linear where it is active. So an anchor with positives :math:`s_p` and negatives' bounds
    :math:`u_n = s_n + \alpha_n` adds

    .. math:: \sum_n \sum_p \max(0, u_n - s_p) = \sum_n c_n u_n - \sum_p k_p s_p

    where :math:`c_n` counts the positives below :math:`u_n` and :math:`k_p` the bounds above :math:`s_p`. So these
    counts are the gradient too, which reverse mode can differentiate again. None reaches ``label_values``.

    Shape:
        - features: (batch, node, dim); labels, label_values: (batch); real: (batch, node), None where all are real;
          returns a scalar.
    """
    margins = None
    if label_values is not None:
        # A NaN label is in no triplet, but 0 * NaN would still poison the sum.
        values = torch.nan_to_num(label_values.detach()).to(_summing_dtype(features))
        margins = margin * (values[:, None] - values).abs()  # (batch, batch)
    with without_autocast(features):
        results = _MeanTripletHinge.apply(features, labels.detach(), margin, real, margins)  # pyright: ignore
    return cast(tuple[Tensor, ...], results)[0]


def _summing_dtype(features: Tensor) -> torch.dtype:
    """At least float32: sums over all pairs overflow float16."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _directions(features: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Unit vectors (pair, dim) and 1 over the lengths (pair, 1); both 0 for a zero vector and for what is not real."""
    x = features.to(_summing_dtype(features))
    x = (x if real is None else torch.where(real[..., None], x, 0.0)).flatten(0, 1)  # (pair, dim)
    length = cast(Tensor, torch.linalg.vector_norm(x, dim=-1, keepdim=True))  # pyright: ignore[reportUnknownMemberType]
    inverse = length.reciprocal().nan_to_num(0.0, 0.0)
    return x * inverse, inverse


def _roles(labels: Tensor, real: Tensor | None, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Whether a pair is an anchor's positive, (pair, pair), and its negative, (batch, node, batch)."""
    sizes = labels.shape[0], num_nodes
    labels = labels.repeat_interleave(num_nodes)  # (pair,)
    positive = labels[:, None] == labels  # (pair, pair)
    if real is None:
        negative = ~_own_node(positive, *sizes)
    else:
        real = real.flatten()  # (pair,)
        both_real = real[:, None] & real  # (pair, pair)
        negative = _own_node(both_real, *sizes) > _own_node(positive, *sizes)
        positive = positive & both_real
    _own_node(positive, *sizes).fill_(False)
    return positive, negative


def _own_node(matrix: Tensor, batch: int, num_nodes: int) -> Tensor:
    """What a matrix (pair, pair) says of the anchor's own node: a view of (batch, node, batch)."""
    return matrix.view(batch, num_nodes, batch, num_nodes).diagonal(dim1=1, dim2=3).transpose(1, 2)


class _MeanTripletHinge(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        features: Tensor, labels: Tensor, margin: float, real: Tensor | None, margins: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The mean; and for its gradient: that of the sum at all similarities, the directions, and :math:`|S|`.

        Pair p is node p % nodes of sample p // nodes.
        """
        batch, num_nodes, _ = features.shape
        units, inverse = _directions(features, real)
        bounds = units @ units.T  # (pair, pair): of positives, just their similarity
        own_node = _own_node(bounds, batch, num_nodes)  # (batch, node, batch)
        own_node += margin if margins is None else margins[:, None]
        positive, negative = _roles(labels, real, num_nodes)
        gradient, of_negatives = hinge_counts(
            torch.where(positive, bounds, torch.inf),  # (pair, pair)
            torch.where(negative, own_node, -torch.inf).flatten(0, 1),  # (pair, batch)
        )
        gradient.neg_()
        _own_node(gradient, batch, num_nodes).copy_(of_negatives.view(negative.shape))
        total = torch.dot(gradient.flatten(), bounds.flatten())
        num_negatives = negative.sum(-1, dtype=total.dtype).flatten()  # (pair,)
        count = torch.dot(positive.sum(-1, dtype=total.dtype), num_negatives).clamp(min=1)  # |S|
        return (total / count).to(features.dtype), gradient, units, inverse, count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the gradient is made of."""
        features, _, _, real, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, real, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient at the unit vectors, less what would only lengthen them, over the lengths."""
        if grad is None:
            return (None,) * 5
        features, real, gradient, units, inverse, count = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is differentiated in turn, and these depend on the features
            units, inverse = _directions(features, real)
        with without_autocast(units):
            of_units = (gradient + gradient.T) @ units  # (pair, dim)
            along = torch.bmm(of_units[:, None], units[:, :, None])[:, 0]  # (pair, 1)
        across = torch.addcmul(of_units, along, units, value=-1) * (inverse * (grad / count))
        return across.view(features.shape).to(features.dtype), None, None, None, None
