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
from drift.causes import Cause, find_causes
from drift.history import Change, Trend, most_likely_change, trend
from drift.ks import ks_p, ks_statistic
from drift.location import bulk_location
from drift.power import drift_power, images_needed
from drift.reference import Reference
from drift.sensor import SensorFault, faulty_images, sensor_fault
from drift.settings import DriftSettings
from drift.shift import BulkShift, MeanShift, NightShift, mean_shift, night_shift, sd_relative_variance, t_quantile
from drift.tail import Tail, heavy_tail
from drift.window import Window
from halfsigma import DriftError

LEAST_SCALE = 0.02
"""Of sd_ref: the scale of a bulk whose scores are nearly all equal (rounded scores, a frozen camera)."""
FEW_IMAGES = 3
"""A night with fewer scores has no bulk of its own; it takes no part in the history."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line's night, measured; what cannot be measured of too few scores is None."""

    settings: DriftSettings
    night: date
    n: int
    n_effective: float
    rho: float
    n_faulty: int
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
    """The bulk shift since the most likely change: what drift is judged by."""
    drift_error: float = math.inf
    """Standard error of `since` if there were no shift."""
    changed_on: date | None = None
    change: Change | None = None
    trend: Trend | None = None
    ks_statistic: float | None = None
    ks_p: float = 1.0
    tail: Tail | None = None
    causes: tuple[Cause, ...] = ()
    power: float = 0.0
    """Probability that a bulk shift of `noticed_shift` tonight would be called drift."""


def measure(
    reference: Reference, windows: Sequence[Window], *, settings: DriftSettings | None = None
) -> Measurement:
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

    sd, least = reference.sd, LEAST_SCALE * reference.sd
    usual = bulk_location(reference.scores, least_scale=least)
    v_scale = sd_relative_variance(reference.scores)
    v_ref = usual.unit_variance / sd**2 / effective_n(reference.n, lag_one([usual.influence]))

    recent = windows[-settings.history_nights :]
    window = recent[-1]
    faults = faulty_images(reference, window)
    sound = _sound(window, faults)
    scores = window.scores[sound]
    samples = {past.night: past.scores[_sound(past, faulty_images(reference, past))] for past in recent[:-1]}
    samples[window.night] = scores
    locations = {
        night: bulk_location(sample, least_scale=least)
        for night, sample in samples.items()
        if len(sample) >= FEW_IMAGES
    }
    rho = lag_one([location.influence for location in locations.values()])
    nights = {
        night: night_shift(location, usual, sd=sd, n_effective=effective_n(len(location.influence), rho))
        for night, location in locations.items()
    }
    n_effective = effective_n(len(scores), rho) if len(scores) else 0.0
    drift_z = t_quantile(settings.drift_confidence, math.inf)
    measured = Measurement(
        settings=settings,
        night=window.night,
        n=window.n,
        n_effective=n_effective,
        rho=rho,
        n_faulty=window.n - len(scores),
        fault=sensor_fault(window, faults),
        mean=mean_shift(scores, reference, n_effective=n_effective, confidence=settings.confidence),
        n_missing=FEW_IMAGES - len(scores),
        nights=tuple(nights.values()),
        night_dates=tuple(nights),
    )
    if window.night not in nights:
        return replace(measured, n_missing=_missing(usual.unit_variance / sd**2, v_ref, v_scale, settings, drift_z, 0.0, rho))

    tonight = nights[window.night]
    change = most_likely_change(measured.nights, v_ref=v_ref)
    df = reference.n + tonight.n_effective
    z = t_quantile(settings.confidence, df)

    def interval(estimate: float, own_variance: float) -> BulkShift:
        half = z * math.sqrt(own_variance + v_ref + estimate**2 * v_scale)
        return BulkShift(estimate=estimate, low=estimate - half, high=estimate + half)

    unit = tonight.variance * tonight.n_effective
    reference_sorted = np.sort(reference.scores)
    statistic = ks_statistic(scores, reference_sorted)
    return replace(
        measured,
        tonight=interval(tonight.estimate, tonight.variance),
        since=interval(change.estimate, change.own_variance),
        drift_error=math.sqrt(change.own_variance + v_ref) * t_quantile(settings.drift_confidence, df) / drift_z,
        changed_on=list(nights)[change.first],
        change=change,
        trend=trend(measured.nights, v_ref=v_ref, target=settings.half_sigma, confidence_z=z),
        ks_statistic=statistic,
        ks_p=ks_p(statistic, n_window=n_effective, n_reference=usual.unit_variance / sd**2 / v_ref),
        tail=heavy_tail(
            scores, reference_sorted, bulk_shift=tonight.estimate * sd, n_effective=n_effective
        ),
        causes=find_causes(
            reference,
            {name: values[sound] for name, values in window.covariates.items()},
            n_effective=n_effective,
            bulk_shift_sd=tonight.estimate,
        ),
        power=drift_power(
            settings.noticed_shift,
            n_effective=tonight.n_effective,
            unit_variance=unit,
            v_ref=v_ref,
            v_scale=v_scale,
            half_sigma=settings.half_sigma,
            drift_z=drift_z,
        ),
        n_missing=_missing(unit, v_ref, v_scale, settings, drift_z, tonight.n_effective, rho),
    )


def _missing(
    unit: float, v_ref: float, v_scale: float, settings: DriftSettings, drift_z: float, n_effective: float, rho: float
) -> int | None:
    """Images (not effective ones) missing for the power that the settings ask for."""
    needed = images_needed(
        settings.noticed_shift,
        settings.noticed_power,
        unit_variance=unit,
        v_ref=v_ref,
        v_scale=v_scale,
        half_sigma=settings.half_sigma,
        drift_z=drift_z,
    )
    if needed is None:
        return None
    needed = max(needed, float(settings.least_effective))
    return max(math.ceil((needed - n_effective) * (1.0 + rho) / (1.0 - rho)), 0)


def _sound(window: Window, faults: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(n,) images of the night that show no fault of the camera."""
    sound = np.ones(window.n, dtype=bool)
    for mask in faults.values():
        sound &= ~mask
    return sound
