"""The metrics once more, in plain Python from their definitions: what the tests compare with."""

import math

import pytest
from dmd.metrics import NAMES
from hypothesis import strategies as st


def pairs(elements: st.SearchStrategy, min_size: int = 1) -> st.SearchStrategy:
    return st.lists(st.tuples(elements, elements), min_size=min_size, max_size=30)


def accuracy(pairs_of_classes: list) -> float:
    if not pairs_of_classes:
        return math.nan
    return sum(1 for p, y in pairs_of_classes if p == y) / len(pairs_of_classes)


def f1_scores(pairs_of_classes: list) -> dict:
    """Class -> (F1, how often the truth has it), for all classes that prediction or truth has."""
    scores = {}
    for wanted in {value for pair in pairs_of_classes for value in pair}:
        hits = sum(1 for p, y in pairs_of_classes if p == wanted and y == wanted)
        predicted = sum(1 for p, _ in pairs_of_classes if p == wanted)
        true = sum(1 for _, y in pairs_of_classes if y == wanted)
        scores[wanted] = (2 * hits / (predicted + true), true)
    return scores


def weighted_f1(pairs_of_classes: list) -> float:
    if not pairs_of_classes:
        return math.nan
    return sum(score * count for score, count in f1_scores(pairs_of_classes).values()) / len(pairs_of_classes)


def macro_f1(pairs_of_classes: list) -> float:
    scores = f1_scores(pairs_of_classes)
    return sum(score for score, _ in scores.values()) / len(scores)


def clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def correlation(samples: list) -> float:
    p_mean = math.fsum(p for p, _ in samples) / len(samples)
    y_mean = math.fsum(y for _, y in samples) / len(samples)
    covariance = math.fsum((p - p_mean) * (y - y_mean) for p, y in samples)
    p_spread = math.fsum((p - p_mean) ** 2 for p, _ in samples)
    y_spread = math.fsum((y - y_mean) ** 2 for _, y in samples)
    return covariance / math.sqrt(p_spread * y_spread)


def assert_equal(got: dict, wanted: dict) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-5, nan_ok=True), name


def sims_bin(value: float, edges: tuple[float, ...]) -> int:
    return sum(1 for edge in edges if value > edge)


def assert_close(got: dict, wanted: dict) -> None:
    """Equal in float64."""
    assert list(got) == list(NAMES["mosi" if "acc7" in got else "sims" if "acc5" in got else "accuracy"])
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name
