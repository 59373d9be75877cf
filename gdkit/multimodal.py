"""Transformers by which every node reinforces every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import torch
from torch import Tensor, nn

from gdkit import _check
from gdkit.crossmodal import CrossmodalTransformer
from gdkit.stacking import run_together


class MultimodalTransformer(nn.Module):
    r"""Every node reinforced by every other: :math:`Z_{\to m} = [Z_{n \to m}]_{n \neq m}` (Eq. 10).

    Args:
        names: of the nodes, at least two; :math:`n` runs in their order.
        dim, num_heads, num_layers: of each :class:`CrossmodalTransformer`.
        num_memory_layers: blocks of self-attention over each concatenation; 0: none.
        feedforward_dim, dropout, attention_dropout, band: as in :class:`CrossmodalTransformer`.

    Shape:
        - features: mapping name -> (batch, time, dim); masks: mapping name -> (batch, time) boolean. Nodes may differ
          in time. Returns a mapping name -> (batch, time, (nodes - 1) * dim); with ``return_attention`` also a mapping
          (source, target) -> list of the weights of each layer.

    Raises:
        ValueError: if an option, a name or a shape does not fit.

    Example:
        >>> features = {name: torch.randn(2, 30, 20) for name in ("language", "vision", "acoustic")}
        >>> MultimodalTransformer(list(features), 20, num_heads=4, num_layers=1)(features)["vision"].shape
        torch.Size([2, 30, 40])

    References:
        Multimodal Transformer for Unaligned Multimodal Language Sequences, arXiv 1906.00295.
    """

    def __init__(
        self,
        names: Sequence[str] | Mapping[str, object],
        dim: int,
        num_heads: int,
        num_layers: int,
        *,
        num_memory_layers: int = 0,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        band: int | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        if len(set(self.names)) < 2 or len(set(self.names)) != len(self.names):
            raise ValueError(f"MultimodalTransformer: names must hold at least 2 different nodes, got {self.names}")
        _check.check_module_names("MultimodalTransformer", self.names)
        _check.check_positive("MultimodalTransformer", "num_memory_layers", num_memory_layers, integer=True, zero=True)
        self.dim = dim

        def transformer(width: int, layers: int) -> CrossmodalTransformer:
            return CrossmodalTransformer(
                width,
                num_heads,
                layers,
                feedforward_dim=feedforward_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                band=band,
            )

        self.reinforce = nn.ModuleDict(
            {
                target: nn.ModuleDict({name: transformer(dim, num_layers) for name in self.names if name != target})
                for target in self.names
            }
        )
        width = (len(self.names) - 1) * dim
        self.memory = nn.ModuleDict(
            {name: transformer(width, num_memory_layers) for name in (self.names if num_memory_layers else ())}
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if isinstance(module, CrossmodalTransformer):
                module.reset_parameters()

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        return_attention: bool = False,
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], dict[tuple[str, str], list[Tensor]]]:
        """Reinforce every node; see the class for shapes."""
        owner = "MultimodalTransformer"
        _check.check_names(owner, "features", features, self.names)
        if masks is not None:
            _check.check_names(owner, "masks", masks, self.names)
        batch: str | int = "batch"
        for name in self.names:
            shape = _check.check_shape(owner, f"features[{name!r}]", features[name], [batch, "time", self.dim]).shape
            batch = shape[0]
            if masks is not None:
                _check.check_mask(owner, f"masks[{name!r}]", masks[name], shape[:2])
        pairs = [(source, target) for target in self.names for source in self.names if source != target]
        transformers = [cast(CrossmodalTransformer, self.reinforce[target][source]) for source, target in pairs]  # pyright: ignore
        ends = [*zip(*((target, source) for source, target in pairs), strict=True)]  # targets, then sources
        columns = [[given[name] for name in end] for given in (features, masks) if given is not None for end in ends]
        weights: dict[tuple[str, str], list[Tensor]] = {}
        if return_attention:
            parts: list[Tensor] = []
            for pair, transformer, *inputs in zip(pairs, transformers, *columns, strict=True):
                part, weights[pair] = transformer(*inputs, return_attention=True)
                parts.append(part)
        else:
            parts = run_together(transformers, *columns)
        step = len(self.names) - 1
        reinforced = [torch.cat(parts[n : n + step], dim=-1) for n in range(0, len(parts), step)]
        if self.memory:
            memories = [cast(CrossmodalTransformer, self.memory[name]) for name in self.names]
            target_masks = None if masks is None else [masks[name] for name in self.names]
            reinforced = run_together(memories, reinforced, target_masks=target_masks)
        named = dict(zip(self.names, reinforced, strict=True))  # each (batch, time, (nodes - 1) * dim)
        return (named, weights) if return_attention else named

    if TYPE_CHECKING:  # nn.Module says Any

        @overload
        def __call__(
            self, *args: Any, return_attention: Literal[False] = False, **kwargs: Any
        ) -> dict[str, Tensor]: ...
        @overload
        def __call__(
            self, *args: Any, return_attention: Literal[True], **kwargs: Any
        ) -> tuple[dict[str, Tensor], dict[tuple[str, str], list[Tensor]]]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102

    def extra_repr(self) -> str:
        """The options, for ``print(module)``; the transformers inside show theirs."""
        return f"names={self.names}, dim={self.dim}"
