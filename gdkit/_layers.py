"""What a module may take for granted of a layer inside it, which users replace, wrap and convert."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdkit._autocast import is_autocast_on


def is_untouched(module: nn.Module) -> bool:
    """Whether a call of a module is its class's forward and nothing else."""
    own = vars(module)  # written out, as every module of a stack is asked in every step
    hooked = own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]
    return not hooked and "forward" not in own


def check_dtype_of_layer(owner: str, argument: str, tensor: Tensor, layer: nn.Module) -> None:
    """Refuse a tensor whose dtype the layer that reads it will refuse, in words that name the tensor.

    A layer that was replaced or wrapped may take other dtypes, and autocast makes all but float64 alike: these are not
    checked.

    Raises:
        TypeError: naming both dtypes.
    """
    if type(layer) not in (nn.Linear, nn.Conv1d) or not is_untouched(layer):
        return
    dtype = layer.weight.dtype
    if is_autocast_on(tensor) and torch.float64 not in (tensor.dtype, dtype):
        return
    if tensor.dtype != dtype:
        raise TypeError(f"{owner}: {argument} must be {dtype}, as the parameters are, got {tensor.dtype}")
