"""The front of every network: raw inputs to standardised sequences, through convolutions where signals are raw."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augmentation import drop_modalities, stretch
from .layers import InputAdapter, MaskedBatchNorm, check_input_options, neighbours
from .options import ModelConfig
from .signal_statistics import masked_statistics


class ConvolutionStem(nn.Module):
    """Temporal convolutions with a nonlinearity, for raw signals.

    Args:
        input_dim, dim: width before and after.
        num_layers: convolutions.
        kernel_size: steps under each.
        dropout: of their results.
        batch_norm: normalise each over the batch's real steps.
        stride: keep the maximum of this many consecutive steps after each.
    """

    def __init__(
        self,
        input_dim: int,
        dim: int,
        num_layers: int,
        kernel_size: int,
        dropout: float,
        *,
        batch_norm: bool = False,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        widths = [input_dim, *[dim] * num_layers]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size, padding="same") for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(dim) for _ in range(num_layers if batch_norm else 0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, input_dim) and its mask, to (batch, fewer steps, dim), zero where not real, and its mask."""
        for i, layer in enumerate(self.layers):
            x = layer(x.transpose(1, 2)).transpose(1, 2)  # (batch, time, dim)
            if self.norms:
                x = self.norms[i](x, mask)
            x = torch.where(mask[..., None], self.dropout(F.relu(x)), 0.0)
            if self.stride > 1 and x.shape[1] > 0:  # what is not real is 0, and nothing is below 0
                x = neighbours(x, self.stride).amax(dim=2)
                mask = neighbours(mask, self.stride).any(dim=2)
        return x, mask


class Front(nn.Module):
    """Hide modalities (in training), standardise, pool and convolve.

    Args:
        config: what to do.
        input_dims: width of each modality's raw features.

    Attributes:
        dims: width of each modality's result.
        kernel_sizes: of each modality's convolutions.
    """

    chances: Tensor

    def __init__(self, config: ModelConfig, input_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(input_dims)
        self.kernel_sizes, chances = check_input_options(config, self.names)
        self.wide, self.warp = config.wide, config.warp
        self.hides = any(chances.values())
        self.register_buffer("chances", torch.tensor([*chances.values()]), persistent=False)
        self.adapter = InputAdapter(
            input_dims, config.pool, config.input_dropout, config.standardize, config.gain, config.mixing
        )
        self.stems = nn.ModuleDict()
        self.dims = dict(input_dims)
        if config.stem_layers:
            self.dims = dict.fromkeys(input_dims, config.dim)
            for name, width in input_dims.items():
                self.stems[name] = ConvolutionStem(
                    width,
                    config.dim,
                    config.stem_layers,
                    self.kernel_sizes[name],
                    config.dropout,
                    batch_norm=config.stem_batch_norm,
                    stride=config.stem_stride,
                )

    def fit(self, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Take mean and standard deviation of each modality, of the training split alone."""
        self.adapter.fit(statistics)

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Mappings name -> (batch, time, input_dim) and (batch, time), to the same with fewer steps and new widths.

        The third is a mapping name -> (batch, statistics) of what went into the convolutions; empty unless `wide`.
        """
        if self.training and self.hides:
            present = torch.stack([masks[name].any(dim=1) for name in self.names], dim=1)
            kept = drop_modalities(present, self.chances)
            masks = {name: masks[name] & kept[:, i, None] for i, name in enumerate(self.names)}
        if self.training and self.warp > 0:
            some = next(iter(masks.values()))
            factor = torch.exp(self.warp * torch.randn(some.shape[0], device=some.device)).clamp(0.5, 2.0)
            pairs = {name: stretch(inputs[name], masks[name], factor) for name in self.names}
            inputs, masks = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
        pairs = {name: self.adapter(name, inputs[name], masks[name]) for name in self.names}
        statistics = {name: masked_statistics(*pair, self.wide) for name, pair in pairs.items()} if self.wide else {}
        if self.stems:
            pairs = {name: stem(*pairs[name]) for name, stem in self.stems.items()}
        sequences, masks = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
        return sequences, masks, statistics
