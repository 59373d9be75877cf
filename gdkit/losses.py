"""The losses of decoupling as modules: thin wrappers over functional that take mappings from node name to tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gdkit import _check, _stack
from gdkit import functional as GF

Nodes = Tensor | Mapping[str, Tensor]


class TripletMarginLoss(nn.Module):
    r"""Same class across nodes closer than other classes within a node (Eq. 4).

    .. math::
        \mathcal{L}_{mar} = \frac{1}{|S|} \sum_{(i,j,k) \in S} \max(0, \alpha - \cos(x_i, x_j) + \cos(x_i, x_k)) \tag{4}

    Args:
        margin: :math:`\alpha`, at least 0.
        binning: how labels become classes. None: labels are integer classes, -100 = unlabelled; "round": real labels to
            the nearest integer (half to even; for [-3, 3]); a rising sequence of boundaries: real labels to the
            interval they fall in, right-closed. A NaN label is unlabelled, and an infinite one if ``proportional``.
            Unlabelled samples are in no triplet.
        proportional: the margin of a triplet is :math:`\alpha\,|y_i - y_k|`, with the labels as given.

    Shape:
        - features: (batch, node, dim), or a mapping name -> (batch, dim); labels, sample_mask: (batch);
          node_mask: (batch, node), or a mapping name -> (batch). Returns a scalar.

    Raises:
        TypeError: if an argument has the wrong type or dtype; without ``binning``, labels must be integers.
        ValueError: if a shape disagrees, or an option is out of range.

    Example:
        >>> loss = TripletMarginLoss(margin=0.1, binning="round")
        >>> features = {"language": torch.randn(4, 8), "vision": torch.randn(4, 8)}
        >>> loss(features, torch.tensor([-1.8, 2.2, 2.0, float("nan")])).shape
        torch.Size([])

    References:
        Decoupled Multimodal Distilling for Emotion Recognition, arXiv 2303.13802.
    """

    def __init__(
        self, margin: float = 0.1, *, binning: str | Sequence[float] | None = None, proportional: bool = False
    ) -> None:
        super().__init__()
        _check.check_positive("TripletMarginLoss", "margin", margin, zero=True)
        if isinstance(binning, str):
            _check.check_choice("TripletMarginLoss", "binning", binning, ("round",))
        elif binning is not None:
            if not isinstance(binning, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"TripletMarginLoss: binning must be None, 'round' or boundaries, got {binning!r}")
            # Numbers, not a buffer, which would be rounded to the module's dtype, and no tensor made of them in every
            # call, which a GPU would wait for.
            try:
                binning = tuple(float(boundary) for boundary in binning)
            except (TypeError, ValueError):
                raise TypeError(f"TripletMarginLoss: binning must be boundaries, got {list(binning)}") from None
            if not all(low < high for low, high in pairwise((*binning, math.inf))) or not binning:
                raise ValueError(f"TripletMarginLoss: binning must be rising boundaries, got {list(binning)}")
        self.margin, self.binning, self.proportional = margin, binning, proportional

    def forward(
        self, features: Nodes, labels: Tensor, node_mask: Nodes | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Mean hinge over the triplets of the batch."""
        owner = "TripletMarginLoss"
        if isinstance(features, Mapping):
            names = _names(owner, "features", features)
            features = _stack.stack_nodes(owner, "features", features, names)  # (batch, node, dim)
            if node_mask is not None:
                node_mask = _stack.stack_flags(owner, "node_mask", node_mask, names, features.shape[0])
        elif isinstance(node_mask, Mapping):
            raise TypeError(f"{owner}: node_mask may be a mapping only where features is one")
        batch = _check.check_shape(owner, "features", features, ["batch", "node", "dim"]).shape[:1]
        _check.check_shape(owner, "labels", labels, batch)
        missing = ~labels.isfinite() if self.proportional else labels.isnan()
        labelled = ~missing if labels.is_floating_point() else labels != -100
        if sample_mask is not None:
            labelled = labelled & _check.check_mask(owner, "sample_mask", sample_mask, batch)
        values = labels if self.proportional else None
        return GF.triplet_margin_loss(features, self._classes(labels), self.margin, node_mask, labelled, values)

    def _classes(self, labels: Tensor) -> Tensor:
        """The class of every label; that of a missing one means nothing."""
        if isinstance(self.binning, str):  # "round"
            return labels.round()
        if self.binning is not None:
            labels = 1.0 * labels  # integers become floats; floats keep their dtype, which the boundaries take too
            return torch.stack([labels > boundary for boundary in self.binning]).sum(dim=0)
        if labels.is_floating_point():
            raise TypeError(
                f"TripletMarginLoss: labels must be integer classes, got {labels.dtype}; "
                "binning='round' or a sequence of boundaries makes classes of real labels"
            )
        return labels

    if TYPE_CHECKING:  # nn.Module says Any

        def __call__(self, *args: Any, **kwargs: Any) -> Tensor: ...  # noqa: D102

    def extra_repr(self) -> str:
        """The options, for ``print(module)``."""
        return f"margin={self.margin}, binning={self.binning!r}, proportional={self.proportional}"


class SoftOrthogonalityLoss(nn.Module):
    r"""Shared and private features of every node apart: the sum over nodes of Eq. 5.

    .. math:: \mathcal{L}_{ort} = \sum_m \operatorname{mean}\, h(\cos(x^{com}_m, x^{prt}_m)) \tag{5}

    Args:
        kind: "hinge", "absolute", "squared" or "signed", as in :func:`gdkit.functional.soft_orthogonality`.

    Shape:
        - shared, private: mappings name -> (..., dim), or one (..., dim); masks: likewise, (...). Returns a scalar.

    Raises:
        ValueError: if a shape disagrees or ``kind`` is unknown.

    Example:
        >>> shared, private = {"a": torch.eye(2), "b": torch.eye(2)}, {"a": torch.eye(2), "b": torch.eye(2).flip(0)}
        >>> SoftOrthogonalityLoss()(shared, private)
        tensor(1.)
    """

    def __init__(self, kind: str = "hinge") -> None:
        super().__init__()
        _check.check_choice("SoftOrthogonalityLoss", "kind", kind, ("hinge", "absolute", "squared", "signed"))
        self.kind = kind

    def forward(self, shared: Nodes, private: Nodes, masks: Nodes | None = None) -> Tensor:
        """Sum over the nodes."""
        nodes = _per_node("SoftOrthogonalityLoss", shared=shared, private=private, masks=masks)
        return _sum_of(lambda x, y, mask: GF.soft_orthogonality(x, y, self.kind, mask), nodes)

    if TYPE_CHECKING:  # nn.Module says Any

        def __call__(self, *args: Any, **kwargs: Any) -> Tensor: ...  # noqa: D102

    def extra_repr(self) -> str:
        """The options, for ``print(module)``."""
        return f"kind={self.kind!r}"


class ReconstructionLoss(nn.Module):
    r"""Mean squared error over the real elements, summed over nodes: Eq. 2, and Eq. 3 on the private features.

    .. math:: \mathcal{L}_{rec} = \sum_m \operatorname{mean}\, (x_m - \hat{x}_m)^2 \tag{2}

    Shape:
        - x, x_hat: mappings name -> (..., dim), or one (..., dim); masks: likewise, (...). Returns a scalar.

    Raises:
        ValueError: if a shape or the names disagree.

    Example:
        >>> ReconstructionLoss()({"a": torch.ones(1, 3, 2)}, {"a": torch.zeros(1, 3, 2)})
        tensor(1.)
    """

    def forward(self, x: Nodes, x_hat: Nodes, masks: Nodes | None = None) -> Tensor:
        """Sum over the nodes."""
        nodes = _per_node("ReconstructionLoss", x=x, x_hat=x_hat, masks=masks)
        return _sum_of(GF.reconstruction_loss, nodes)

    if TYPE_CHECKING:  # nn.Module says Any

        def __call__(self, *args: Any, **kwargs: Any) -> Tensor: ...  # noqa: D102


def _sum_of(loss: Callable[[Tensor, Tensor, Tensor | None], Tensor], nodes: list[tuple[Any, ...]]) -> Tensor:
    """The sum over the nodes of a mean over what each holds; where all hold as much, it is one mean."""
    if len(nodes) > 1 and all(mask is None and x.shape == nodes[0][0].shape for x, _, mask in nodes):
        x, y = (torch.stack(part) for part in list(zip(*nodes, strict=True))[:2])  # (node, ...)
        return len(nodes) * loss(x, y, None)
    return torch.stack([loss(*parts) for parts in nodes]).sum()


def _per_node(owner: str, **arguments: Nodes | None) -> list[tuple[Any, ...]]:
    """Line up what the arguments hold for the same node; single tensors count as a single node."""
    argument, first = next(iter(arguments.items()))
    for other, value in arguments.items():
        if value is not None and isinstance(value, Mapping) != isinstance(first, Mapping):
            raise TypeError(f"{owner}: {argument} and {other} must both be mappings, or both be tensors")
    if not isinstance(first, Mapping):
        return [tuple(arguments.values())]
    names = _names(owner, argument, first)
    given = {other: value for other, value in arguments.items() if isinstance(value, Mapping)}
    for other, value in given.items():
        _check.check_names(owner, other, value, names)
        for name in names:
            shape = _check.check_tensor(owner, f"{argument}[{name!r}]", first[name]).shape
            _check.check_shape(owner, f"{other}[{name!r}]", value[name], shape[:-1] if other == "masks" else shape)
    return [tuple(given[other][name] if other in given else None for other in arguments) for name in names]


def _names(owner: str, argument: str, nodes: Mapping[str, Tensor]) -> list[str]:
    """The names in a mapping that must hold some."""
    if not nodes:
        raise ValueError(f"{owner}: {argument} must hold at least 1 node, got none")
    return list(nodes)
