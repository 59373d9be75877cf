"""A chance of dropout in whole parts, for draws of 16 bits."""

from __future__ import annotations

LEVELS = 2**16  # a chance is rounded to one part in this many


def levels(dropout: float) -> int:
    """The chance in parts of LEVELS; never so high that nothing is kept."""
    return min(round(dropout * LEVELS), LEVELS - 1)


def gain(dropout: float) -> float:
    """What makes up for the weights that are dropped."""
    return LEVELS / (LEVELS - levels(dropout))
