"""What a CUDA graph is to a step, on a CPU: a tape of operations that runs again on the same memory, without Python."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Takes down every operation, and repeats them.

    So a number that Python has changed since stays as it was, and a result lies where the first one lay.
    """

    def __init__(self):
        super().__init__()
        self.taken = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        tensors = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        fresh = [x.untyped_storage().data_ptr() not in before for x in tensors]
        if func._schema.is_mutable or any(fresh):  # anything else is a view, which shows the new values by itself
            self.taken.append((func, args, kwargs or {}, tensors, fresh))
        return result

    def repeat(self):
        with torch._C._AutoDispatchBelowAutograd():  # where they were taken down
            for func, args, kwargs, tensors, fresh in self.taken:
                results = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
                for old, new, is_fresh in zip(tensors, results, fresh, strict=True):
                    if is_fresh:
                        old.copy_(new)


class TapeRecorder:
    """In place of :class:`dmd.graphed_step.CUDARecorder`."""

    def __init__(self):
        self.runs = self.records = self.replays = 0

    def run(self, function):
        self.runs += 1
        return function()

    def record(self, function):
        """A CPU cannot take down what it does not run, so this runs it, and the first replay does nothing more."""
        self.records += 1
        with Tape() as tape:
            result = function()
        is_done = [True]

        def replay():
            self.replays += 1
            if not is_done:
                tape.repeat()
            is_done.clear()
            return result

        return replay
