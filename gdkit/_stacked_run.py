"""Transformers that are alike, run as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from gdkit._hidden import Hidden, hidden_by_masks
from gdkit._stacked_task import Task, first_layer
from gdkit._stacked_weights import StackedWeights, normalised
from gdkit.attention import attend
from gdkit.crossmodal import CrossmodalTransformer


def run_stacked(tasks: Sequence[Task], last_step: bool) -> tuple[Tensor, ...]:
    """(batch, time, dim) of each task, or (batch, dim) with ``last_step``, of tasks that are alike."""
    first, times = tasks[0].transformer, [task.target.shape[1] for task in tasks]
    x, mask = _embed([task.target for task in tasks], [task.target_mask for task in tasks], first)
    weights = StackedWeights([task.transformer for task in tasks], crossed=tasks[0].source is not None)
    sources, source_mask, keys_and_values = x, mask, None
    if tasks[0].source is not None:
        masks = [task.source_mask for task in tasks]
        sources, source_mask = _embed([cast(Tensor, task.source) for task in tasks], masks, first)
        keys_and_values = weights.keys_and_values(normalised(sources))
    runs: list[_Run] = _runs(tasks, (x, sources, mask, source_mask))
    dropout = first_layer(first).dropout
    for depth in range(first.num_layers):
        last = last_step and depth == first.num_layers - 1
        normed = normalised(x)
        asking = normed
        if last:  # one query, which stands at the end
            x, asking = _last(x, times), _last(normed, times)
            runs = [run.at_last_query() for run in runs]
        if keys_and_values is None:
            query, key, value = weights.all_heads(depth, normed, asking)
        else:
            query, (key, value) = weights.queries(depth, asking), keys_and_values[depth]
        x = x + dropout(weights.linear("out", depth, _attend(query, key, value, runs)))
        hidden = dropout(F.relu(weights.linear("expand", depth, normalised(x))))
        x = x + dropout(weights.linear("contract", depth, hidden))
    x = weights.final_norm(normalised(x))
    if mask is not None:
        x = torch.where((_last(mask, times) if last_step else mask)[..., None], x, 0.0)
    if last_step:
        return x[:, :, 0].unbind(0)
    return tuple(each[:, :time] for each, time in zip(x.unbind(0), times, strict=True))


def _embed(
    sequences: Sequence[Tensor], masks: Sequence[Tensor | None], transformer: CrossmodalTransformer
) -> tuple[Tensor, Tensor | None]:
    """The embedded sequences (task, batch, time, dim), padded to one length, and which steps are real, None: all."""
    longest = max(x.shape[1] for x in sequences)
    padded = any(x.shape[1] < longest for x in sequences)
    mask = None
    if padded or any(each is not None for each in masks):
        pairs = zip(masks, sequences, strict=True)
        real = [x.new_ones(x.shape[:2], dtype=torch.bool) if each is None else each for each, x in pairs]
        mask = torch.stack([F.pad(each, (0, longest - each.shape[1])) if padded else each for each in real])
    x = torch.stack([F.pad(x, (0, 0, 0, longest - x.shape[1])) if padded else x for x in sequences])
    folded = None if mask is None else mask.flatten(0, 1)
    return transformer.embed(x.flatten(0, 1), folded).view(x.shape), mask


def _last(x: Tensor, times: Sequence[int]) -> Tensor:
    """The last step of each task, (task, batch, 1, ...), of (task, batch, time, ...)."""
    if min(times) == x.shape[2]:
        return x[:, :, -1:]
    return torch.stack([each[:, time - 1 : time] for each, time in zip(x.unbind(0), times, strict=True)])


class _Run(NamedTuple):
    """Neighbouring tasks whose attention is one call."""

    size: int
    hidden: Hidden
    dropout: float
    last_query: int

    def at_last_query(self) -> _Run:
        """The same where only the last step of each target asks."""
        return self._replace(hidden=self.hidden.at_last_query(self.last_query))


def _runs(tasks: Sequence[Task], sequences: tuple[Tensor, Tensor, Tensor | None, Tensor | None]) -> list[_Run]:
    """The runs among tasks in the order of ``attends_alike``, of sequences and masks as in :func:`hidden_by_masks`."""
    starts = [n for n, task in enumerate(tasks) if n == 0 or task.attends_alike() != tasks[n - 1].attends_alike()]
    runs: list[_Run] = []
    for start, stop in zip(starts, [*starts[1:], len(tasks)], strict=True):
        transformer, run = tasks[start].transformer, slice(start, stop)
        target, source, *masks = (None if x is None else x[run].flatten(0, 1) for x in sequences)
        hidden = hidden_by_masks(cast(Tensor, target), cast(Tensor, source), masks[0], masks[1], transformer.band)
        dropout = first_layer(transformer).attention_dropout if transformer.training else 0.0
        runs.append(_Run(stop - start, hidden, dropout, tasks[start].last_query or hidden.num_keys))
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
