"""The distances that a teacher can hold a student to, over the last axis; sources of Eq. 7's epsilon."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from gdkit._check import check_choice

Distance = str | Callable[[Tensor, Tensor], Tensor]
DISTANCES = ("l1", "l2", "cosine", "kl")


def unit_vectors(x: Tensor) -> Tensor:
    """Scale to length 1 over the last axis; a zero vector stays zero and receives a zero gradient.

    ``torch.nn.functional.normalize`` divides by an epsilon there, so that the gradient at a zero vector is 1e12.
    """
    norm = cast(Tensor, torch.linalg.vector_norm(x, dim=-1, keepdim=True))  # pyright: ignore[reportUnknownMemberType]
    positive = norm > torch.finfo(x.dtype).tiny
    return torch.where(positive, x / torch.where(positive, norm, 1.0), 0.0)


def check_distance(owner: str, argument: str, distance: Distance, dim: int) -> None:
    """Refuse a distance that does not exist, or one that says nothing at this width.

    Raises:
        ValueError: for an unknown name; for "kl" and "cosine" on a single number: KL is always 0 there, and the
            cosine only a sign.
    """
    if callable(distance):
        return
    check_choice(owner, argument, distance, DISTANCES, " or a function (teacher, student)")
    if dim == 1 and distance in ("kl", "cosine"):
        why = "is always 0" if distance == "kl" else "is only a sign"
        raise ValueError(f"{owner}: {argument} {distance!r} {why} on vectors of width 1; use 'l1' or 'l2'")
