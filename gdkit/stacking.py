"""Several transformers of one size as one: every launch does the work of all of them, with the same results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit._hidden import Hidden, hidden_by_masks
from gdkit._stacked_weights import StackedWeights, normalised
from gdkit._transformer_layer import CrossmodalLayer, check_sequences, is_plain, is_untouched
from gdkit.attention import attend

if TYPE_CHECKING:
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

    Transformers alike in class, sizes, options, dtype, mode and the lengths of their sequences run as one, with
    stacked parameters; attention is one call for those with the same band and dropout of weights. All others run by
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
        >>> from gdkit import CrossmodalTransformer
        >>> transformers = [CrossmodalTransformer(20, num_heads=4, num_layers=2) for _ in range(3)]
        >>> [x.shape for x in run_together(transformers, torch.randn(3, 2, 9, 20), stacked=True)]
        [torch.Size([2, 9, 20]), torch.Size([2, 9, 20]), torch.Size([2, 9, 20])]
    """
    columns = _columns(transformers, targets, sources, target_masks, source_masks)
    tasks = [_Task(*cast(Any, parts)) for parts in zip(transformers, *columns, strict=True)]
    stacked = len(tasks) > 0 and _pays(targets[0]) if stacked is None else stacked
    groups: dict[Any, list[int]] = {}
    for place, task in enumerate(tasks):
        groups.setdefault(task.alike() if stacked and task.can_stack() else place, []).append(place)
    results = [*targets]
    for places in groups.values():
        if len(places) == 1:
            transformer, *inputs = tasks[places[0]]
            results[places[0]] = cast(Tensor, transformer(*inputs, last_step=last_step))
            continue
        places.sort(key=lambda place: tasks[place].attends_alike())
        for task in (tasks[place] for place in places):
            check_sequences("CrossmodalTransformer", task.transformer.dim, *task[1:], last_step=last_step)
        for place, result in zip(places, _run([tasks[place] for place in places], last_step), strict=True):
            results[place] = result
    return results


def _columns(
    transformers: Sequence[CrossmodalTransformer], *given: Sequence[Tensor | None] | None
) -> list[Sequence[Tensor | None]]:
    """The sequences and masks, one for each transformer.

    Raises:
        TypeError, ValueError: if they are not.
    """
    from gdkit.crossmodal import CrossmodalTransformer

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


_OPTIONS = (bool, int, float, str, type(None))
_ARGUMENTS = ("targets", "sources", "target_masks", "source_masks")


class _Task(NamedTuple):
    """A transformer and what it reads."""

    transformer: CrossmodalTransformer
    target: Tensor  # (batch, time, dim)
    source: Tensor | None  # (batch, source time, dim)
    target_mask: Tensor | None
    source_mask: Tensor | None

    def can_stack(self) -> bool:
        """Whether the transformer computes what its class says, with nothing but what a stack has too."""
        from gdkit.crossmodal import CrossmodalTransformer

        module, layers = self.transformer, [cast(CrossmodalLayer, x) for x in self.transformer.layers]
        inside = [*module.modules()][1:]
        same = {(x.dropout.p, x.attention_dropout) for x in layers}
        methods = ("__call__", "forward", "embed")
        return (
            all(getattr(type(module), name) is getattr(CrossmodalTransformer, name) for name in methods)
            and is_untouched(module)
            and all(is_plain(each) and each.training == module.training for each in inside)
            and all(each.eps == 1e-5 for each in inside if isinstance(each, nn.LayerNorm))
            and len(same) == 1
            and not module._parameters  # pyright: ignore[reportPrivateUsage]
            and not module._buffers  # pyright: ignore[reportPrivateUsage]
            and all(isinstance(value, _OPTIONS) for name, value in vars(module).items() if name[0] != "_")
        )

    def alike(self) -> tuple[Any, ...]:
        """Equal for tasks that can run as one."""
        module, layer = self.transformer, _first_layer(self.transformer)
        # All that the positions of a subclass may go by.
        options = [(name, x) for name, x in vars(module).items() if name[0] != "_" and name != "band"]
        sizes = (layer.expand.out_features, module.dropout.p, layer.dropout.p)
        given = (self.target, self.source, self.target_mask, self.source_mask, layer.expand.weight)
        tensors = tuple(None if x is None else (x.dtype, x.device) for x in given)
        shapes = (self.target.shape, None if self.source is None else self.source.shape)
        return type(module), tuple(options), sizes, shapes, tensors

    def attends_alike(self) -> tuple[float, float]:
        """Equal for tasks whose attention can be one call."""
        band = self.transformer.band
        return _first_layer(self.transformer).attention_dropout, math.inf if band is None else band


def _run(tasks: Sequence[_Task], last_step: bool) -> tuple[Tensor, ...]:
    """(batch, time, dim) of each task, or (batch, dim) with ``last_step``, of tasks that are alike."""
    first = tasks[0].transformer
    x, mask = _embed([task.target for task in tasks], [task.target_mask for task in tasks], first)
    weights = StackedWeights([task.transformer for task in tasks], crossed=tasks[0].source is not None)
    sources, source_mask, keys_and_values = x, mask, None
    if tasks[0].source is not None:
        masks = [task.source_mask for task in tasks]
        sources, source_mask = _embed([cast(Tensor, task.source) for task in tasks], masks, first)
        keys_and_values = weights.keys_and_values(normalised(sources))
    runs: list[_Run] = _runs(tasks, (x, sources, mask, source_mask))
    dropout = _first_layer(first).dropout
    for depth in range(first.num_layers):
        last = last_step and depth == first.num_layers - 1
        normed = normalised(x)
        asking = normed
        if last:  # one query, which stands at the end
            x, asking = x[:, :, -1:], normed[:, :, -1:]
            runs = [_Run(run.size, run.hidden.at_last_query(), run.dropout) for run in runs]
        if keys_and_values is None:
            query, key, value = weights.all_heads(depth, normed, asking)
        else:
            query, (key, value) = weights.queries(depth, asking), keys_and_values[depth]
        x = x + dropout(weights.linear("out", depth, _attend(query, key, value, runs)))
        hidden = dropout(F.relu(weights.linear("expand", depth, normalised(x))))
        x = x + dropout(weights.linear("contract", depth, hidden))
    x = weights.final_norm(normalised(x))
    if mask is not None:
        x = torch.where((mask[:, :, -1:] if last_step else mask)[..., None], x, 0.0)
    return (x[:, :, 0] if last_step else x).unbind(0)


def _embed(
    sequences: Sequence[Tensor], masks: Sequence[Tensor | None], transformer: CrossmodalTransformer
) -> tuple[Tensor, Tensor | None]:
    """The embedded sequences (task, batch, time, dim), and their masks (task, batch, time)."""
    x = torch.stack(list(sequences))
    mask = None if masks[0] is None else torch.stack(cast(list[Tensor], masks))
    folded = None if mask is None else mask.flatten(0, 1)
    return transformer.embed(x.flatten(0, 1), folded).view(x.shape), mask


class _Run(NamedTuple):
    """Neighbouring tasks whose attention is one call."""

    size: int
    hidden: Hidden
    dropout: float


def _runs(tasks: Sequence[_Task], sequences: tuple[Tensor, Tensor, Tensor | None, Tensor | None]) -> list[_Run]:
    """The runs among tasks in the order of ``attends_alike``, of sequences and masks as in :func:`hidden_by_masks`."""
    starts = [n for n, task in enumerate(tasks) if n == 0 or task.attends_alike() != tasks[n - 1].attends_alike()]
    runs: list[_Run] = []
    for start, stop in zip(starts, [*starts[1:], len(tasks)], strict=True):
        transformer, run = tasks[start].transformer, slice(start, stop)
        target, source, *masks = (None if x is None else x[run].flatten(0, 1) for x in sequences)
        hidden = hidden_by_masks(cast(Tensor, target), cast(Tensor, source), masks[0], masks[1], transformer.band)
        dropout = _first_layer(transformer).attention_dropout if transformer.training else 0.0
        runs.append(_Run(stop - start, hidden, dropout))
    return runs


def _attend(query: Tensor, key: Tensor, value: Tensor, runs: Sequence[_Run]) -> Tensor:
    """Attention of all tasks, each (task, batch, heads, time, head_dim), to (task, batch, time, dim)."""
    sizes = [run.size for run in runs]
    parts: list[Tensor] = []
    for run, *heads in zip(runs, *(torch.split(x, sizes) for x in (query, key, value)), strict=True):
        folded = [part.flatten(0, 1) for part in heads]
        split = "(task batch) heads time width -> task batch time (heads width)"
        parts.append(
            rearrange(attend(folded[0], folded[1], folded[2], run.hidden, run.dropout), split, batch=query.shape[1])
        )
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _pays(x: Tensor) -> bool:
    """Whether launches are what a step waits for where this tensor is."""
    return x.is_cuda


def _first_layer(transformer: CrossmodalTransformer) -> CrossmodalLayer:
    return cast(CrossmodalLayer, transformer.layers[0])
