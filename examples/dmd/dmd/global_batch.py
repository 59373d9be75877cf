"""What the losses of one process see: the samples of its own batch, or those of all processes.

Why the gradients of several processes are then exactly those of one. Let :math:`L` be the loss of the global batch,
:math:`x_p` what the network makes of the rows of process p, and W the number of processes. DDP gives every parameter
the mean over the processes of what each one's backward leaves there.

- Losses of the gathered rows: every process computes the same :math:`L(x_1, ..., x_W)`. The backward of the gather sums
  over the processes, so each one's rows receive :math:`W\\, \\partial L / \\partial x_p`, and the parameters before the
  gather :math:`W\\, (\\partial L / \\partial x_p)(\\partial x_p / \\partial \\theta)`. The mean over the processes is
  :math:`\\sum_p (\\partial L / \\partial x_p)(\\partial x_p / \\partial \\theta)`, the gradient of one process.
- Parameters after the gather, such as a GD-Unit's, receive the whole gradient on every process, and so does the mean.
- Sequences are too large to gather. Of a mean over steps, :math:`\\sum_p s_p / \\sum_p n_p`, process p takes
  :math:`W s_p / \\sum_q n_q`, of which the mean over the processes is the whole, value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils._pytree import tree_flatten, tree_unflatten

Nest = TypeVar("Nest")
Nodes = Mapping[str, Tensor]
StepLoss = Callable[[Nodes, Nodes, Nodes | None], Tensor]


class OwnBatch:
    """The rows of this process alone: everything stays as it is."""

    def gather(self, rows: Nest, masks: Nodes | None) -> Nest:
        """Every tensor in a nest of (batch, ...), with the rows of all processes."""
        return rows

    def over_steps(self, loss: StepLoss, x: Nodes, y: Nodes, masks: Nodes | None) -> Tensor:
        """A loss that is, of each node, a mean over the real steps, and the sum of these."""
        return loss(x, y, masks)

    def own(self, rows: Tensor) -> Tensor:
        """Of (batch, ...) computed from gathered rows, those of this process."""
        return rows


class GlobalBatch(OwnBatch):
    """The rows of all processes, in the order of the processes, whose numbers of rows may differ.

    Args:
        index: (batch,) of this process's samples; a row of -1 stands for none, and counts nowhere.
    """

    def __init__(self, index: Tensor) -> None:
        self.is_real = index >= 0
        self.steps: dict[str, Tensor] = {}

    def gather(self, rows: Nest, masks: Nodes | None) -> Nest:
        """One exchange of the rows and of how many steps are real; the host waits for it.

        All tensors travel as one, in the widest of their dtypes, float32 at least: numbers up to 2**24 stay exact.
        """
        steps = {} if masks is None else {name: self._real(mask).sum(dim=1) for name, mask in masks.items()}
        everything, structure = tree_flatten((rows, steps))
        leaves = [leaf for leaf in everything if isinstance(leaf, Tensor)]
        batch, dtype = len(self.is_real), torch.float32
        for leaf in leaves:
            dtype = torch.promote_types(dtype, leaf.dtype) if leaf.is_floating_point() else dtype
        packed = torch.cat([leaf.to(dtype).reshape(batch, -1) for leaf in leaves], dim=1)  # (batch, width)
        sizes = [int(size) for size in torch.cat(_all_gather(self.is_real.sum()[None])).tolist()]
        rank = dist.get_rank()
        self._slice = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        whole = GatherRows.apply(packed[: sizes[rank]], sizes)  # a row that stands for none is the only one
        parts = whole.split([leaf[0].numel() for leaf in leaves], dim=1)
        found = iter([part.reshape(-1, *x.shape[1:]).to(x.dtype) for part, x in zip(parts, leaves, strict=True)])
        filled = [next(found) if isinstance(leaf, Tensor) else leaf for leaf in everything]
        gathered, self.steps = tree_unflatten(filled, structure)
        return gathered

    def over_steps(self, loss: StepLoss, x: Nodes, y: Nodes, masks: Nodes | None) -> Tensor:
        """This process's part, times the number of processes; the mean over the processes is the loss of all."""
        assert masks is not None
        parts: list[Tensor] = []
        for name, mask in masks.items():
            real = self._real(mask)
            mean = loss({name: x[name]}, {name: y[name]}, {name: real})
            parts.append(mean * (real.sum() * dist.get_world_size()) / self.steps[name].sum().clamp(min=1))
        return torch.stack(parts).sum()

    def own(self, rows: Tensor) -> Tensor:
        """Without rows that stand for none."""
        return rows[self._slice]

    def _real(self, mask: Tensor) -> Tensor:
        return mask & self.is_real[:, None]


def losses_see(index: Tensor, *, everything: bool) -> OwnBatch:
    """The batch that losses are to see: with ``everything`` that of all processes, if there are several."""
    if everything and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return GlobalBatch(index)
    return OwnBatch()


class GatherRows(torch.autograd.Function):
    """Rows (own, width) of each process to (all, width); the gradient is the sum of what all processes have found."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        """``sizes``: rows of each process."""
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), rows.shape[1])
        padded[: len(rows)] = rows
        return torch.cat([part[:size] for part, size in zip(_all_gather(padded), sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The sum over the processes, of the own rows."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.split(ctx.sizes)[dist.get_rank()], None


def _all_gather(x: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return parts
