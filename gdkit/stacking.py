"""Several transformers of one size as one: every launch does the work of all of them, with the same results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from gdkit._stacked_run import run_stacked
from gdkit._stacked_task import Task, groups_of
from gdkit._transformer_layer import check_sequences
from gdkit.crossmodal import CrossmodalTransformer

__all__ = ["run_together"]


def run_together(
    transformers: Sequence[CrossmodalTransformer],
    targets: Sequence[Tensor],
    sources: Sequence[Tensor | None] | None = None,
    target_masks: Sequence[Tensor | None] | None = None,
    source_masks: Sequence[Tensor | None] | None = None,
    *,
    last_step: bool = False,
    stacked: bool | None = None,
) -> list[Tensor]:
    """What each transformer makes of its own sequences, computed in as few launches as one of them takes.

    Transformers alike in class, sizes, options, dtype and mode run as one, with stacked parameters, their sequences
    padded to one length (unless that would more than double the steps); attention is one call for those with the same
    band and dropout of weights. All others run by
    themselves, as do those of a class with a ``forward`` of its own, or in which something is hooked, or replaced such
    as by an adapter.

    Args:
        transformers: any :class:`gdkit.CrossmodalTransformer`, also of different sizes.
        targets, sources, target_masks, source_masks: one for each transformer, as it takes them.
        last_step: of each target only the last position is wanted, which is zero where that is padding.
        stacked: None: on a GPU, where a step of small networks waits for launches. A CPU gains by it only where very
            small networks are many.

    Returns:
        A list of what the transformers would return one by one, but for rounding and for the draws of dropout.

    Raises:
        TypeError: if the arguments are no lists, or a transformer or a sequence has another type.
        ValueError: if the lists differ in length, or a sequence does not fit its transformer.

    Example:
        >>> import torch, gdkit
        >>> transformers = [gdkit.CrossmodalTransformer(20, num_heads=4, num_layers=2) for _ in range(3)]
        >>> [x.shape for x in run_together(transformers, torch.randn(3, 2, 9, 20), stacked=True)]
        [torch.Size([2, 9, 20]), torch.Size([2, 9, 20]), torch.Size([2, 9, 20])]
    """
    columns = _columns(transformers, targets, sources, target_masks, source_masks)
    tasks = [Task(*cast(Any, parts)) for parts in zip(transformers, *columns, strict=True)]
    stacked = len(tasks) > 0 and _pays(targets[0]) if stacked is None else stacked
    results = [*targets]
    for places in groups_of(tasks) if stacked else [[place] for place in range(len(tasks))]:
        if len(places) == 1:
            transformer, *inputs = tasks[places[0]]
            results[places[0]] = transformer(*inputs, last_step=last_step)
            continue
        for task in (tasks[place] for place in places):
            first, dim = task.transformer.layers[0], task.transformer.dim
            check_sequences("CrossmodalTransformer", dim, *task[1:], first=first, last_step=last_step)
        for place, result in zip(places, run_stacked([tasks[place] for place in places], last_step), strict=True):
            results[place] = result
    return results


def _columns(
    transformers: Sequence[CrossmodalTransformer], *given: Sequence[Tensor | None] | None
) -> list[Sequence[Tensor | None]]:
    """The sequences and masks, one for each transformer.

    Raises:
        TypeError, ValueError: if they are not.
    """
    columns: list[Sequence[Tensor | None]] = []
    for argument, column in zip(("transformers", *_ARGUMENTS), (transformers, *given), strict=True):
        if column is None and argument not in ("transformers", "targets"):
            column = [None] * len(transformers)
        if not isinstance(column, Sequence | Tensor | nn.ModuleList):
            raise TypeError(f"run_together: {argument} must be a list, got {type(column).__name__}")
        if len(column) != len(transformers):
            count = f"{len(transformers)} transformers, got {len(column)}"
            raise ValueError(f"run_together: {argument} must hold one for each of {count}")
        columns.append(cast(Sequence[Tensor | None], column))
    for place, each in enumerate(transformers):
        if not isinstance(each, CrossmodalTransformer):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(each).__name__
            raise TypeError(f"run_together: transformers[{place}] must be a CrossmodalTransformer, got {kind}")
    return columns[1:]


_ARGUMENTS = ("targets", "sources", "target_masks", "source_masks")


def _pays(x: Tensor) -> bool:
    """Whether launches are what a step waits for where this tensor is."""
    return x.is_cuda
