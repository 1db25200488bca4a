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


@dataclass(frozen=True, slots=True)
class ReferenceError:
    """What the reference's own error does to a shift of theta: its variance is level + theta cross + theta^2 unit.

    `level` is the error of the reference's centre, `unit` the relative error of sd_ref, the unit of every shift, and
    `cross` what the two have in common, which is much for skewed scores.
    """

    level: float
    cross: float
    unit: float

    def variance(self, shift_sd: float) -> float:
        """In sd_ref squared. Never below half the level: the delta method is no better than that far out."""
        return max(self.level + shift_sd * self.cross + shift_sd**2 * self.unit, 0.5 * self.level)


def reference_error(
    scores: NDArray[np.float64], influence: NDArray[np.float64], *, n_effective: float
) -> ReferenceError:
    """The delta method on (centre of the night - centre of the reference) / sd_ref.

    `influence` (n,) is that of each score (n,) on the centre, in score units; for the mean it is score - mean.
    """
    sd = scores.std(ddof=1)
    z = (scores - scores.mean()) / sd
    of_centre = (influence - influence.mean()) / sd
    of_unit = (z**2 - 1.0) / 2.0
    return ReferenceError(
        level=float(np.mean(of_centre**2)) * len(scores) / (len(scores) - 1) / n_effective,
        cross=2.0 * float(np.mean(of_centre * of_unit)) / n_effective,
        unit=float(of_unit.var()) / n_effective,
    )


def mean_shift(
    scores: NDArray[np.float64],
    reference: Reference,
    *,
    error: ReferenceError,
    n_effective: float,
    confidence: float,
) -> MeanShift:
    """Welch's interval of the difference of the means over sd_ref, with the uncertainty of sd_ref itself.

    At a shift of 0 it is `scipy.stats.ttest_ind(equal_var=False).confidence_interval()` over sd_ref; away from 0 it
    grows with the error of the unit, as a bootstrap's does. Infinite sides for fewer than two scores.
    """
    sd = reference.sd
    if not len(scores):
        return MeanShift(estimate=math.nan, low=-math.inf, high=math.inf, n_effective=0.0)
    estimate = (float(scores.mean()) - reference.mean) / sd
    if len(scores) < 2:
        return MeanShift(estimate=estimate, low=-math.inf, high=math.inf, n_effective=1.0)
    v1 = float(scores.var(ddof=1)) / n_effective / sd**2
    v2 = error.variance(estimate)
    half = t_quantile(confidence, welch_df(v1, n_effective, v2, reference.n)) * math.sqrt(v1 + v2)
    return MeanShift(estimate=estimate, low=estimate - half, high=estimate + half, n_effective=n_effective)
