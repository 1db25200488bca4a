"""The verdict in two sentences with figures, for a quality manager."""

from __future__ import annotations

import math

from drift.measurement import Measurement


def explain(m: Measurement, *, kind: str, burst: bool, q: float, trend_warns: bool) -> str:
    """Two sentences: what was seen, and what it means or asks for."""
    match kind:
        case "sensor_fault":
            assert m.fault is not None
            return (
                f"{m.fault.phrase[0].upper()}{m.fault.phrase[1:]}. "
                "No part explains such pictures: look at the camera before anything is retrained."
            )
        case "insufficient":
            return f"{_seen(m)} {_missing(m)}"
        case "drift":
            return f"{_shift(m)}{_burst(m, burst)}. {_why(m)}"
        case "defect_burst":
            assert m.tail is not None
            return (
                f"{m.tail.n_beyond} of {m.n} images score above what good parts do "
                f"({m.tail.expected:.0f} would be usual), about {100 * m.tail.share:.0f} % more than usual, "
                f"while the bulk of the images moved by only {_sd(m)}. "
                "That looks like real defects, not like a changed picture: check the parts; nothing is retrained."
            )
        case "warning":
            return f"{_shift(m)}, less than the half that would start a retrain. {_forecast(m, trend_warns)}"
        case _:
            return (
                f"The good images score where the reference does: shift {_sd(m)}. "
                f"{m.n} images (worth {m.n_effective:.0f} independent ones) would have shown a shift of "
                f"{m.settings.noticed_shift:g} standard deviation with {100 * m.power:.0f} % probability."
            )


def _sd(m: Measurement) -> str:
    shift = m.since
    if shift is None:
        return "unknown"
    return f"{shift.estimate:+.2f} standard deviations (95 % interval {shift.low:+.2f} to {shift.high:+.2f})".replace(
        "95 %", f"{100 * m.settings.confidence:g} %"
    )


def _shift(m: Measurement) -> str:
    since = "tonight" if m.changed_on == m.night or m.changed_on is None else f"since {m.changed_on.isoformat()}"
    direction = "higher" if m.since is not None and m.since.estimate > 0 else "lower"
    return f"Good images score {direction} {since}: the bulk moved by {_sd(m)}"


def _burst(m: Measurement, burst: bool) -> str:
    if not burst or m.tail is None:
        return ""
    return f", and about {100 * m.tail.share:.0f} % of the images look like defects on top of it"


def _why(m: Measurement) -> str:
    if not m.causes:
        return "None of the measured properties of the pictures (light, sharpness, position) moved with it."
    first = m.causes[0]
    others = [cause.phrase for cause in m.causes[1:3]]
    share = f", which explains about {100 * first.share:.0f} % of the shift" if first.share else ""
    also = f"; also {' and '.join(others)}" if others else ""
    return f"{first.phrase[0].upper()}{first.phrase[1:]}{share}{also}."


def _forecast(m: Measurement, trend_warns: bool) -> str:
    if trend_warns and m.trend is not None and m.trend.nights_to_half_sigma is not None:
        low, high = m.trend.low or 0.0, m.trend.high or math.inf
        return (
            f"At {m.trend.slope_per_night:+.3f} a night it reaches {m.settings.half_sigma:g} in about "
            f"{math.ceil(m.trend.nights_to_half_sigma)} nights ({math.floor(low)} to {math.ceil(high)})."
        )
    return _why(m) if m.causes else "It is lasting, so somebody should look at lamp, lens and fixture."


def _seen(m: Measurement) -> str:
    if m.tonight is None:
        return f"Only {m.n} images were scored, too few to say where the bulk lies."
    return (
        f"{m.n} images (worth {m.n_effective:.0f} independent ones) would show a shift of "
        f"{m.settings.noticed_shift:g} standard deviation with only {100 * m.power:.0f} % probability."
    )


def _missing(m: Measurement) -> str:
    if m.n_missing is None:
        return "More images a night cannot help: the reference is too small or too spread; fit with more good images."
    return f"{m.n_missing} more images are needed for {100 * m.settings.noticed_power:.0f} %."
