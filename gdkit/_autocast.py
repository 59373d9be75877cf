"""Computing in the dtype that tensors have, or a wider one, whatever autocast the caller has on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off where this tensor is; tensors without values ("meta") have none to turn off."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def is_autocast_on(x: Tensor) -> bool:
    """Whether the caller has autocast on where this tensor is."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def for_loss(x: Tensor) -> Tensor:
    """16-bit numbers in float32 where autocast is on, as PyTorch's own losses take them: squares overflow float16.

    Without autocast nothing is changed: who converts a module to 16 bits wants 16 bits.
    """
    return x.float() if x.is_floating_point() and x.dtype.itemsize == 2 and is_autocast_on(x) else x
