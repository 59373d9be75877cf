"""Transformers with what they read, and which of them can run as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from gdkit._layers import is_untouched
from gdkit._transformer_layer import CrossmodalLayer, is_plain
from gdkit.crossmodal import CrossmodalTransformer

_OPTIONS = (bool, int, float, str, type(None))


class Task(NamedTuple):
    """A transformer and what it reads."""

    transformer: CrossmodalTransformer
    target: Tensor  # (batch, time, dim)
    source: Tensor | None  # (batch, source time, dim)
    target_mask: Tensor | None
    source_mask: Tensor | None

    def can_stack(self) -> bool:
        """Whether the transformer computes what its class says, with nothing but what a stack has too."""
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
        module, layer = self.transformer, first_layer(self.transformer)
        # All that the positions of a subclass may go by.
        options = [(name, x) for name, x in vars(module).items() if name[0] != "_" and name != "band"]
        sizes = (layer.expand.out_features, module.dropout.p, layer.dropout.p)
        given = (self.target, self.source, layer.expand.weight)
        tensors = tuple(None if x is None else (x.dtype, x.device) for x in given)
        return type(module), tuple(options), sizes, len(self.target), tensors

    @property
    def last_query(self) -> int:
        """The step from which a band is counted where the last step alone asks; 0 where it hides nothing from it."""
        band = self.transformer.band
        return 0 if band is None or (self.source is None and band >= 0) else self.target.shape[1]

    def attends_alike(self) -> tuple[float, float, int]:
        """Equal for tasks whose attention can be one call."""
        band, dropout = self.transformer.band, first_layer(self.transformer).attention_dropout
        return dropout, math.inf if band is None else band, self.last_query


def groups_of(tasks: Sequence[Task]) -> list[list[int]]:
    """Places of tasks that can run as one, those that attend alike beside each other."""
    alike: dict[Any, list[int]] = {}
    for place, task in enumerate(tasks):
        alike.setdefault(task.alike() if task.can_stack() else place, []).append(place)
    groups: list[list[int]] = []
    for places in alike.values():
        times = [tasks[place].target.shape[1] for place in places]
        parts = {0: places}
        if len(times) * max(times) > 2 * sum(times):  # more padding than steps
            parts = {time: [place for place, own in zip(places, times, strict=True) if own == time] for time in times}
        groups += [sorted(part, key=lambda place: tasks[place].attends_alike()) for part in parts.values()]
    return groups


def first_layer(transformer: CrossmodalTransformer) -> CrossmodalLayer:
    """All layers have the same sizes."""
    return cast(CrossmodalLayer, transformer.layers[0])
