"""Mean shift and bulk shift, in reference standard deviations, with intervals that know both samples' errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from drift.reference import Reference


@dataclass(frozen=True, slots=True)
class MeanShift:
    """(mean of the window - mean_ref) / sd_ref, with its Welch interval."""

    estimate: float
    low: float
    high: float
    n_effective: float


@dataclass(frozen=True, slots=True)
class BulkShift:
    """The shift of the good bulk in reference standard deviations, with its interval."""

    estimate: float
    low: float
    high: float


def t_quantile(confidence: float, df: float) -> float:
    """Half-width, in standard errors, of a two-sided interval.

    >>> round(t_quantile(0.95, 1e9), 2)
    1.96
    """
    return float(stdtrit(max(df, 1.0), 0.5 + confidence / 2.0))


def welch_df(v1: float, n1: float, v2: float, n2: float) -> float:
    """Welch-Satterthwaite's degrees of freedom for variances v of two means from n (effective) scores each."""
    spread = v1**2 / max(n1 - 1.0, 1.0) + v2**2 / max(n2 - 1.0, 1.0)
    return (v1 + v2) ** 2 / spread if spread > 0.0 else 1.0


def sd_relative_variance(scores: NDArray[np.float64]) -> float:
    """Relative variance of a sample's standard deviation, (kurtosis - 1) / 4n: the unit itself is uncertain."""
    centred = scores - scores.mean()
    m2 = float(np.mean(centred**2))
    kurtosis = float(np.mean(centred**4)) / m2**2 if m2 > 0.0 else 3.0
    return max(kurtosis - 1.0, 0.0) / (4.0 * len(scores))


def mean_shift(
    scores: NDArray[np.float64], reference: Reference, *, n_effective: float, confidence: float
) -> MeanShift:
    """Welch's interval of the difference of the means, over sd_ref; infinite sides for fewer than two scores.

    With whole samples it is `scipy.stats.ttest_ind(equal_var=False).confidence_interval()` over sd_ref.
    """
    sd = reference.sd
    if not len(scores):
        return MeanShift(estimate=math.nan, low=-math.inf, high=math.inf, n_effective=0.0)
    estimate = (float(scores.mean()) - reference.mean) / sd
    if len(scores) < 2:
        return MeanShift(estimate=estimate, low=-math.inf, high=math.inf, n_effective=1.0)
    v1 = float(scores.var(ddof=1)) / n_effective / sd**2
    v2 = 1.0 / reference.n
    half = t_quantile(confidence, welch_df(v1, n_effective, v2, reference.n)) * math.sqrt(v1 + v2)
    return MeanShift(estimate=estimate, low=estimate - half, high=estimate + half, n_effective=n_effective)
