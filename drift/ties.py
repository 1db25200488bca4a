"""Scores that come in steps (counts, whole numbers, rounded ones), spread over their steps.

A shift by a thousandth moves a whole step of equal scores past a threshold. Each step's scores are spread evenly over it,
as a detector that did not round would have given them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_DIFFERENT = 0.9
"""Of the scores: with more that differ, equal ones are accidents, or the same picture twice."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples, without their whole part, lie evenly however many there are, and show no trend."""


def step_of(scores: NDArray[np.float64]) -> float:
    """The smallest step between scores (n,) that come in steps; 0 for those that do not.

    >>> step_of(np.array([1.0, 2.0, 2.0, 4.0]))
    1.0
    """
    different = np.unique(scores)
    if len(different) < 2 or len(different) > MOST_DIFFERENT * len(scores):
        return 0.0
    return float(np.diff(different).min())


def spread_ties(scores: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Scores (n,) in their order, equal ones spread over half a ``step`` to each side; as they are where it is 0."""
    if step == 0.0 or not len(scores):
        return scores
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    number = np.empty(len(scores), np.int64)
    number[order] = np.arange(len(scores)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its group
    place = ((number + 1) * GOLDEN) % 1.0 - 0.5
    return np.asarray(scores + np.where(counts[group] > 1, place * step, 0.0))
