"""The six verdicts, in the order in which they take precedence.

sensor_fault, drift, insufficient, defect_burst, warning, stable: a camera that shows no part is not judged further; a
shift proved over several nights outweighs one night's lack of images; a burst explains what one night's scores did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from drift.causes import Cause
from drift.explain import explain
from drift.fdr import q_values
from drift.history import Trend
from drift.ks import KsTest
from drift.measurement import Measurement, measure
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.shift import BulkShift, MeanShift, t_quantile
from drift.window import Window

__all__ = ["Kind", "Verdict", "judge", "judge_lines", "measure"]

Kind = Literal["insufficient", "stable", "warning", "drift", "defect_burst", "sensor_fault"]

LEAST_STEP = 0.1
"""A step below a tenth of a standard deviation is not worth a person's evening, however certain it is."""
LEAST_LEVEL = 0.15
"""Nor is a lasting offset this small against the reference: cross-fitted references are off by about a tenth, since
their scores come from banks a little smaller than the deployed one."""
LASTING_NIGHTS = 3
"""A small offset against the reference is lasting when it was there on so many nights; one night proves nothing."""
SUSPECTED_P = 0.01
"""Of the tail: below it a lone night's shift may be defects. A shift without any comes below it once in fifty nights."""
NO_SHIFT = BulkShift(estimate=math.nan, low=-math.inf, high=math.inf)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one line's night. `bulk_shift` is the shift since `changed_on`, `tonight` this night's alone."""

    kind: Kind
    night: date
    n: int
    n_effective: float
    mean_shift: MeanShift
    bulk_shift: BulkShift
    tonight: BulkShift
    ks: KsTest
    causes: tuple[Cause, ...]
    main_cause: Cause | None
    """What explains the scores' shift; None where no known disturbance does."""
    defect_share: float
    burst: bool
    changed_on: date | None
    trend: Trend | None
    fault: str | None
    power: float
    n_missing: int | None
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """The contract's keys of `check` and more; plain Python values, None where a number is undefined."""
        return {
            "night": self.night.isoformat(),
            "verdict": self.kind,
            "n": self.n,
            "n_effective": _number(self.n_effective),
            "shift_sd": _number(self.mean_shift.estimate),
            "shift_ci": [_number(self.mean_shift.low), _number(self.mean_shift.high)],
            "bulk_shift_sd": _number(self.bulk_shift.estimate),
            "bulk_shift_ci": [_number(self.bulk_shift.low), _number(self.bulk_shift.high)],
            "tonight_bulk_shift_sd": _number(self.tonight.estimate),
            "tonight_bulk_shift_ci": [_number(self.tonight.low), _number(self.tonight.high)],
            "ks": {"statistic": _number(self.ks.statistic), "p": _number(self.ks.p), "q": _number(self.ks.q)},
            "causes": [
                {
                    "name": c.name,
                    "shift_sd": _number(c.shift_sd),
                    "share": _number(c.share),
                    "phrase": c.phrase,
                    "disturbance": c.disturbance,
                    "strength": _number(c.strength),
                    "direction_deg": _number(c.direction_deg),
                }
                for c in self.causes
            ],
            "main_cause": self.main_cause.name if self.main_cause else None,
            "defect_share": _number(self.defect_share),
            "burst": self.burst,
            "changed_on": self.changed_on.isoformat() if self.changed_on else None,
            "trend": None
            if self.trend is None
            else {
                "slope_sd_per_night": _number(self.trend.slope_per_night),
                "nights_to_half_sigma": _number(self.trend.nights_to_half_sigma),
                "nights_ci": [_number(self.trend.low), _number(self.trend.high)],
            },
            "sensor_fault": self.fault,
            "power": _number(self.power),
            "n_missing": self.n_missing,
            "explanation": self.explanation,
        }


def judge(measurement: Measurement, *, q: float) -> Verdict:
    """The verdict of a measured night; `q` is its KS p after correction over the night's lines. Pure."""
    m = measurement
    burst = _is_burst(m)
    kind = _kind(m, q=q, burst=burst)
    since = m.since or NO_SHIFT
    verdict = Verdict(
        kind=kind,
        night=m.night,
        n=m.n,
        n_effective=m.n_effective,
        mean_shift=m.mean,
        bulk_shift=since,
        tonight=m.tonight or NO_SHIFT,
        ks=KsTest(statistic=math.nan if m.ks_statistic is None else m.ks_statistic, p=m.ks_p, q=q),
        causes=m.attribution.causes,
        main_cause=m.attribution.main,
        defect_share=m.tail.share if m.tail and burst else 0.0,
        burst=burst,
        changed_on=m.changed_on if kind in ("drift", "warning") else None,
        trend=m.trend if _trend_warns(m) else None,
        fault=m.fault.kind if m.fault else None,
        power=m.power,
        n_missing=m.n_missing,
        explanation=explain(m, kind=kind, burst=burst, q=q, trend_warns=_trend_warns(m)),
    )
    return verdict


def judge_lines(
    cases: Sequence[tuple[Reference, Sequence[Window]]], *, settings: DriftSettings | None = None
) -> list[Verdict]:
    """Verdicts of the lines checked in one night; their KS p are corrected together (Benjamini-Hochberg)."""
    measured = [measure(reference, windows, settings=settings) for reference, windows in cases]
    qs = q_values([m.tested_p for m in measured])
    return [judge(m, q=q) for m, q in zip(measured, qs, strict=True)]


def _kind(m: Measurement, *, q: float, burst: bool) -> Kind:
    if m.fault is not None:
        return "sensor_fault"
    if _is_drift(m, q=q):
        return "drift"
    if m.tonight is None or m.n_missing != 0:
        return "insufficient"
    if burst:
        return "defect_burst"
    if _step_warns(m) or _trend_warns(m):
        return "warning"
    return "stable"


def _is_drift(m: Measurement, *, q: float) -> bool:
    if m.since is None or m.change is None or m.since.low <= 0.0 <= m.since.high or q > m.settings.alpha:
        return False
    size, error = abs(m.since.estimate), t_quantile(m.settings.drift_confidence, math.inf) * m.drift_error
    lone = m.change.first == len(m.nights) - 1
    if m.n_missing != 0 and lone:
        # Too few images for the usual power, and no other night bears them out: only what is beyond doubt counts.
        return m.n_effective >= m.settings.least_effective and size - error >= m.settings.half_sigma
    if lone and (m.pictures_stayed or _looks_like_defects(m)):
        # Only the scores moved, and only tonight: rather a fifth of defects than a drift, unless it is clearly beyond.
        return size - m.drift_error >= m.settings.half_sigma and size > error
    return size >= m.settings.half_sigma and size > error


def _looks_like_defects(m: Measurement) -> bool:
    """Of a line whose pictures are not measured: too weak to be named, too strong to start a retrain on one night."""
    return not m.attribution.causes and m.tail is not None and m.tail.p <= SUSPECTED_P


def _is_burst(m: Measurement) -> bool:
    return m.tail is not None and m.tail.p <= m.settings.burst_p


def _step_warns(m: Measurement) -> bool:
    change = m.change
    if change is None:
        return False
    level = (
        change.n_level >= LASTING_NIGHTS
        and abs(change.level_z) >= m.settings.level_z
        and abs(change.level) >= LEAST_LEVEL
    )
    away = change.step * change.estimate > 0.0 and min(abs(change.step), abs(change.estimate)) >= LEAST_STEP
    return level or (away and abs(change.z) >= m.settings.change_z)


def _trend_warns(m: Measurement) -> bool:
    return (
        m.trend is not None
        and m.trend.nights_to_half_sigma is not None
        and m.trend.nights_to_half_sigma <= m.settings.forecast_nights
        and abs(m.trend.z) >= m.settings.change_z
    )


def _number(value: float | None) -> float | None:
    """A plain float for JSON; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)
