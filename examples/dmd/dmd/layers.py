"""The small layers around gdkit's pieces: raw input to standardised sequences, and sequences to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .options import ModelConfig

Value = TypeVar("Value", int, float)


def per_modality(
    option: str, value: Value | Mapping[str, Value], names: Sequence[str], default: Value
) -> dict[str, Value]:
    """One value a modality, of an option that is one value for all or a mapping; who is not named gets the default.

    Raises:
        ValueError: if the mapping names a modality that is not there.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    if unknown := sorted(set(value) - set(names)):
        raise ValueError(f"{option} names {', '.join(unknown)}; the modalities are {', '.join(names)}")
    return {name: value.get(name, default) for name in names}


def check_input_options(config: ModelConfig, names: Sequence[str]) -> tuple[dict[str, int], dict[str, float]]:
    """Kernel size and chance of dropout of every modality, once all that networks do to their input is checked.

    Raises:
        ValueError: naming the option, or the modality that no submodule can be called by.
    """
    for name in names:
        if not name or "." in name or hasattr(nn.ModuleDict(), name):
            raise ValueError(f"modality {name!r} cannot name a submodule: it is empty, has a dot, or is taken")
    sizes = per_modality("kernel_size", config.kernel_size, names, 1)
    if min(sizes.values()) < 1:
        raise ValueError(f"kernel_size must be at least 1 step, got {config.kernel_size}")
    if config.stem_layers < 0:
        raise ValueError(f"stem_layers must be at least 0, got {config.stem_layers}")
    if config.stem_stride < 1:
        raise ValueError(f"stem_stride must be at least 1 step, got {config.stem_stride}")
    if config.gain < 0:
        raise ValueError(f"gain must be at least 0, got {config.gain}")
    for option in ("mixing", "warp"):
        if getattr(config, option) < 0:
            raise ValueError(f"{option} must be at least 0, got {getattr(config, option)}")
    chances = per_modality("modality_dropout", config.modality_dropout, names, 0.0)
    if not all(0 <= chance < 1 for chance in chances.values()):
        raise ValueError(f"modality_dropout must be in [0, 1), got {config.modality_dropout}")
    return sizes, chances


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real steps, (batch, time, dim) to (batch, dim); zeros where no step is real."""
    total = torch.where(mask[..., None], x, 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def neighbours(x: Tensor, steps: int) -> Tensor:
    """So many steps at a time, (batch, time, ...) to (batch, group, steps, ...); zeros fill the last group."""
    num_groups = (x.shape[1] + steps - 1) // steps  # spelled out, as torch.export follows no remainder
    missing = num_groups * steps - x.shape[1]
    return F.pad(x, (*(0, 0) * (x.dim() - 2), 0, missing)).view(x.shape[0], num_groups, steps, *x.shape[2:])


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics are those of the real steps, so that padding changes nothing."""

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, dim: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_variance", torch.ones(dim))
        self.momentum, self.epsilon = momentum, epsilon

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim), zero where not real."""
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            real = mask[..., None].to(x.dtype)
            count = real.sum()
            mean = (x * real).sum(dim=(0, 1)) / count.clamp(min=1)
            variance = ((x - mean).square() * real).sum(dim=(0, 1)) / count.clamp(min=1)
            enough = count > 1  # a single step has no spread, and none has no mean: both teach no statistics
            with torch.no_grad():
                share = self.momentum * enough
                self.running_mean.lerp_(mean.float(), share)
                self.running_variance.lerp_((variance * count / (count - 1).clamp(min=1)).float(), share)
            mean, variance = (
                torch.where(enough, mean, self.running_mean),
                torch.where(enough, variance, self.running_variance),
            )
        x = (x - mean) * torch.rsqrt(variance + self.epsilon) * self.weight + self.bias
        return torch.where(mask[..., None], x, 0.0)


class InputAdapter(nn.Module):
    """Standardise raw features, average neighbouring steps, and drop inputs.

    The statistics are buffers, so a checkpoint reads raw features anywhere. Standardised values are cut at +-10: raw
    audio descriptors hold single values hundreds of deviations out.

    Args:
        input_dims: width of each modality.
        pool: steps to average, one number or one a modality (1 where it names none).
        dropout: of the standardised values.
        standardize, gain, mixing: as in :class:`dmd.model.ModelConfig`.
    """

    def __init__(
        self,
        input_dims: Mapping[str, int],
        pool: int | Mapping[str, int],
        dropout: float,
        standardize: str,
        gain: float,
        mixing: float = 0.0,
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.gain, self.mixing = gain, mixing
        self.pool = per_modality("pool", pool, tuple(input_dims), 1)
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
            if self.standardize == "modality":
                scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}_scale").copy_(torch.from_numpy(scale))

    def forward(self, name: str, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, input_dim) and its mask, to the same with ``time / pool`` steps."""
        mean = getattr(self, f"{name}_mean")
        if self.standardize == "sample":
            mean = masked_mean(x, mask)[:, None]  # (batch, 1, input_dim)
        x = ((x - mean) / getattr(self, f"{name}_scale")).clamp(-10, 10)
        if self.training and self.gain > 0:
            x = x * torch.exp(self.gain * torch.randn(x.shape[0], 1, x.shape[2], device=x.device))
        if self.training and self.mixing > 0:
            width = x.shape[2]
            matrix = torch.randn(x.shape[0], width, width, device=x.device) * (self.mixing / width**0.5)
            x = x + x @ matrix
        x = torch.where(mask[..., None], x, 0.0)
        steps = self.pool[name]
        if steps > 1:
            x = neighbours(x, steps).sum(dim=2)
            counts = neighbours(mask, steps).to(x.dtype).sum(dim=2)  # (batch, group)
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


class FeatureFusion(nn.Module):
    """One head over all parts, each weighed by a sigmoid of itself: the adaptive fusion; the paper has no formula."""

    def __init__(self, widths: Sequence[int], num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(width, width) for width in widths)
        self.head = ResidualHead(sum(widths), num_outputs, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(batch, width) a part, to (batch, num_outputs)."""
        gated = [torch.sigmoid(gate(x)) * x for gate, x in zip(self.gates, features, strict=True)]
        return self.head(torch.cat(gated, dim=-1))
