"""How many independent images a run of neighbouring images is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_RHO = 0.95
"""Beyond this no night is long enough to tell correlation from a slow drift."""
PRIOR_IMAGES = 20.0
"""Weight of 'no autocorrelation' in the pooled estimate: a few images must not invent one."""


def lag_one(series: Sequence[NDArray[np.float64]]) -> float:
    """Lag-1 autocorrelation of bounded influence values, pooled over nights, never negative.

    Every element is one night's (n_i,) values in capture order. The values are bounded, so a few defects cannot
    make or hide a correlation. The downward bias of order (1 + 3 rho) / n is corrected (Kendall 1954).
    """
    covariance = variance = n = correction = 0.0
    for values in series:
        if len(values) < 3:
            continue
        centred = values - values.mean()
        covariance += float(np.dot(centred[1:], centred[:-1]))
        variance += float(np.dot(centred, centred))
        n += len(values)
        correction += 1.0
    if variance <= 0.0:
        return 0.0
    rho = covariance / variance
    rho = rho + (1.0 + 3.0 * max(rho, 0.0)) * correction / n
    return float(np.clip(rho * n / (n + PRIOR_IMAGES), 0.0, MAX_RHO))


def effective_n(n: int, rho: float) -> float:
    """Effective sample size of n images with lag-1 autocorrelation rho: n (1 - rho) / (1 + rho), at least 1.

    >>> effective_n(400, 0.0), round(effective_n(400, 0.6))
    (400.0, 100)
    """
    return max(n * (1.0 - rho) / (1.0 + rho), min(float(n), 1.0))
