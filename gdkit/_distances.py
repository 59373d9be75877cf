"""The distances that a teacher can hold a student to, over the last axis; sources of Eq. 7's epsilon."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

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
    check_choice(owner, argument, distance, DISTANCES)
    if dim == 1 and distance in ("kl", "cosine"):
        why = "is always 0" if distance == "kl" else "is only a sign"
        raise ValueError(f"{owner}: {argument} {distance!r} {why} on vectors of width 1; use 'l1' or 'l2'")


def distance_between(teacher: Tensor, student: Tensor, distance: Distance, temperature: float) -> Tensor:
    """Distance of each student to its teacher, ``(..., dim)`` twice to ``(...)``."""
    if callable(distance):
        return distance(teacher, student)
    if distance == "l1":
        return (teacher - student).abs().sum(-1)
    if distance == "l2":
        return (teacher - student).square().sum(-1)
    if distance == "cosine":
        return 1 - (unit_vectors(teacher) * unit_vectors(student)).sum(-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    log_student = F.log_softmax(student / temperature, dim=-1)
    # The factor T^2 keeps the gradient's size independent of T (Hinton et al. 2015).
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
