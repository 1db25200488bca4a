"""What a night of this size can notice, and how many images are missing when it cannot."""

from __future__ import annotations

import math

from scipy.special import ndtr

from drift.shift import ReferenceError

MAX_IMAGES = 1_000_000


def drift_power(
    shift_sd: float,
    *,
    n_effective: float,
    unit_variance: float,
    error: ReferenceError,
    half_sigma: float,
    drift_z: float,
) -> float:
    """Probability that one night whose bulk truly shifted by `shift_sd` is measured beyond both drift limits.

    `unit_variance` is the bulk estimate's variance for one independent score in sd_ref
    squared. KS is not counted: it is stronger at these shifts.
    """
    own_variance = unit_variance / n_effective
    limit = max(half_sigma, drift_z * math.sqrt(own_variance + error.level))
    deviation = math.sqrt(own_variance + error.variance(shift_sd))
    return float(ndtr((abs(shift_sd) - limit) / deviation))


def images_needed(
    shift_sd: float,
    power: float,
    *,
    unit_variance: float,
    error: ReferenceError,
    half_sigma: float,
    drift_z: float,
) -> float | None:
    """The least effective number of images for that power; None where the reference is too small for any number."""

    def enough(n: float) -> bool:
        return (
            drift_power(
                shift_sd,
                n_effective=n,
                unit_variance=unit_variance,
                error=error,
                half_sigma=half_sigma,
                drift_z=drift_z,
            )
            >= power
        )

    if not enough(MAX_IMAGES):
        return None
    low, high = 1, MAX_IMAGES
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(low)
