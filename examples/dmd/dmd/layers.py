"""The small layers around gdkit's pieces: raw input to standardised sequences, and sequences to predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional as F


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real steps, (batch, time, dim) to (batch, dim); zeros where no step is real."""
    total = torch.where(mask[..., None], x, 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


class InputAdapter(nn.Module):
    """Standardise raw features, average neighbouring steps, and drop inputs.

    The statistics are buffers, so a checkpoint reads raw features anywhere. Standardised values are cut at +-10: raw
    audio descriptors hold single values hundreds of deviations out.
    """

    def __init__(self, input_dims: Mapping[str, int], pool: int | Mapping[str, int], dropout: float) -> None:
        super().__init__()
        self.pool = {name: pool if isinstance(pool, int) else pool.get(name, 1) for name in input_dims}
        if isinstance(pool, Mapping) and (unknown := sorted(set(pool) - set(input_dims))):
            raise ValueError(f"pool names {unknown}, but the modalities are {list(input_dims)}")
        for name, steps in self.pool.items():
            if steps < 1:
                raise ValueError(f"pool must be at least 1 step, got {steps} for {name!r}")
        self.dropout = nn.Dropout(dropout)
        for name, dim in input_dims.items():
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_scale", torch.ones(dim))

    def fit(self, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Take mean and standard deviation of each modality, of the training split alone."""
        for name, (mean, scale) in statistics.items():
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}_scale").copy_(torch.from_numpy(scale))

    def forward(self, name: str, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, input_dim) and its mask, to the same with ``time / pool`` steps."""
        x = ((x - getattr(self, f"{name}_mean")) / getattr(self, f"{name}_scale")).clamp(-10, 10)
        x = torch.where(mask[..., None], x, 0.0)
        steps = self.pool[name]
        if steps > 1:
            missing = -x.shape[1] % steps
            x, mask = F.pad(x, (0, 0, 0, missing)), F.pad(mask, (0, missing))
            counts = reduce(mask.to(x.dtype), "batch (time steps) -> batch time", "sum", steps=steps)
            x = reduce(x, "batch (time steps) dim -> batch time dim", "sum", steps=steps)
            x, mask = x / counts.clamp(min=1)[..., None], counts > 0
        return self.dropout(x), mask


class SequenceProjection(nn.Module):
    """One temporal convolution a modality and nothing else: what is left of the encoder without decoupling."""

    def __init__(self, input_dims: Mapping[str, int], dim: int, kernel_size: int | Mapping[str, int]) -> None:
        super().__init__()
        sizes = {name: kernel_size if isinstance(kernel_size, int) else kernel_size[name] for name in input_dims}
        self.projection = nn.ModuleDict(
            {name: nn.Conv1d(width, dim, sizes[name], padding="same", bias=False) for name, width in input_dims.items()}
        )

    def forward(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mapping name -> (batch, time, dim), zero where not real."""
        coupled = {name: conv(inputs[name].transpose(1, 2)).transpose(1, 2) for name, conv in self.projection.items()}
        return {name: torch.where(masks[name][..., None], x, 0.0) for name, x in coupled.items()}


class ResidualHead(nn.Module):
    """Features to logits through one residual block: f of Eq. 8, and the last layers of the fusion."""

    def __init__(self, dim: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, dim)
        self.contract = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, num_outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim) to (batch, num_outputs)."""
        return self.output(x + self.contract(self.dropout(F.relu(self.expand(x)))))


class Gate(nn.Module):
    """Weigh each feature by a sigmoid of all of them: the adaptive fusion, for which the paper has no formula."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim) to (batch, dim)."""
        return torch.sigmoid(self.weight(x)) * x
