"""Mean and standard deviation over runs, of what is defined."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def mean_std(values: Iterable[float | None]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the defined values; the deviation of fewer than two is NaN.

    Undefined are NaN, infinities, and None (how JSON holds them).

    Example:
        >>> mean_std([1.0, 3.0, None])
        (2.0, 1.4142135623730951)
    """
    defined = [value for value in values if value is not None and math.isfinite(value)]
    mean = float(np.mean(defined)) if defined else math.nan
    return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan
