"""One sample from elsewhere, checked, as the tensors that a network reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data import Batch
from .released_text import ReleasedText
from .text import TextEncoder

TEXT = "language"  # the modality that a text encoder makes


class SampleReader:
    """Turns a mapping from modality to (time, dim) numbers into tensors, or says what is wrong with it.

    Values are rounded to float32, as those of a data file are. Reading changes nothing, so that threads may share one.

    Args:
        dims: width of each modality.
        longest: most steps of those that have a limit.
        encoder: makes `language` of token ids; None: `language` is features, as all others are.
        takes_states: `language` may also be the states that the encoder would give.
        device, dtype: of the tensors.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        longest: Mapping[str, int],
        encoder: TextEncoder | ReleasedText | None,
        *,
        takes_states: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.dims, self.longest = dict(dims), dict(longest)
        self.encoder, self._takes_states = encoder, takes_states
        self._device, self._dtype = device, dtype

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Tensor]:
        """Modality -> (time, dim); no steps where it is absent.

        Raises:
            TypeError, ValueError: naming the modality, what was wanted and what came.
        """
        names = ", ".join(self.dims)
        if not isinstance(sample, Mapping):
            raise TypeError(f"a sample must map modalities ({names}) to numbers, got {type(sample).__name__}")
        if unknown := [name for name in sample if name not in self.dims]:
            raise ValueError(f"the network reads {names}, but the sample has {', '.join(map(repr, unknown))}")
        arrays = {name: as_numbers(name, sample.get(name)) for name in self.dims}
        if not any(map(len, arrays.values())):
            raise ValueError(f"a sample must have a step of at least one modality ({names}), got none")
        for name, array in arrays.items():
            longest = self.longest.get(name, len(array))
            if len(array) > longest:
                raise ValueError(f"{name} must have at most {longest} steps, got {len(array)}")
        return {name: self._tensor(name, array) for name, array in arrays.items()}

    def _tensor(self, name: str, array: np.ndarray) -> Tensor:
        width = self.dims[name]
        if name == TEXT and self.encoder is not None and not (self._takes_states and array.ndim == 2):
            return self._encode(array)
        if len(array) == 0:
            return torch.zeros(0, width, dtype=self._dtype, device=self._device)
        if array.ndim != 2 or array.shape[1] != width:
            also = " or (time,) token ids" if name == TEXT and self.encoder is not None else ""
            raise ValueError(f"{name} must have shape (time, {width}){also}, got {array.shape}")
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        if not np.isfinite(values).all():
            step, column = np.argwhere(~np.isfinite(values))[0]
            found = f"{array[step, column]} in step {step}, column {column}"
            raise ValueError(f"{name} must be finite as float32, got {found}")
        return torch.from_numpy(values).to(device=self._device, dtype=self._dtype)

    def _encode(self, tokens: np.ndarray) -> Tensor:
        """States of token ids, of this text alone: (time, width)."""
        content = self.encoder.content
        vocabulary, longest = content["vocab_size"], content.get("max_position_embeddings") or len(tokens)
        if len(tokens) == 0:
            tokens = np.zeros(0, np.int64)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise ValueError(f"{TEXT} must be (time,) token ids, whole numbers, got {tokens.dtype} {tokens.shape}")
        if len(tokens) > longest:
            raise ValueError(f"{TEXT} must have at most {longest} token ids, got {len(tokens)}")
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < vocabulary):
            outside = tokens[(tokens < 0) | (tokens >= vocabulary)][0]
            raise ValueError(f"{TEXT} must be token ids from 0 to {vocabulary - 1}, got {outside}")
        if len(tokens) == 0 and isinstance(self.encoder, TextEncoder):
            return torch.zeros(0, self.dims[TEXT], dtype=self._dtype, device=self._device)
        ids = torch.zeros(1, max(1, len(tokens)), dtype=torch.int64)
        ids[0, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        mask = torch.full(ids.shape, len(tokens) > 0)
        ids, mask = ids.to(self._device), mask.to(self._device)
        found = self.encoder(Batch({}, {TEXT: mask}, torch.empty(1), torch.zeros(1, dtype=torch.int64), ids))
        return (found if isinstance(found, Tensor) else found.inputs[TEXT])[0]


def as_numbers(name: str, value: Any) -> np.ndarray:
    """An array of numbers; None is one of no steps.

    Raises:
        TypeError, ValueError: it is none, naming what came.
    """
    wanted = f"{name} must be an array of numbers (time, dim)"
    if value is None:
        return np.zeros((0, 0), np.float32)
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_complex():
            raise TypeError(f"{wanted}, got a tensor of {value.layout}, {value.dtype}")
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array = np.asarray(value)
    except Exception as error:  # a ragged list, or whatever an object's own conversion raises
        raise ValueError(f"{wanted}, got a {type(value).__name__} that is none ({error})") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{wanted}, got {type(value).__name__} of dtype {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{wanted}, got the single number {array}")
    return array
