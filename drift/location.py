"""Where the good bulk of a sample lies: a redescending estimate that a minority of high scores cannot move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUTOFF = 4.0
"""Scores beyond this many scales have no influence at all (Tukey's biweight c): 90 % efficient on normal scores."""
MAX_ITERATIONS = 50
TOLERANCE = 1e-6
"""In scales; far below any standard error."""
NORMAL_LOWER = 0.6744897501960817
"""Of a normal sample, the median lies this many standard deviations above the lower quartile."""


@dataclass(frozen=True, slots=True)
class BulkLocation:
    """The centre of the bulk, its influence on each score, and its variance for one independent score."""

    centre: float
    scale: float
    influence: NDArray[np.float64]
    """(n,), in score units and in the order of the scores: the estimate is about centre + mean(influence)."""

    @property
    def unit_variance(self) -> float:
        """Asymptotic variance of the centre times the effective number of scores."""
        n = len(self.influence)
        return float(np.sum(self.influence**2)) / max(n - 1, 1)


def bulk_location(scores: NDArray[np.float64], *, least_scale: float) -> BulkLocation:
    """The biweight centre of `scores` (n,), started at the median, on the scale of the lower half.

    The lower half gives the scale since defects only add high scores. `least_scale` > 0 replaces a scale of 0 (ties).
    """
    n = len(scores)
    lower, centre = np.quantile(scores, (0.25, 0.5))
    scale = max(float(centre - lower) / NORMAL_LOWER, least_scale)
    for _ in range(MAX_ITERATIONS):
        u = (scores - centre) / (CUTOFF * scale)
        weights = np.square(np.clip(1.0 - u * u, 0.0, None))
        moved = float(np.dot(weights, scores) / weights.sum()) if weights.any() else float(centre)
        done = abs(moved - centre) <= TOLERANCE * scale
        centre = moved
        if done:
            break
    u = (scores - centre) / (CUTOFF * scale)
    inside = np.clip(1.0 - u * u, 0.0, None)
    psi = (scores - centre) * inside**2
    slope = float(np.mean(inside**2 - 4.0 * u * u * inside))
    slope = max(slope, 0.1)  # a flat bulk: never divide by (almost) nothing
    return BulkLocation(centre=float(centre), scale=scale, influence=psi / slope if n else psi)
