"""What a line with so many images a night would notice, how soon, before it is built."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri

from drift.autocorrelation import effective_n
from drift.power import drift_power
from drift.settings import DriftSettings
from drift.shift import ReferenceError, t_quantile
from halfsigma import UsageError

UNIT_VARIANCE = 1.15
"""Of the bulk estimate for one normal score, in SD squared; skewed scores, as real ones are, have less."""
QUIET_NIGHTS = 20
"""Nights before the change from which the line's own level is known."""
MOST_NIGHTS = 60
FALSE_DRIFTS_PER_YEAR = 0.1
FALSE_WARNINGS_PER_YEAR = 0.5
"""The budgets; what is measured is in docs/statistics.md."""


@dataclass(frozen=True, slots=True)
class PlannedShift:
    """What becomes of a lasting shift of `shift_sd`, with probability `PlanFor.power` where nights are given."""

    shift_sd: float
    drift_first_night: float
    """Probability that it is called drift on its first night."""
    nights_to_warning: int | None
    """Nights until it is warned of on a line that has been quiet; None: not within MOST_NIGHTS."""
    nights_to_warning_new_line: int | None
    """The same when the shift is there from the first night on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one line, for normal scores."""

    images_per_night: int
    n_effective: float
    n_reference: int
    power: float
    shifts: tuple[PlannedShift, ...]
    false_drifts_per_year: float = FALSE_DRIFTS_PER_YEAR
    false_warnings_per_year: float = FALSE_WARNINGS_PER_YEAR


def plan(
    *,
    images_per_night: int,
    n_reference: int = 300,
    rho: float = 0.0,
    power: float = 0.9,
    shifts_sd: tuple[float, ...] = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0, 1.5),
    settings: DriftSettings | None = None,
) -> Plan:
    """The plan for `images_per_night` with lag-1 autocorrelation `rho` against a reference of `n_reference`.

    >>> many, few = plan(images_per_night=400), plan(images_per_night=100, n_reference=60)
    >>> [round(row.drift_first_night, 2) for row in many.shifts if row.shift_sd == 0.65]
    [0.96]
    >>> [row.nights_to_warning for row in many.shifts if row.shift_sd == 0.25]
    [2]
    """
    settings = settings or DriftSettings()
    if images_per_night < 1 or n_reference < 2 or not 0.0 <= rho < 1.0 or not 0.0 < power < 1.0:
        raise UsageError(
            f"cannot plan for {images_per_night} images a night, a reference of {n_reference}, an autocorrelation of "
            f"{rho:g} and a power of {power:g}",
            hint="expected at least 1 image, a reference of 2, an autocorrelation in [0, 1), a power in (0, 1)",
        )
    n_effective = effective_n(images_per_night, rho)
    error = ReferenceError(level=UNIT_VARIANCE / n_reference, cross=0.0, unit=0.5 / n_reference)
    own = UNIT_VARIANCE / n_effective
    drift_z = t_quantile(settings.drift_confidence, math.inf)
    margin = float(ndtri(power))

    def until(shift_sd: float, known: float, threshold_z: float) -> int | None:
        """Nights until the shift is beyond the threshold; `known` is the variance of what it is compared with."""
        for nights in range(1, MOST_NIGHTS + 1):
            if shift_sd / math.sqrt(known + own / nights) - threshold_z >= margin:
                return nights
        return None

    quiet = 1.0 / (1.0 / error.level + QUIET_NIGHTS / own)
    rows = []
    for shift in shifts_sd:
        new_line = until(shift, error.level, settings.level_z)
        changed = until(shift, quiet, settings.change_z)
        rows.append(
            PlannedShift(
                shift_sd=shift,
                drift_first_night=drift_power(
                    shift,
                    n_effective=n_effective,
                    unit_variance=UNIT_VARIANCE,
                    error=error,
                    half_sigma=settings.half_sigma,
                    drift_z=drift_z,
                ),
                nights_to_warning=min((n for n in (new_line, changed) if n is not None), default=None),
                nights_to_warning_new_line=new_line,
            )
        )
    return Plan(
        images_per_night=images_per_night,
        n_effective=n_effective,
        n_reference=n_reference,
        power=power,
        shifts=tuple(rows),
    )
