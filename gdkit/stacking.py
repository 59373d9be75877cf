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
from gdkit._transformer_layer import CrossmodalLayer, check_sequences
from gdkit.attention import attend

if TYPE_CHECKING:
    from gdkit.crossmodal import CrossmodalTransformer

__all__ = ["run_together"]

_PLAIN = {CrossmodalLayer, nn.Dropout, nn.LayerNorm, nn.Linear, nn.ModuleList}  # what is inside a transformer
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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

    Transformers whose sizes, dropout and lengths are alike run as one, with stacked parameters; attention is one call
    for those with the same band and dropout of weights. All others run by themselves, and so do those with a hook, or
    with another module put in the place of one of theirs, such as an adapter.

    Args:
        transformers: any, also of different sizes.
        targets, sources, target_masks, source_masks: one for each transformer, as in
            :class:`gdkit.CrossmodalTransformer`.
        last_step: only the last step of each target is wanted.
        stacked: None: on a GPU, where a step of small networks waits for launches; a CPU gains nothing by it.

    Returns:
        A list of what the transformers would return one by one, but for rounding and for the draws of dropout.

    Raises:
        TypeError, ValueError: if the lists differ in length, or a sequence does not fit its transformer.

    Example:
        >>> from gdkit import CrossmodalTransformer
        >>> transformers = [CrossmodalTransformer(20, num_heads=4, num_layers=2) for _ in range(3)]
        >>> [x.shape for x in run_together(transformers, torch.randn(3, 2, 9, 20), stacked=True)]
        [torch.Size([2, 9, 20]), torch.Size([2, 9, 20]), torch.Size([2, 9, 20])]
    """
    number = len(transformers)
    columns: list[Sequence[Tensor | None]] = [targets]
    columns += [[None] * number if column is None else column for column in (sources, target_masks, source_masks)]
    for argument, column in zip(("targets", "sources", "target_masks", "source_masks"), columns, strict=True):
        if len(column) != number:
            raise ValueError(
                f"run_together: {argument} must hold one for each of {number} transformers, got {len(column)}"
            )
    tasks = [_Task(*cast(Any, parts)) for parts in zip(transformers, *columns, strict=True)]
    stacked = number > 0 and _pays(targets[0]) if stacked is None else stacked
    groups: dict[Any, list[int]] = {}
    for number, task in enumerate(tasks):
        alone = not stacked or not _is_plain(task.transformer)
        groups.setdefault(number if alone else task.alike(), []).append(number)
    results = [*targets]
    for numbers in groups.values():
        if len(numbers) == 1:
            transformer, *inputs = tasks[numbers[0]]
            results[numbers[0]] = cast(Tensor, transformer(*inputs, last_step=last_step))
            continue
        numbers.sort(key=lambda number: tasks[number].attends_alike())
        for number in numbers:
            transformer, *inputs = cast(Any, tasks[number])
            check_sequences("CrossmodalTransformer", transformer.dim, *inputs, last_step=last_step)
        for number, result in zip(numbers, _run([tasks[number] for number in numbers], last_step), strict=True):
            results[number] = result
    return results


class _Task(NamedTuple):
    """A transformer and what it reads."""

    transformer: CrossmodalTransformer
    target: Tensor  # (batch, time, dim)
    source: Tensor | None  # (batch, source time, dim)
    target_mask: Tensor | None
    source_mask: Tensor | None

    def alike(self) -> tuple[Any, ...]:
        """Equal for tasks that can run as one."""
        module, layer = self.transformer, _first_layer(self.transformer)
        options = (module.dim, module.num_heads, module.num_layers, layer.expand.out_features)
        chances = (module.dropout.p, layer.dropout.p)
        shapes = (self.target.shape, None if self.source is None else self.source.shape)
        return type(module), options, chances, shapes, self.target_mask is None, self.source_mask is None

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


def _is_plain(transformer: CrossmodalTransformer) -> bool:
    """Whether all inside is as built: nothing replaced, such as a layer by an adapter, and nothing hooked in."""
    modules = [*transformer.modules()]
    replaced = any(type(module) not in _PLAIN for module in modules[1:])
    return not replaced and not any(getattr(module, hooks) for module in modules for hooks in _HOOKS)
