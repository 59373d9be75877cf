"""What a table says beside a mean: an interval over the test samples, and a paired test against the full model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_RESAMPLES = 2000
NUM_FLIPS = 10_000


def resampling_counts(num_samples: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each sample is in each bootstrap resample, (resample, sample); rows sum to the number of samples."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(num_samples, np.full(num_samples, 1 / num_samples), size=num_resamples)
    return counts.astype(np.float64)  # products of floating-point numbers are many times faster


def bootstrap_interval(
    predictions: np.ndarray, labels: np.ndarray, suite: str, metric: str, counts: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a metric's mean over the seeds, over resamples of the test samples.

    All seeds are judged on the same resample, so the interval says what other test samples would have given these
    networks; how much networks of other seeds differ is the standard deviation beside it.

    Args:
        predictions: (seed, sample), of labelled samples.
        labels: (sample,).
        suite, metric: names as in :mod:`dmd.metrics`.
        counts: of :func:`resampling_counts`.
        level: share of the resamples inside the interval.

    Returns:
        Lowest and highest value; NaN where the metric is undefined on every resample.
    """
    means = np.mean([resampled_metric(row, labels, suite, metric, counts) for row in predictions], axis=0)
    if np.isnan(means).all():
        return np.nan, np.nan
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_metric(
    predictions: np.ndarray, labels: np.ndarray, suite: str, metric: str, counts: np.ndarray
) -> np.ndarray:
    """A metric of :func:`dmd.metrics.compute_metrics` on every resample, (resample,); sums stand in for copies."""
    if metric in ("mae", "corr"):
        if suite == "sims":
            predictions, labels = predictions.clip(-1, 1), labels.clip(-1, 1)
        p, y = predictions.astype(np.float64), labels.astype(np.float64)
        return _weighted_mean(np.abs(p - y), counts) if metric == "mae" else _weighted_correlation(p, y, counts)
    p, y, is_counted = _classes(predictions, labels, suite, metric)
    p, y, counts = p[is_counted], y[is_counted], counts[:, is_counted]
    if metric.startswith("acc"):
        return _weighted_mean((p == y).astype(np.float64), counts)
    return _weighted_f1(p, y, counts, weighted=metric != "f1_macro")


def _classes(
    predictions: np.ndarray, labels: np.ndarray, suite: str, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of predictions and labels as the metric sees them, and which samples it counts."""
    is_counted = np.ones(len(labels), dtype=bool)
    if suite == "accuracy":
        return predictions.astype(int), labels.astype(int), is_counted
    if metric.endswith("_neg_pos"):
        return predictions > 0, labels > 0, labels != 0
    if metric.endswith("_neg_nonneg"):
        return predictions >= 0, labels >= 0, is_counted
    if metric.endswith("_nonpos_pos"):
        return predictions > 0, labels > 0, is_counted
    if suite == "mosi":
        limit = int(metric[-1]) // 2
        return np.round(predictions.clip(-limit, limit)), np.round(labels.clip(-limit, limit)), is_counted
    edges = {"acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}[metric]
    # Edges take each array's own precision, so that a float32 label of 0.1 equals the edge 0.1.
    predictions, labels = (np.digitize(x, np.array(edges, x.dtype), right=True) for x in (predictions, labels))
    return predictions, labels, is_counted


def _weighted_mean(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=1)
    return np.where(total > 0, counts @ scores / np.maximum(total, 1), np.nan)


def _weighted_correlation(p: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    p, y = p - p.mean(), y - y.mean()  # moments about the mean, for precision
    mean = {
        name: _weighted_mean(x, counts) for name, x in {"p": p, "y": y, "pp": p * p, "yy": y * y, "py": p * y}.items()
    }
    spread = (mean["pp"] - mean["p"] ** 2) * (mean["yy"] - mean["y"] ** 2)
    is_defined = spread > 1e-20
    return np.where(is_defined, (mean["py"] - mean["p"] * mean["y"]) / np.sqrt(np.where(is_defined, spread, 1)), np.nan)


def _weighted_f1(p: np.ndarray, y: np.ndarray, counts: np.ndarray, *, weighted: bool) -> np.ndarray:
    scores, shares = [], []
    for label in np.union1d(p, y):
        hits, said, true = (counts @ part for part in ((p == label) & (y == label), p == label, y == label))
        scores.append(2 * hits / np.maximum(said + true, 1))
        shares.append(true if weighted else said + true > 0)
    total = np.sum(shares, axis=0)
    return np.where(total > 0, np.sum(np.multiply(scores, shares), axis=0) / np.maximum(total, 1), np.nan)


def sample_errors(predictions: np.ndarray, labels: np.ndarray, suite: str) -> np.ndarray:
    """Error of every test sample, averaged over the seeds: absolute, or the share of seeds whose class is wrong."""
    if suite == "accuracy":
        return (predictions != labels).mean(axis=0)
    if suite == "sims":
        predictions, labels = predictions.clip(-1, 1), labels.clip(-1, 1)
    return np.abs(predictions.astype(np.float64) - labels).mean(axis=0)


def sign_flip_test(differences: np.ndarray, num_flips: int = NUM_FLIPS, seed: int = 0) -> float:
    """Two-sided p value of paired differences (sample,) against a mean of 0.

    If two models err alike, each sample's difference could as well have the other sign: p is the share of sign
    patterns whose mean is at least as far from 0. All patterns where they are no more than ``num_flips``, else that
    many drawn ones, the observed one counted in.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if not differences.any():
        return 1.0
    size = len(differences)
    if 2 ** min(size, 63) <= num_flips:
        signs = 1 - 2 * (np.arange(2**size)[:, None] >> np.arange(size) & 1)
        added = 0
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(2, size=(num_flips, size), dtype=np.int8)
        added = 1
    means = np.concatenate([block @ differences for block in np.array_split(signs, 1 + signs.size // 10**6)]) / size
    # Rounding must not part a pattern from its mirror image.
    as_far = int((np.abs(means) >= abs(differences.mean()) * (1 - 1e-12)).sum())
    return (as_far + added) / (len(signs) + added)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests; NaN (no test) stays NaN and counts as none."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    highest = 0.0
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, p[position] * (len(order) - rank)))
        adjusted[position] = highest
    return adjusted.tolist()
