"""Everything that is measured of a line's night, before anything is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drift.autocorrelation import effective_n, lag_one
from drift.bulk import bulk_move, sample
from drift.causes import NO_CAUSE, Attribution, find_causes
from drift.expected_score import ExpectedScore
from drift.history import Change, NightShift, Trend, last_change, trend
from drift.ks import ks_p, ks_statistic
from drift.nights import FEW_IMAGES, Baseline, Night, baseline, restlessness, sound_images, summarise
from drift.power import drift_power, images_needed
from drift.reference import Reference
from drift.sensor import SensorFault, faulty_images, sensor_fault, shows_no_part
from drift.settings import DriftSettings
from drift.shift import BulkShift, MeanShift, ReferenceError, mean_shift, t_quantile
from drift.tail import Tail, heavy_tail
from drift.ties import spread_ties
from drift.window import Window
from halfsigma import DriftError


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line's night, measured; what cannot be measured of too few scores is None."""

    settings: DriftSettings
    night: date
    n: int
    n_effective: float
    rho: float
    n_known_defects: int
    fault: SensorFault | None
    mean: MeanShift
    n_missing: int | None
    """Images missing for `noticed_power`; 0 when sufficient, None when the reference is too small for any number."""
    nights: tuple[NightShift, ...]
    """The bulk shift of every night of the history, the last one tonight's if it has one."""
    night_dates: tuple[date, ...]
    """Of `nights`."""
    tonight: BulkShift | None = None
    since: BulkShift | None = None
    """The bulk shift since the last change: what drift is judged by."""
    drift_error: float = math.inf
    """Standard error of `since` if there were no shift."""
    changed_on: date | None = None
    change: Change | None = None
    trend: Trend | None = None
    ks_statistic: float | None = None
    ks_p: float = 1.0
    tail: Tail | None = None
    attribution: Attribution = NO_CAUSE
    pictures_stayed: bool = False
    """Covariates were measured, and none of them moved tonight."""
    power: float = 0.0
    """Probability that a bulk shift of `noticed_shift` tonight would be called drift."""

    @property
    def tested_p(self) -> float | None:
        """KS's p, or None where nothing was tested: an idle line must not cost the others their power."""
        return None if self.ks_statistic is None else self.ks_p


def measure(reference: Reference, windows: Sequence[Window], *, settings: DriftSettings | None = None) -> Measurement:
    """Measures the last of `windows` against the reference and the nights before it.

    `windows` are all nights of *one* version, oldest first: scores of different versions are never compared.
    Raises DriftError for no window or for nights that are out of order.
    """
    settings = settings or DriftSettings()
    if not windows:
        raise DriftError("no night was given, expected at least the one to judge", hint="ingest or log a night first")
    dates = [window.night for window in windows]
    if any(later <= earlier for earlier, later in pairwise(dates)):
        raise DriftError("the nights are not in order, expected oldest first, each once", hint="sort them by night")

    base = baseline(reference)
    recent = windows[-settings.history_nights :]
    return measure_tonight(base, [summarise(base, window) for window in recent], recent[-1], settings=settings)


def measure_tonight(
    base: Baseline, nights: Sequence[Night | None], window: Window, *, settings: DriftSettings
) -> Measurement:
    """Measures `window`, the last night, with the nights' summaries at hand (None: too few images)."""
    reference, sd, error = base.reference, base.sd, base.bulk_error
    faults = faulty_images(reference, window)
    sound = sound_images(window, faults)
    scores = window.scores[sound]
    *past, last = nights[-settings.history_nights :]
    seen = [*(night for night in past if night is not None and not night.shows_no_part), *([last] if last else [])]
    rho = lag_one([night.lags for night in seen])
    unrest = restlessness(seen, rho)
    shifts = tuple(NightShift(estimate=night.estimate, variance=night.variance(rho) * unrest) for night in seen)
    n_effective = effective_n(len(scores), rho) if len(scores) else 0.0
    drift_z = t_quantile(settings.drift_confidence, math.inf)
    measured = Measurement(
        settings=settings,
        night=window.night,
        n=window.n,
        n_effective=n_effective,
        rho=rho,
        n_known_defects=window.n_known_defects,
        fault=sensor_fault(window, faults),
        mean=mean_shift(
            scores,
            reference,
            error=base.mean_error,
            n_effective=n_effective,
            confidence=settings.confidence,
        ),
        n_missing=FEW_IMAGES - len(scores),
        nights=shifts,
        night_dates=tuple(night.night for night in seen),
    )
    if last is None:
        return replace(measured, n_missing=_missing(base.unit_variance, error, settings, drift_z, 0.0, rho))

    tonight = shifts[-1]
    change = last_change(shifts, v_ref=error.level, certain_z=settings.change_z)
    df = reference.n + n_effective
    z = t_quantile(settings.confidence, df)

    def interval(estimate: float, own_variance: float) -> BulkShift:
        half = z * math.sqrt(own_variance + error.variance(estimate))
        return BulkShift(estimate=estimate, low=estimate - half, high=estimate + half)

    aligned = _without_one_error(tonight.estimate, math.sqrt(tonight.variance + error.level))
    covariates = {name: values[sound] for name, values in window.covariates.items()}
    statistic = ks_statistic(scores, base.ordered)
    attribution = find_causes(reference, covariates, n_effective=n_effective, bulk_shift_sd=tonight.estimate)
    moved = bool(attribution.causes)
    return replace(
        measured,
        fault=measured.fault or shows_no_part(reference, scores, covariates, bulk_shift_sd=tonight.estimate),
        tonight=interval(tonight.estimate, tonight.variance),
        since=interval(change.estimate, change.own_variance),
        drift_error=math.sqrt(change.own_variance + error.level) * t_quantile(settings.drift_confidence, df) / drift_z,
        changed_on=measured.night_dates[change.first],
        change=change,
        trend=trend(
            shifts[-change.n_level :] if change.came_back else shifts,
            v_ref=error.level,
            target=settings.half_sigma,
            confidence_z=z,
        ),
        ks_statistic=statistic,
        ks_p=ks_p(statistic, n_window=n_effective, n_reference=base.n_effective),
        tail=_tail(
            base, scores, covariates if moved else {}, moved_by=aligned * sd, n_effective=n_effective, settings=settings
        ),
        pictures_stayed=not moved and not reference.covariates.keys().isdisjoint(covariates),
        attribution=attribution,
        power=drift_power(
            settings.noticed_shift,
            n_effective=n_effective,
            unit_variance=tonight.variance * n_effective,
            error=error,
            half_sigma=settings.half_sigma,
            drift_z=drift_z,
        ),
        # What a burst leaves unknown of the bulk stays at any number of images: more of them are not what is missing.
        n_missing=_missing(last.unit_variance * unrest, error, settings, drift_z, n_effective, rho),
    )


def _tail(
    base: Baseline,
    scores: NDArray[np.float64],
    covariates: Mapping[str, NDArray[np.float64]],
    *,
    moved_by: float,
    n_effective: float,
    settings: DriftSettings,
) -> Tail:
    """Of the scores; with `covariates`, those of moved pictures, the less certain of that and of what they do not explain.

    The first alone takes goods for defects that a brighter lamp moved farther than others; the second alone a response
    to a disturbance that was measured badly.
    """
    raw = heavy_tail(spread_ties(scores, base.step), base.sample.ordered, bulk_shift=moved_by, n_effective=n_effective)
    if raw.p > settings.burst_p or not covariates:
        return raw
    expected = ExpectedScore.of(base.reference)
    residuals = None if expected is None else expected.residuals(scores, covariates)
    if expected is None or residuals is None:
        return raw
    usual = sample(expected.usual)
    move = bulk_move(residuals, sample(residuals), usual, n_effective=n_effective)
    error = math.sqrt(move.unit_variance / n_effective + usual.unit_variance / usual.n + move.extra_variance)
    unexplained = heavy_tail(
        residuals, usual.ordered, bulk_shift=_without_one_error(move.shift, error), n_effective=n_effective
    )
    return max(raw, unexplained, key=lambda tail: tail.p)


def _without_one_error(shift: float, error: float) -> float:
    """A burst pulls the bulk along a little, and must not hide by that."""
    return math.copysign(max(abs(shift) - error, 0.0), shift)


def _missing(
    unit: float, error: ReferenceError, settings: DriftSettings, drift_z: float, n_effective: float, rho: float
) -> int | None:
    """Images (not effective ones) missing for the power that the settings ask for."""
    needed = images_needed(
        settings.noticed_shift,
        settings.noticed_power,
        unit_variance=unit,
        error=error,
        half_sigma=settings.half_sigma,
        drift_z=drift_z,
    )
    if needed is None:
        return None
    needed = max(needed, float(settings.least_effective))
    return max(math.ceil((needed - n_effective) * (1.0 + rho) / (1.0 - rho)), 0)
