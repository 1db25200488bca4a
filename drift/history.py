"""Since when a line's bulk has been where it is: the most likely change night, the shift since then, a trend.

Model: the shift of night t is `b + D [t >= change] + e_t`. The reference's own error `b ~ N(0, v_ref)` is the *same*
every night, so a sum over nights would accumulate it; here it is integrated out, and the line's own quiet nights
teach it. Twice the log likelihood ratio of a change at night k is then z_k squared, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TREND_LENGTHS = (4, 5, 6, 7, 8, 10, 12, 14)
"""Nights over which a slope is looked for, the shortest first; fewer than four cannot show a straight line."""


@dataclass(frozen=True, slots=True)
class NightShift:
    """One night's bulk shift in sd_ref and the variance of the night's own part; the reference's is kept apart."""

    estimate: float
    variance: float


@dataclass(frozen=True, slots=True)
class Change:
    """The most likely change: `first` is the index of its first night, `estimate` the bulk shift since then."""

    first: int
    estimate: float
    """Bulk shift since the change, against the reference, in sd_ref."""
    own_variance: float
    """Of the nights since the change, without the reference's part."""
    step: float
    """The change against the line's own level before it, in sd_ref."""
    z: float
    """The step in its standard errors, signed; beyond a threshold it is no accident."""
    level: float
    """Mean bulk shift of all nights looked at."""
    level_z: float
    """The level in its standard errors, the reference's included."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through the last nights; `nights_to_half_sigma` counts from the night judged."""

    slope_per_night: float
    z: float
    n_nights: int
    nights_to_half_sigma: float | None
    low: float | None
    high: float | None


def most_likely_change(nights: Sequence[NightShift], *, v_ref: float) -> Change:
    """The change night with the greatest likelihood; O(T) for T nights, oldest first, at least one."""
    shift, weight = _arrays(nights)
    total = np.cumsum(weight[::-1])[::-1]  # precision of the nights from k on
    moment = np.cumsum((weight * shift)[::-1])[::-1]
    after = moment / total
    before_precision = 1.0 / v_ref + (total[0] - total)
    before = (moment[0] - moment) / before_precision
    z = (after - before) / np.sqrt(1.0 / total + 1.0 / before_precision)
    first = int(np.argmax(np.abs(z)))
    return Change(
        first=first,
        estimate=float(after[first]),
        own_variance=float(1.0 / total[first]),
        step=float(after[first] - before[first]),
        z=float(z[first]),
        level=float(after[0]),
        level_z=float(z[0]),
    )


def trend(nights: Sequence[NightShift], *, v_ref: float, target: float, confidence_z: float) -> Trend | None:
    """The most significant broken line `b + slope * max(t - start, 0)` that ends tonight, and when it reaches +-target.

    `b ~ N(0, v_ref)` as above, so nights before the start teach it. None with fewer than four nights. The interval of
    the crossing night is the delta method's.
    """
    best: Trend | None = None
    shift, weight = _arrays(nights)
    for length in TREND_LENGTHS:
        if length > len(nights):
            break
        line = _broken_line(shift, weight, length, v_ref=v_ref, target=target, confidence_z=confidence_z)
        if best is None or abs(line.z) > abs(best.z):
            best = line
    return best


def _arrays(nights: Sequence[NightShift]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shift = np.array([night.estimate for night in nights], dtype=np.float64)
    weight = 1.0 / np.array([night.variance for night in nights], dtype=np.float64)
    return shift, weight


def _broken_line(
    shift: NDArray[np.float64],
    weight: NDArray[np.float64],
    length: int,
    *,
    v_ref: float,
    target: float,
    confidence_z: float,
) -> Trend:
    """Weighted least squares for (b, slope) with the prior on b; the slope acts on the last `length` nights."""
    ramp = np.clip(np.arange(length + 1 - len(shift), length + 1, dtype=np.float64), 0.0, None)
    a, c, d = float(weight.sum()) + 1.0 / v_ref, float(weight @ ramp), float(weight @ ramp**2)
    y0, y1 = float(weight @ shift), float(weight @ (ramp * shift))
    determinant = a * d - c * c
    base, slope = (d * y0 - c * y1) / determinant, (a * y1 - c * y0) / determinant
    z = slope / math.sqrt(a / determinant)
    tonight = base + slope * length
    rising = slope * tonight > 0.0 and abs(tonight) < target  # away from the reference, not there yet
    if not rising:
        return Trend(slope_per_night=slope, z=z, n_nights=length, nights_to_half_sigma=None, low=None, high=None)
    ahead = (target - abs(tonight)) / abs(slope)
    x = length + ahead  # where base + slope x = target; its error is that of the line there, over the slope
    error = math.sqrt((d - 2.0 * x * c + x * x * a) / determinant) / abs(slope)
    return Trend(
        slope_per_night=slope,
        z=z,
        n_nights=length,
        nights_to_half_sigma=ahead,
        low=max(ahead - confidence_z * error, 0.0),
        high=ahead + confidence_z * error,
    )
