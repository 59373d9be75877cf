"""What an attention hides: keys that are not real, queries that are not, and pairs beyond a band."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from gdkit import _check
from gdkit._masking import real_lengths

NO_BAND = 2**30  # a band that no pair of positions exceeds: hides nothing


Built = TypeVar("Built")


def _built_once(build: Callable[[Any], Built]) -> Built:
    """A property built at its first reading; unlike functools.cached_property, torch.compile can follow it."""
    name = f"_{build.__name__}"

    def read(self: Any) -> Built:
        if name not in self.__dict__:
            setattr(self, name, build(self))
        return self.__dict__[name]

    return property(read)  # pyright: ignore[reportReturnType]


class Hidden:
    """What an attention hides, checked: the same for all calls over the same sequences, which build each mask once.

    Args:
        num_queries, num_keys, device: of the sequences.
        key_lengths, query_lengths: (batch,).
        key_mask: (batch, key).
        band: one, or (batch,).
    """

    def __init__(
        self,
        num_queries: int,
        num_keys: int,
        device: torch.device,
        key_lengths: Tensor | None,
        query_lengths: Tensor | None,
        key_mask: Tensor | None,
        band: int | Tensor | None,
    ) -> None:
        self.num_queries, self.num_keys, self.device = num_queries, num_keys, device
        self.key_lengths, self.query_lengths, self.key_mask, self.band = key_lengths, query_lengths, key_mask, band

    @_built_once
    def shown_keys(self) -> Tensor | None:
        """True where a key is real, (batch, key); None: all are."""
        if self.key_lengths is None:
            return self.key_mask
        inside = torch.arange(self.num_keys, device=self.device) < self.key_lengths[:, None]
        return inside if self.key_mask is None else inside & self.key_mask

    @_built_once
    def shown_pairs(self) -> Tensor | None:
        """True where the band lets a query see a key, (batch or 1, 1, query, key); None: everywhere."""
        if self.band is None or (isinstance(self.band, int) and self.band >= self.num_keys - 1):
            return None
        step = torch.arange(max(self.num_queries, self.num_keys), device=self.device)
        ahead = step[: self.num_keys] - step[: self.num_queries, None]  # (query, key)
        return (ahead <= (self.band if isinstance(self.band, int) else self.band[:, None, None, None]))[
            (None, None) * isinstance(self.band, int)
        ]

    @_built_once
    def shown(self) -> Tensor | None:
        """True where a query sees a key, by keys and band; a row of none is True, as a softmax over none may be NaN."""
        keys = None if self.shown_keys is None else self.shown_keys[:, None, None, :]
        masks = [mask for mask in (keys, self.shown_pairs) if mask is not None]
        return _with_no_empty_row(functools.reduce(torch.logical_and, masks)) if masks else None

    @_built_once
    def shown_by_band(self) -> Tensor | None:
        """The same by the band alone."""
        return None if self.shown_pairs is None else _with_no_empty_row(self.shown_pairs)

    @_built_once
    def seeing_queries(self) -> Tensor | None:
        """True where a query is real and sees a key, (batch or 1, query); None: all are and do."""
        shown, step = self.shown_keys, torch.arange(self.num_queries, device=self.device)
        sees = None if self.query_lengths is None else step < self.query_lengths[:, None]
        if shown is not None:
            sees = shown.any(dim=1, keepdim=True) if sees is None else sees & shown.any(dim=1, keepdim=True)
        if self.band is None or (isinstance(self.band, int) and self.band >= 0 and shown is None):
            return sees
        band = self.band if isinstance(self.band, int) else self.band[:, None]
        first = 0 if shown is None else shown.int().argmax(dim=1, keepdim=True)  # the first key that is real
        reaches = step >= first - band
        reaches = reaches if reaches.dim() == 2 else reaches[None]
        return reaches if sees is None else sees & reaches

    def at_last_query(self, num_queries: int | None = None) -> Hidden:
        """What is hidden from the last query, of so many or of all, where it alone asks; no band by samples."""
        last = (self.num_queries if num_queries is None else num_queries) - 1
        band = None if self.band is None else self.band + last
        return Hidden(1, self.num_keys, self.device, self.key_lengths, None, self.key_mask, band)


def _with_no_empty_row(mask: Tensor) -> Tensor:
    return mask | ~mask.any(dim=-1, keepdim=True)


def check_hidden(
    query: Tensor,
    key: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    band: int | Tensor | None,
) -> Hidden:
    """What :func:`gdkit.attention.attention` of these heads hides by these arguments, if they fit.

    Raises:
        TypeError, ValueError: if they do not.
    """
    batch = query.shape[0]
    for argument, lengths in (("key_lengths", key_lengths), ("query_lengths", query_lengths)):
        if lengths is not None:
            _check.check_whole("attention", argument, lengths, [batch])
    if key_mask is not None:
        _check.check_mask("attention", "key_mask", key_mask, [batch, key.shape[2]])
    if isinstance(band, Tensor):
        band = _check.check_whole("attention", "band", band, [batch]).long().clamp(-NO_BAND, NO_BAND)
    elif band is not None:
        band = check_band("attention", "band", band)
    sizes = (query.shape[2], key.shape[2], query.device)
    return Hidden(*sizes, key_lengths, query_lengths, key_mask, band)


def hidden_by_masks(
    target: Tensor, source: Tensor, target_mask: Tensor | None, source_mask: Tensor | None, band: int | None
) -> Hidden:
    """What attention from one sequence (batch, time, dim) to another hides, by the masks of their steps."""
    sizes = (target.shape[1], source.shape[1], target.device)
    query_lengths = None if target_mask is None else real_lengths(target_mask)
    # Key lengths say nothing that the mask does not, but let the kernels of a GPU skip what lies behind them.
    key_lengths = None if source_mask is None or not target.is_cuda else real_lengths(source_mask)
    band = None if band is None else check_band("attention", "band", band)
    return Hidden(*sizes, key_lengths, query_lengths, source_mask, band)


def check_band(owner: str, argument: str, band: int) -> int:
    """An integer, brought into what 32 bits can add to a position: beyond, it hides nothing, or everything."""
    _check.check_integer(owner, argument, band)
    return max(-NO_BAND, min(band, NO_BAND))
