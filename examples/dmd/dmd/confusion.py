"""Which class is taken for which: counts for the picture and for the page of a run."""

from __future__ import annotations

import numpy as np

MOST_CLASSES = 60  # of a picture: with more of them no name can be read, and a page takes tens of megabytes


def confusion(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """How many samples of each class (row) are taken for each (column), (class, class); below 0 = unlabelled."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    known = truth >= 0
    np.add.at(counts, (truth[known].astype(np.int64), prediction[known].astype(np.int64)), 1)
    return counts


def shown_classes(counts: np.ndarray) -> np.ndarray:
    """The classes that a picture shows, in ascending order: all, or those that take part in most errors."""
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])
