"""Parameters of several transformers, stacked, and the linear maps that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from gdkit._transformer_layer import CrossmodalLayer
from gdkit.crossmodal import CrossmodalTransformer


class StackedWeights:
    """Parameters of transformers of one size, by kind and layer.

    What a layer norm scales and shifts is put into the product after it, once for all layers. ``crossed``: with a
    source, whose keys and values are one product for all layers.
    """

    def __init__(self, transformers: Sequence[CrossmodalTransformer], crossed: bool) -> None:
        self.num_heads, self.depth = transformers[0].num_heads, transformers[0].num_layers
        layers = [cast(CrossmodalLayer, module.layers[n]) for n in range(self.depth) for module in transformers]
        linears = [(x.in_projection, x.out_projection, x.expand, x.contract) for x in layers]
        norms = [(x.attention_norm, x.feedforward_norm) for x in layers]
        # All parameters in one copy, kind after kind; weights come first, whose rows then start at even addresses.
        kinds = [[x.weight for x in kind] for kind in zip(*linears, strict=True)]
        kinds += [[getattr(x, part) for x in kind] for part in ("weight", "bias") for kind in zip(*norms, strict=True)]
        kinds += [[x.bias for x in kind] for kind in zip(*linears, strict=True)]
        kinds += [[module.norm.weight for module in transformers], [module.norm.bias for module in transformers]]
        together = torch.cat([parameter.view(-1) for kind in kinds for parameter in kind])
        parts = torch.split(together, [len(kind) * kind[0].numel() for kind in kinds])
        shape = (self.depth, len(transformers))
        parts = [part.view(*shape, *kind[0].shape) for part, kind in zip(parts[:-2], kinds, strict=False)] + [
            part.view(len(transformers), 1, 1, -1)
            for part in parts[-2:]  # (task, 1, 1, dim)
        ]
        in_weight, out_weight, expand_weight, contract_weight, *scales_and_shifts = parts[:8]
        in_bias, out_bias, expand_bias, contract_bias, self.scale, self.shift = parts[8:]
        scale, expand_scale, shift, expand_shift = scales_and_shifts
        everything = _after_norm(in_weight, in_bias, scale, shift)
        self.sizes = [transformers[0].dim, 2 * transformers[0].dim]  # of queries, and of keys and values
        query = everything
        if crossed:
            query, self.both = zip(*(torch.split(x, self.sizes, dim=2) for x in everything), strict=True)
        pairs = {
            "query" if crossed else "all": query,
            "out": (out_weight, out_bias),
            "expand": _after_norm(expand_weight, expand_bias, expand_scale, expand_shift),
            "contract": (contract_weight, contract_bias),
        }
        self.kinds = {kind: [*zip(*(x.unbind(0) for x in pair), strict=True)] for kind, pair in pairs.items()}

    def linear(self, kind: str, depth: int, x: Tensor) -> Tensor:
        """One linear map of a layer, (task, batch, time, in) to (task, batch, time, out)."""
        return _product(x, *self.kinds[kind][depth])

    def queries(self, depth: int, x: Tensor) -> Tensor:
        """Of transformers with a source, (task, batch, heads, time, head_dim)."""
        return self._heads(self.linear("query", depth, x), 1)[0]

    def all_heads(self, depth: int, x: Tensor, asking: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of self-attention in which ``asking``, all of ``x`` or a part, asks."""
        if asking is x:
            return self._heads(self.linear("all", depth, x), 3)
        of_query, of_both = zip(
            *(torch.split(part, self.sizes, dim=1) for part in self.kinds["all"][depth]), strict=True
        )
        return *self._heads(_product(asking, *of_query), 1), *self._heads(_product(x, *of_both), 2)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        split = "task batch time (part heads width) -> part task batch heads time width"
        return rearrange(x, split, part=parts, heads=self.num_heads).unbind(0)

    def keys_and_values(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Those of every layer, of a source that no layer changes: one product."""
        weight, bias = (part.transpose(0, 1).flatten(1, 2) for part in self.both)  # (task, depth * 2 * dim, dim)
        split = "task batch time (depth part heads width) -> depth part task batch heads time width"
        product = rearrange(_product(x, weight, bias), split, depth=self.depth, part=2, heads=self.num_heads)
        return [layer.unbind(0) for layer in product.unbind(0)]

    def final_norm(self, x: Tensor) -> Tensor:
        """Scale and shift of the last layer norm."""
        return torch.addcmul(self.shift, x, self.scale)


def _after_norm(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """A linear map with the layer norm before it in it: each (depth, task, ...)."""
    return weight * scale[..., None, :], bias + (weight @ shift[..., None])[..., 0]


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(task, batch, time, in) by (task, out, in), plus (task, out)."""
    product = torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2))
    return product.view(*x.shape[:3], weight.shape[1])


def normalised(x: Tensor) -> Tensor:
    """A layer norm that neither scales nor shifts."""
    return F.layer_norm(x, x.shape[-1:])
