"""Computing in the dtype that tensors have, whatever autocast the caller has on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off where this tensor is; tensors without values ("meta") have none to turn off."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
