"""How many independent images a run of neighbouring images is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_RHO = 0.95
"""Beyond this no night is long enough to tell correlation from a slow drift."""
PRIOR_IMAGES = 10.0
"""Weight of 'no autocorrelation' in the pooled estimate: a few images must not invent one."""


@dataclass(frozen=True, slots=True)
class LagSums:
    """One night's sums of squares and of neighbours' products about its mean."""

    n: int
    square: float
    product: float


def lag_sums(values: NDArray[np.float64]) -> LagSums:
    """The sums of (n,) bounded values in capture order; bounded, so a few defects neither make nor hide a correlation."""
    centred = values - values.mean()
    return LagSums(n=len(values), square=float(centred @ centred), product=float(centred[1:] @ centred[:-1]))


def lag_one(nights: Sequence[LagSums]) -> float:
    """Lag-1 autocorrelation pooled over a line's nights, never negative: an alternating belt earns no credit.

    The downward bias of (1 + 3 rho) / n a night is corrected (Kendall 1954). 0 for constant values.
    """
    square = sum(night.square for night in nights)
    if not square > 0.0:
        return 0.0
    n = sum(night.n for night in nights)
    rho = sum(night.product for night in nights) / square
    rho += (1.0 + 3.0 * max(rho, 0.0)) * len(nights) / n
    return float(np.clip(rho * n / (n + PRIOR_IMAGES), 0.0, MAX_RHO))


def effective_n(n: int, rho: float) -> float:
    """Effective sample size of n images with lag-1 autocorrelation rho: n (1 - rho) / (1 + rho), at least 1.

    >>> effective_n(400, 0.0), round(effective_n(400, 0.6))
    (400.0, 100)
    """
    return max(n * (1.0 - rho) / (1.0 + rho), min(float(n), 1.0))
