"""A transformer in which one sequence asks and another answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from gdkit import _check
from gdkit._hidden import hidden_by_masks
from gdkit._transformer_layer import CrossmodalLayer, check_sequences, sinusoidal_positions


class CrossmodalTransformer(nn.Module):
    r"""A target sequence reinforced by a source sequence (Eq. 10, in pre-norm transformer blocks).

    .. math:: Z_{s \to t} = \operatorname{softmax}(Q_t K_s^\top / \sqrt{d})\, V_s \tag{10}

    Both sequences are scaled by :math:`\sqrt{dim}` and get sinusoidal positions; the source is the same in every layer.

    Args:
        dim: width of target and source.
        num_heads: heads; divides ``dim``.
        num_layers: blocks.
        feedforward_dim: width inside the feed-forward network; None: ``4 * dim``.
        dropout: chance in [0, 1) of dropping an element of an embedding, hidden layer or block result.
        attention_dropout: the same of an attention weight.
        band: hide source step :math:`j` from target step :math:`i` where :math:`j - i` is above it, in positions,
            real or not, of either sign; None hides nothing.

    Shape:
        - target: (batch, time, dim); source: (batch, source time, dim), or None for self-attention
        - target_mask: (batch, time); source_mask: (batch, source time), boolean
        - returns (batch, time, dim), zero where the target is not real; with ``last_step`` (batch, dim), its last
          position alone, whose last block asks once; with ``return_attention`` also a list of the weights of each
          layer, (batch, heads, time, source time)

    Raises:
        TypeError: if a mask is not boolean.
        ValueError: if an option or a shape does not fit.

    Example:
        >>> language, vision = torch.randn(2, 9, 20), torch.randn(2, 30, 20)
        >>> CrossmodalTransformer(20, num_heads=4, num_layers=2)(language, vision).shape
        torch.Size([2, 9, 20])

    References:
        Multimodal Transformer for Unaligned Multimodal Language Sequences, arXiv 1906.00295.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_layers: int,
        *,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        band: int | None = None,
    ) -> None:
        super().__init__()
        owner = "CrossmodalTransformer"
        feedforward_dim = 4 * dim if feedforward_dim is None else feedforward_dim
        sizes = {"dim": dim, "num_heads": num_heads, "num_layers": num_layers, "feedforward_dim": feedforward_dim}
        for argument, value in sizes.items():
            _check.check_positive(owner, argument, value, integer=True)
        if dim % num_heads:
            raise ValueError(f"{owner}: num_heads must divide dim, got dim {dim} and num_heads {num_heads}")
        _check.check_fraction(owner, "dropout", dropout)
        _check.check_fraction(owner, "attention_dropout", attention_dropout)
        if band is not None:
            _check.check_integer(owner, "band", band)
        self.dim, self.num_heads, self.num_layers, self.band = dim, num_heads, num_layers, band
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            CrossmodalLayer(dim, num_heads, feedforward_dim, dropout, attention_dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()

    def forward(
        self,
        target: Tensor,
        source: Tensor | None = None,
        target_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        return_attention: bool = False,
        last_step: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Reinforce the target; see the class for shapes."""
        inputs = (target, source, target_mask, source_mask)
        check_sequences("CrossmodalTransformer", self.dim, *inputs, first=self.layers[0], last_step=last_step)
        x = self.embed(target, target_mask)
        keys = None if source is None else self.embed(source, source_mask)
        key_mask = target_mask if source is None else source_mask
        hidden = hidden_by_masks(x, x if keys is None else keys, target_mask, key_mask, self.band)
        collected: list[Tensor] = []
        for depth, layer in enumerate(self.layers):
            if last_step and depth == self.num_layers - 1:  # one query, which stands at the end
                keys = x if keys is None else keys
                x, hidden = x[:, -1:], hidden.at_last_query()
                target_mask = None if target_mask is None else target_mask[:, -1:]
            x, weights = layer(x, keys, hidden, return_attention)
            if weights is not None:
                collected.append(weights if target_mask is None else weights * target_mask[:, None, :, None])
        x = self.norm(x)
        x = x if target_mask is None else torch.where(target_mask[..., None], x, 0.0)
        x = x[:, 0] if last_step else x
        return (x, collected) if return_attention else x

    def embed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Scale a sequence (batch, time, dim), add positions, drop."""
        x = x if mask is None else torch.where(mask[..., None], x, 0.0)
        return self.dropout(math.sqrt(self.dim) * x + self.positions(x, mask))

    def positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """What is added to a scaled sequence (batch, time, dim); a subclass may count its steps in another way."""
        return sinusoidal_positions(x, mask)

    if TYPE_CHECKING:  # nn.Module says Any

        @overload
        def __call__(self, *args: Any, return_attention: Literal[False] = False, **kwargs: Any) -> Tensor: ...
        @overload
        def __call__(
            self, *args: Any, return_attention: Literal[True], **kwargs: Any
        ) -> tuple[Tensor, list[Tensor]]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102

    def extra_repr(self) -> str:
        """The options, for ``print(module)``."""
        return f"dim={self.dim}, num_heads={self.num_heads}, num_layers={self.num_layers}, band={self.band}"
