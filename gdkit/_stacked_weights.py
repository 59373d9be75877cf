"""Parameters of several transformers, stacked, and the linear maps that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit._transformer_layer import CrossmodalLayer

if TYPE_CHECKING:
    from gdkit.crossmodal import CrossmodalTransformer


class StackedWeights:
    """Parameters of transformers of one size, by kind and layer.

    What a layer norm scales and shifts is put into the product after it, once for all layers.
    """

    def __init__(self, transformers: Sequence[CrossmodalTransformer]) -> None:
        self.heads_of, self.depth = transformers[0].num_heads, transformers[0].num_layers
        layers = [cast(CrossmodalLayer, module.layers[n]) for n in range(self.depth) for module in transformers]

        def stack(tensors: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(tensors)).view(
                self.depth, len(transformers), *tensors[0].shape
            )  # (depth, task, ...)

        def after_norm(norms: Sequence[nn.LayerNorm], linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
            weight, scale = stack([x.weight for x in linears]), stack([x.weight for x in norms])
            shift = stack([x.bias for x in norms])
            bias = stack([x.bias for x in linears]) + (weight @ shift[..., None])[..., 0]
            return weight * scale[..., None, :], bias

        def plain(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
            return stack([x.weight for x in linears]), stack([x.bias for x in linears])

        sizes = [transformers[0].dim, 2 * transformers[0].dim]
        everything = after_norm([x.attention_norm for x in layers], [x.in_projection for x in layers])
        query, both = zip(*(torch.split(x, sizes, dim=2) for x in everything), strict=True)
        self.both = both
        kinds = {
            "all": everything,
            "query": query,
            "both": both,
            "out": plain([x.out_projection for x in layers]),
            "expand": after_norm([x.feedforward_norm for x in layers], [x.expand for x in layers]),
            "contract": plain([x.contract for x in layers]),
        }
        self.kinds = {kind: [*zip(*(x.unbind(0) for x in pair), strict=True)] for kind, pair in kinds.items()}
        self.scale = torch.stack([x.norm.weight for x in transformers])[:, None, None]  # (task, 1, 1, dim)
        self.shift = torch.stack([x.norm.bias for x in transformers])[:, None, None]

    def linear(self, kind: str, depth: int, x: Tensor) -> Tensor:
        """One linear map of a layer, (task, batch, time, in) to (task, batch, time, out)."""
        weight, bias = self.kinds[kind][depth]
        return _product(x, weight, bias)

    def heads(self, kind: str, depth: int, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, or some of them, each (task, batch, heads, time, head_dim)."""
        parts = {"all": 3, "query": 1, "both": 2}[kind]
        split = "task batch time (part heads width) -> part task batch heads time width"
        return rearrange(self.linear(kind, depth, x), split, part=parts, heads=self.heads_of).unbind(0)

    def keys_and_values(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Those of every layer, of a source that no layer changes: one product."""
        weight, bias = (part.transpose(0, 1).flatten(1, 2) for part in self.both)  # (task, depth * 2 * dim, dim)
        split = "task batch time (depth part heads width) -> depth part task batch heads time width"
        product = rearrange(_product(x, weight, bias), split, depth=self.depth, part=2, heads=self.heads_of)
        return [layer.unbind(0) for layer in product.unbind(0)]

    def final_norm(self, x: Tensor) -> Tensor:
        """Scale and shift of the last layer norm."""
        return torch.addcmul(self.shift, x, self.scale)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(task, batch, time, in) by (task, out, in), plus (task, out)."""
    product = torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2))
    return product.view(*x.shape[:3], -1)


def normalised(x: Tensor) -> Tensor:
    """A layer norm that neither scales nor shifts."""
    return F.layer_norm(x, x.shape[-1:])
