"""How many operations a call starts, and how often the host would have to wait for a device, or send it something."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.suite.point import Call

# Their results share memory with an input, though their schemas do not say so.
UNDECLARED_VIEWS = {"aten::_unsafe_view"}
# By their schemas results of any size; but only boolean indices make it depend on values.
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
COPIES = {"aten::_to_copy", "aten::copy_"}
READS_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class OperationCounter(TorchDispatchMode):
    """Counts operations that are not views, those that read values, and those that bring data from the host.

    On a GPU an operation is at least one kernel, and one whose result depends on values (``item``, ``nonzero``, boolean
    indices) makes the host wait. What the host brings are tensors made of Python's numbers or numpy's arrays (lists as
    indices too), and what lies on another device than the rest. ``tolist`` and ``numpy`` never reach the dispatcher on
    a CPU and are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.reads = self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if not func.is_view and name not in UNDECLARED_VIEWS:
            self.operations += 1
        if name in INDEXING:
            self.reads += any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        elif READS_VALUES & set(func.tags):
            self.reads += 1
        result = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        # A single number on the CPU is no copy: a kernel takes it as an argument.
        devices = {x.device for x in given if x.dim() > 0 or x.device.type != "cpu" or name in COPIES}
        self.copies += name == "aten::lift_fresh" or len(devices) > 1
        return result


def count_cpu(call: Call) -> tuple[int, int, Any]:
    """Operations, operations that read values, and what the call returns."""
    with OperationCounter() as counter:
        result = call()
    return counter.operations, counter.reads, result


def count_cuda(call: Call) -> tuple[int, int, Any]:
    """Kernels by the profiler (copies and fills by the copy engine are none), and warnings of waits by PyTorch."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    waits = sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        result = call()
        torch.cuda.synchronize()
    on_device = [event.name for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device), waits, result


def tensors(result: Any) -> list[Tensor]:
    """Those among what a call returned."""
    return [x for x in (result if isinstance(result, tuple | list) else [result]) if isinstance(x, Tensor)]
