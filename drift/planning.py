"""What a line with so many images a night would notice, how soon, and how many images that takes: before it is built.

The probabilities are the limits of `drift.verdict` under the normal approximation of the bulk shift; a test holds them to
the verdicts of simulated nights. KS is not counted: it is stronger at these shifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from drift.autocorrelation import MAX_RHO, PRIOR_IMAGES, effective_n, lag_one
from drift.bulk import LOWER, UPPER, clipped_to_bulk, sample
from drift.nights import baseline, restlessness, summarise
from drift.power import images_needed
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.shift import ReferenceError, reference_error, t_quantile
from drift.verdict import LASTING_NIGHTS, LEAST_LEVEL, LEAST_STEP
from drift.window import Window
from halfsigma import UsageError

QUIET_NIGHTS = 20
"""Nights before the change from which a quiet line's own level is known."""
SHIFTS_SD = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0, 1.5)
NEEDED_SD = (0.5, 0.65, 1.0)
CURVE_SD = tuple(round(0.05 * step, 2) for step in range(31))
_SEED, _LINES = 0, 4000
"""Of the lines whose nights to a warning are counted: a share of 0.9 is known to 0.005."""
_QUANTILES = (np.arange(40) + 0.5) / 40
"""Over which the error of an estimated autocorrelation is averaged."""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """A year on a quiet line: the budgets, and what `line_years` of simulation measured (docs/statistics.md, 7)."""

    drift_per_year: float = 0.008
    warning_per_year: float = 0.037
    defect_burst_per_year: float = 0.014
    line_years: int = 1080
    drift_budget: float = 0.1
    warning_budget: float = 0.5


@dataclass(frozen=True, slots=True)
class Habits:
    """What a line is like, as its own nights and its reference say."""

    images_per_night: int | None
    """Median of its nights that have images; None before the first."""
    rho: float
    unrest: float
    n_nights: int


@dataclass(frozen=True, slots=True)
class PlannedShift:
    """What becomes of a lasting shift of `shift_sd`, with probability `Plan.power` where nights are given."""

    shift_sd: float
    drift_first_night: float
    """Probability that it is called drift on its first night, on a line that has been quiet."""
    drift_first_night_new_line: float
    """The same on the first night of a line, whose autocorrelation is known from that night only."""
    nights_to_warning: int | None
    """Nights until it was warned of, or called drift, on a quiet line; None: not before its quiet nights are forgotten."""
    nights_to_warning_new_line: int | None
    """The same when the shift is there from the first night on; None: not within the nights that are looked at."""


@dataclass(frozen=True, slots=True)
class NeededImages:
    """Images a night for a chance of `Plan.power` that `shift_sd` is called drift on its first night (quiet line)."""

    shift_sd: float
    images_per_night: int | None
    """None where no number is enough."""
    highest_chance: float
    """With any number of images: what the reference's own error leaves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one line."""

    images_per_night: int
    n_effective: float
    n_reference: int
    rho: float
    unrest: float
    power: float
    least_images: int | None
    """A night of fewer is `insufficient`; None: with this reference every night is."""
    rough: bool
    """Nights of less than twice `least_images` are insufficient now and then, which the chances only partly know."""
    shifts: tuple[PlannedShift, ...]
    needed: tuple[NeededImages, ...]
    chance: tuple[tuple[float, float], ...]
    """(shift_sd, probability of drift on the first night of a quiet line) at CURVE_SD."""
    false_alarms: FalseAlarms


def habits(reference: Reference, windows: Sequence[Window]) -> Habits:
    """The usual night of a line from `windows` of one version, oldest first, as a check would measure them."""
    base = baseline(reference)
    seen = [night for night in (summarise(base, window) for window in windows) if night is not None]
    counts = [window.n for window in windows if window.n]
    rho = lag_one([night.lags for night in seen])
    return Habits(
        images_per_night=round(median(counts)) if counts else None,
        rho=rho,
        unrest=restlessness(seen, rho),
        n_nights=len(counts),
    )


def plan(
    *,
    images_per_night: int,
    n_reference: int = 300,
    rho: float = 0.0,
    unrest: float = 1.0,
    power: float = 0.9,
    reference: Reference | None = None,
    settings: DriftSettings | None = None,
) -> Plan:
    """The plan for `images_per_night` with lag-1 autocorrelation `rho` against a reference of `n_reference` images.

    `unrest` multiplies the variance of a night (`drift.nights.restlessness`). Scores are shaped as those of
    `reference`, by default normal. Raises UsageError for what no line can be.

    >>> many = plan(images_per_night=400)
    >>> [round(row.drift_first_night, 2) for row in many.shifts if row.shift_sd == 0.65]
    [0.97]
    >>> [row.images_per_night for row in many.needed]
    [None, 113, 35]
    """
    settings = settings or DriftSettings()
    if images_per_night < 1 or n_reference < 2 or not 0.0 <= rho <= MAX_RHO or not 0.0 < power < 1.0:
        raise UsageError(
            f"cannot plan for {images_per_night} images a night, a reference of {n_reference}, an autocorrelation of "
            f"{rho:g} and a power of {power:g}",
            hint=f"expected at least 1 image, a reference of 2, an autocorrelation from 0 to {MAX_RHO:g}, "
            "a power between 0 and 1",
        )
    chances = _Chances(
        _normal_scores() if reference is None else reference.scores,
        n_reference=n_reference,
        rho=rho,
        unrest=unrest,
        settings=settings,
    )
    n = images_per_night
    return Plan(
        images_per_night=n,
        n_effective=effective_n(n, rho),
        n_reference=n_reference,
        rho=rho,
        unrest=unrest,
        power=power,
        least_images=chances.least_images,
        rough=chances.least_images is None or n < 2 * chances.least_images,
        shifts=tuple(
            PlannedShift(
                shift_sd=shift,
                drift_first_night=chances.first_night(shift, n, quiet_nights=QUIET_NIGHTS),
                drift_first_night_new_line=chances.first_night(shift, n, quiet_nights=0),
                nights_to_warning=chances.nights_to_warning(shift, n, power=power, quiet_nights=QUIET_NIGHTS),
                nights_to_warning_new_line=chances.nights_to_warning(shift, n, power=power, quiet_nights=0),
            )
            for shift in SHIFTS_SD
        ),
        needed=tuple(chances.needed(shift, power) for shift in NEEDED_SD),
        chance=tuple((shift, chances.first_night(shift, n, quiet_nights=QUIET_NIGHTS)) for shift in CURVE_SD),
        false_alarms=FalseAlarms(),
    )


class _Chances:
    """Probabilities of verdicts on a line: `error` and `own` are what is true, `believed` what a check works with."""

    def __init__(
        self, scores: NDArray[np.float64], *, n_reference: int, rho: float, unrest: float, settings: DriftSettings
    ) -> None:
        shape = sample(scores)
        of_one = reference_error(scores, clipped_to_bulk(scores, shape) / (UPPER - LOWER), n_effective=1.0)
        self.rho, self.settings, self.n_reference = rho, settings, n_reference
        self.error = _scaled(of_one, n_reference)
        # The check estimates the reference's autocorrelation as well, and believes it a little worse than it is.
        self.believed = _scaled(of_one, float(_believed_n(n_reference, 0.0, nights=1).mean()))
        self.unit_variance = shape.unit_variance / float(scores.var(ddof=1)) * unrest
        # A check's degrees of freedom are the reference's and the night's: at least these.
        self._drift_z = t_quantile(settings.drift_confidence, n_reference + settings.least_effective)
        needed = self._images_needed(settings.noticed_shift, settings.noticed_power)
        self.least_effective = None if needed is None else max(needed, float(settings.least_effective))
        self.least_images = None if self.least_effective is None else self._images(self.least_effective)

    def first_night(self, shift_sd: float, images: int, *, quiet_nights: int) -> float:
        """Of drift on the first night of the shift, averaged over what all nights say of the autocorrelation."""
        s = self.settings
        deviation = math.sqrt(self.unit_variance / effective_n(images, self.rho) + self.error.variance(shift_sd))
        believed_n = _believed_n(images, self.rho, nights=quiet_nights + 1)
        error = np.sqrt(self.unit_variance / believed_n + self.believed.level)
        error *= t_quantile(s.drift_confidence, self.n_reference + float(believed_n.mean()))
        # As `drift.verdict`: a lone night of too few images is drift only beyond doubt.
        sufficient = believed_n >= (math.inf if self.least_effective is None else self.least_effective)
        limit = np.where(sufficient, np.maximum(s.half_sigma, error), s.half_sigma + error)
        return float(np.mean(np.where(believed_n >= s.least_effective, ndtr((shift_sd - limit) / deviation), 0.0)))

    def nights_to_warning(self, shift_sd: float, images: int, *, power: float, quiet_nights: int) -> int | None:
        """Nights until the share of simulated lines that were warned, or called drift, reaches `power`.

        A line is `drift.history`'s model: the reference's error `b` is the same every night, quiet nights teach it.
        """
        s, own, level = self.settings, self.unit_variance / effective_n(images, self.rho), self.error.level
        rng = np.random.default_rng(_SEED)
        of_unit = max(self.error.variance(shift_sd) - level, 0.0)
        b = math.sqrt(level) * rng.standard_normal((_LINES, 1))
        taught = b + math.sqrt(own / quiet_nights) * rng.standard_normal(b.shape) if quiet_nights else 0.0 * b
        nights = np.arange(1, s.history_nights + (quiet_nights == 0))
        noise = np.cumsum(rng.standard_normal((_LINES, len(nights))), axis=1) / nights * math.sqrt(own)
        since = shift_sd + b + noise + math.sqrt(of_unit) * rng.standard_normal(b.shape)

        before = np.minimum(quiet_nights, s.history_nights - nights)  # older ones are no longer looked at
        step = since - taught * level * before / (level * before + own)
        error = np.sqrt(own / nights + level * own / (level * before + own))
        sufficient = self.least_effective is not None and effective_n(images, self.rho) >= self.least_effective
        if quiet_nights:
            warned = (step >= np.maximum(LEAST_STEP, s.change_z * error)) & (since >= LEAST_STEP)
        else:
            warned = (step >= np.maximum(LEAST_LEVEL, s.level_z * error)) & (nights >= LASTING_NIGHTS)
        drift = since >= np.maximum(s.half_sigma, self._drift_z * np.sqrt(own / nights + self.believed.level))
        found = (warned & sufficient) | (drift & (sufficient | (nights > 1)))
        share = np.maximum.accumulate(found, axis=1).mean(axis=0)
        reached = np.flatnonzero(share >= power)
        return int(nights[reached[0]]) if reached.size else None

    def needed(self, shift_sd: float, power: float) -> NeededImages:
        number = self._images_needed(shift_sd, power)
        images = None if number is None or self.least_images is None else max(self._images(number), self.least_images)
        # What is missing to the chance of a check that has to estimate the autocorrelation: a few percent.
        while images is not None and self.first_night(shift_sd, images, quiet_nights=QUIET_NIGHTS) < power:
            images += 1
        return NeededImages(shift_sd, images, highest_chance=self._lasting_drift(shift_sd, 0.0))

    def _lasting_drift(self, shift_sd: float, own: float) -> float:
        """Of drift by the nights since the change, whose mean has the variance `own`."""
        limit = max(self.settings.half_sigma, self._drift_z * math.sqrt(own + self.believed.level))
        return float(ndtr((shift_sd - limit) / math.sqrt(own + self.error.variance(shift_sd))))

    def _images_needed(self, shift_sd: float, power: float) -> float | None:
        """Effective ones."""
        return images_needed(
            shift_sd,
            power,
            unit_variance=self.unit_variance,
            error=self.believed,
            half_sigma=self.settings.half_sigma,
            drift_z=self._drift_z,
        )

    def _images(self, n_effective: float) -> int:
        return math.ceil(n_effective * (1.0 + self.rho) / (1.0 - self.rho))


def _believed_n(n: int, rho: float, *, nights: int) -> NDArray[np.float64]:
    """Quantiles of the effective number of a night of `n` images as a check estimates it, by `lag_one`'s rules."""
    raw = rho + math.sqrt((1.0 - rho**2) / (n * nights)) * ndtri(_QUANTILES)
    found = np.clip(raw * n * nights / (n * nights + PRIOR_IMAGES), 0.0, MAX_RHO)
    return np.asarray(n * (1.0 - found) / (1.0 + found))


def _scaled(of_one: ReferenceError, n: float) -> ReferenceError:
    return ReferenceError(level=of_one.level / n, cross=of_one.cross / n, unit=of_one.unit / n)


def _normal_scores() -> NDArray[np.float64]:
    return np.asarray(ndtri((np.arange(4000) + 0.5) / 4000))
