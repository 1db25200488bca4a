"""The two-sample Kolmogorov-Smirnov test at the effective sample size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstwo


@dataclass(frozen=True, slots=True)
class KsTest:
    """`statistic` is scipy's; `p` holds at the effective sample sizes; `q` is `p` corrected over the lines."""

    statistic: float
    p: float
    q: float


def ks_statistic(window: NDArray[np.float64], reference_sorted: NDArray[np.float64]) -> float:
    """The largest distance between the two empirical distributions, exactly as `scipy.stats.ks_2samp`.

    >>> ks_statistic(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    1.0
    """
    window_sorted = np.sort(window)
    both = np.concatenate([window_sorted, reference_sorted])
    cdf_window = np.searchsorted(window_sorted, both, side="right") / len(window_sorted)
    cdf_reference = np.searchsorted(reference_sorted, both, side="right") / len(reference_sorted)
    return float(np.max(np.abs(cdf_window - cdf_reference)))


def ks_p(statistic: float, *, n_window: float, n_reference: float) -> float:
    """Two-sided p of the statistic for effective sizes; with whole sizes it is scipy's `method='asymp'`."""
    effective = max(round(n_window * n_reference / (n_window + n_reference)), 1)
    return float(np.clip(kstwo.sf(statistic, effective), 0.0, 1.0))
