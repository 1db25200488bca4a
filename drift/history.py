"""Since when a line's bulk has been where it is: the most likely change night, the shift since then, a trend.

Model: the shift of night t is `b + D [t >= change] + e_t`. The reference's own error `b ~ N(0, v_ref)` is the *same*
every night, so a sum over nights would accumulate it; here it is integrated out, and the line's own quiet nights
teach it. Twice the log likelihood ratio of a change at night k is then z_k squared, exactly.

A line that was repaired has changed twice. So what lies after a certain change is looked at again by itself, until no
later change is certain: the nights of a fault that is mended say nothing of tonight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

TREND_LENGTHS = (4, 5, 6, 7, 8, 10, 12, 14)
"""Nights over which a slope is looked for, the shortest first; fewer than four cannot show a straight line."""
AWAY = 0.25
"""A level farther from the reference than this, in sd_ref, is none of the reference's own errors."""


@dataclass(frozen=True, slots=True)
class NightShift:
    """One night's bulk shift in sd_ref and the variance of the night's own part; the reference's is kept apart."""

    estimate: float
    variance: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change: `first` is the index of its first night, `estimate` the bulk shift since then."""

    first: int
    estimate: float
    """Bulk shift since the change, against the reference, in sd_ref."""
    own_variance: float
    """Of the nights since the change, without the reference's part."""
    step: float
    """The change against the line's own level just before it, in sd_ref."""
    z: float
    """The step in its standard errors, signed; beyond a threshold it is no accident."""
    level: float
    """Mean bulk shift since the last certain change; of all nights where none is certain."""
    level_z: float
    """The level in its standard errors, the reference's included."""
    n_level: int
    """Nights that the level is of."""

    @property
    def came_back(self) -> bool:
        """The line was away, and lies nearer to the reference since, as after a repair."""
        before = self.estimate - self.step
        return abs(before) > AWAY and abs(self.estimate) < abs(before)


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
        n_level=len(nights),
    )


def last_change(nights: Sequence[NightShift], *, v_ref: float, certain_z: float) -> Change:
    """The most likely change, and where that is certain, the last certain one after it.

    Args:
        nights: oldest first, at least one.
        v_ref: variance of the reference's own error.
        certain_z: a change is certain beyond so many standard errors.
    """
    found = most_likely_change(nights, v_ref=v_ref)
    if abs(found.z) < certain_z:
        return found
    while (later := _changed_again(found, nights, certain_z=certain_z)) is not None:
        found = later
    level_z = found.estimate / math.sqrt(found.own_variance + v_ref)
    return replace(found, level=found.estimate, level_z=level_z, n_level=len(nights) - found.first)


def _changed_again(since: Change, nights: Sequence[NightShift], *, certain_z: float) -> Change | None:
    """The most likely change after another, if it is certain; the reference's error is in all these nights, and cancels out."""
    shift, weight = _arrays(nights[since.first :])
    if len(shift) < 2:
        return None
    precision, moment = np.cumsum(weight), np.cumsum(weight * shift)
    before, after = precision[:-1], precision[-1] - precision[:-1]
    mean_before, mean_after = moment[:-1] / before, (moment[-1] - moment[:-1]) / after
    z = (mean_after - mean_before) / np.sqrt(1.0 / before + 1.0 / after)
    best = int(np.argmax(np.abs(z)))
    if abs(z[best]) < certain_z:
        return None
    return replace(
        since,
        first=since.first + best + 1,
        estimate=float(mean_after[best]),
        own_variance=float(1.0 / after[best]),
        step=float(mean_after[best] - mean_before[best]),
        z=float(z[best]),
    )


def trend(nights: Sequence[NightShift], *, v_ref: float, target: float, confidence_z: float) -> Trend | None:
    """The most significant broken line `b + slope * max(t - start, 0)` that ends tonight, and when it reaches +-target.

    `b ~ N(0, v_ref)` as above, so nights before the start teach it. None with fewer than four nights. The interval of
    the crossing night is the delta method's.
    """
    shift, weight = _arrays(nights)
    lengths = np.array([length for length in TREND_LENGTHS if length <= len(nights)], dtype=np.float64)
    if not lengths.size:
        return None
    # Weighted least squares for (b, slope), one row a length; the prior on b is one more observation of 0.
    t = np.arange(1 - len(shift), 1, dtype=np.float64)
    ramp = np.clip(t[None, :] + lengths[:, None], 0.0, None)
    a, y0 = float(weight.sum()) + 1.0 / v_ref, float(weight @ shift)
    c, d, y1 = ramp @ weight, ramp**2 @ weight, ramp @ (weight * shift)
    determinant = a * d - c * c
    slopes = (a * y1 - c * y0) / determinant
    z = slopes * np.sqrt(determinant / a)
    best = int(np.argmax(np.abs(z)))
    length, slope = float(lengths[best]), float(slopes[best])
    tonight = (y0 - slope * float(c[best])) / a + slope * length
    found = Trend(
        slope_per_night=slope, z=float(z[best]), n_nights=int(length), nights_to_half_sigma=None, low=None, high=None
    )
    if slope * tonight <= 0.0 or abs(tonight) >= target:
        return found  # on its way back to the reference, or there already
    ahead = (target - abs(tonight)) / abs(slope)
    x = length + ahead  # where base + slope x = target; its error is that of the line there, over the slope
    variance = (float(d[best]) - 2.0 * x * float(c[best]) + x * x * a) / float(determinant[best])
    error = confidence_z * math.sqrt(variance) / abs(slope)
    return replace(found, nights_to_half_sigma=ahead, low=max(ahead - error, 0.0), high=ahead + error)


def _arrays(nights: Sequence[NightShift]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shift = np.array([night.estimate for night in nights], dtype=np.float64)
    weight = 1.0 / np.array([night.variance for night in nights], dtype=np.float64)
    return shift, weight
