"""What an attention hides: keys that are not real, queries that are not, and pairs beyond a band."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gdkit import _check

NO_BAND = 2**30  # a band that no pair of positions exceeds: hides nothing


class Hidden(NamedTuple):
    """The arguments of an attention that hide something, checked."""

    key_lengths: Tensor | None  # (batch,)
    query_lengths: Tensor | None  # (batch,)
    key_mask: Tensor | None  # (batch, key)
    band: int | Tensor | None  # (batch,) where a tensor

    def shown_keys(self, num_keys: int) -> Tensor | None:
        """True where a key is real, (batch, key); None: all are."""
        if self.key_lengths is None:
            return self.key_mask
        inside = torch.arange(num_keys, device=self.key_lengths.device) < self.key_lengths[:, None]
        return inside if self.key_mask is None else inside & self.key_mask

    def shown_pairs(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """True where the band lets a query see a key, (batch or 1, 1, query, key); None: everywhere."""
        if self.band is None or (isinstance(self.band, int) and self.band >= num_keys - 1):
            return None
        step = torch.arange(max(num_queries, num_keys), device=device)
        ahead = step[:num_keys] - step[:num_queries, None]  # (query, key)
        return (ahead <= (self.band if isinstance(self.band, int) else self.band[:, None, None, None])).view(
            -1, 1, num_queries, num_keys
        )

    def seeing_queries(self, num_queries: int, shown: Tensor | None, device: torch.device) -> Tensor | None:
        """True where a query is real and sees a key, (batch or 1, query); None: all are and do."""
        step = torch.arange(num_queries, device=device)
        sees = None if self.query_lengths is None else step < self.query_lengths[:, None]
        if shown is not None:
            sees = shown.any(dim=1, keepdim=True) if sees is None else sees & shown.any(dim=1, keepdim=True)
        if self.band is None or (isinstance(self.band, int) and self.band >= 0 and shown is None):
            return sees
        band = self.band if isinstance(self.band, int) else self.band[:, None]
        first = 0 if shown is None else shown.int().argmax(dim=1, keepdim=True)  # the first key that is real
        reaches = (step >= first - band).view(-1, num_queries)
        return reaches if sees is None else sees & reaches


def check_hidden(
    batch: int,
    num_keys: int,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    key_mask: Tensor | None,
    band: int | Tensor | None,
) -> Hidden:
    """The arguments of :func:`gdkit.attention.attention`, if they fit.

    Raises:
        TypeError, ValueError: if they do not.
    """
    for argument, lengths in (("key_lengths", key_lengths), ("query_lengths", query_lengths)):
        if lengths is not None:
            _check.check_whole("attention", argument, lengths, [batch])
    if key_mask is not None:
        _check.check_mask("attention", "key_mask", key_mask, [batch, num_keys])
    if isinstance(band, Tensor):
        band = _check.check_whole("attention", "band", band, [batch]).long().clamp(-NO_BAND, NO_BAND)
    elif band is not None:
        band = check_band("attention", "band", band)
    return Hidden(key_lengths, query_lengths, key_mask, band)


def check_band(owner: str, argument: str, band: int) -> int:
    """An integer, brought into what 32 bits can add to a position: beyond, it hides nothing, or everything."""
    _check.check_integer(owner, argument, band)
    return max(-NO_BAND, min(band, NO_BAND))
