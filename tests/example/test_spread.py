"""Mean and standard deviation of what is defined."""

import math

import pytest
from dmd.spread import mean_std


def test_by_hand():
    assert mean_std([1.0, 3.0, math.nan, None]) == pytest.approx((2.0, math.sqrt(2)))
    assert mean_std([5.0]) == pytest.approx((5.0, math.nan), nan_ok=True)
    assert mean_std([math.inf]) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert mean_std([]) == pytest.approx((math.nan, math.nan), nan_ok=True)
