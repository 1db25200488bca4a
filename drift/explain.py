"""The verdict in two sentences with figures, for a quality manager."""

from __future__ import annotations

import math

from drift.causes import Cause
from drift.measurement import Measurement

REMEDIES = {
    "black": "No part explains such pictures: look at lamp, trigger and camera before anything is retrained.",
    "saturated": "No part explains such pictures: look at exposure and lamp before anything is retrained.",
    "frozen": "A running line never repeats a picture to the last pixel: restart the camera, then check the night again.",
    "wrong_size": "The camera's settings were changed: put them back, or fit the line anew with pictures of this size.",
    "unreadable": "Look at how the files are written and copied before anything is retrained.",
    "stuck_scores": "Restart the detector and its log, then check the night again; nothing is retrained.",
    "another_part": "Check what runs on the line; a part of its own needs a line of its own.",
}
"""What to do, for every kind of `drift.sensor.SensorFault`."""


def explain(m: Measurement, *, kind: str, burst: bool, q: float, trend_warns: bool) -> str:
    """Two sentences: what was seen, and what it means or asks for."""
    match kind:
        case "sensor_fault":
            assert m.fault is not None
            return f"{m.fault.phrase[0].upper()}{m.fault.phrase[1:]}. {REMEDIES[m.fault.kind]}"
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
            return f"{_shift(m)}, {_not_yet(m, q=q)}. {_forecast(m, trend_warns)}"
        case _:
            chance = ""
            if m.since is not None and abs(m.since.estimate) >= m.settings.half_sigma:
                chance = ", which with so few images can still be chance"
            return (
                f"No lasting shift is seen: the bulk lies {_sd(m)} from the reference{chance}. "
                f"{_images(m.n)} (worth {m.n_effective:.0f} independent ones) would have shown a shift of "
                f"{m.settings.noticed_shift:g} standard deviation with {100 * m.power:.0f} % probability."
            )


def _images(n: int) -> str:
    return f"{n} image" if n == 1 else f"{n} images"


def _not_yet(m: Measurement, *, q: float) -> str:
    if m.since is None or abs(m.since.estimate) < m.settings.half_sigma:
        return f"less than the {m.settings.half_sigma:g} that would start a retrain"
    if q > m.settings.alpha:
        return f"but the distributions do not differ beyond chance yet (q {q:.2g}, limit {m.settings.alpha:g})"
    return "which is not yet proved well enough for a retrain"


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
    causes, main = m.attribution.causes, m.attribution.main
    if not causes:
        return "None of the measured properties of the pictures (light, sharpness, position) moved with it."
    if main is None:
        return (
            f"None of the known causes explains it (lamp, lens, fixture, sensor), although {causes[0].phrase}: "
            "look at the pictures."
        )
    named = [cause for cause in causes[1:3] if cause.disturbance]
    share = f", which explains about {100 * main.share:.0f} % of the shift" if main.share else ""
    also = f"; also {' and '.join(_with_share(cause) for cause in named)}" if named else ""
    return f"{main.phrase[0].upper()}{main.phrase[1:]}{share}{also}."


def _with_share(cause: Cause) -> str:
    return f"{cause.phrase} ({100 * cause.share:.0f} %)" if cause.share else cause.phrase


def _forecast(m: Measurement, trend_warns: bool) -> str:
    if trend_warns and m.trend is not None and m.trend.nights_to_half_sigma is not None:
        low, high = m.trend.low or 0.0, m.trend.high or math.inf
        return (
            f"At {m.trend.slope_per_night:+.3f} a night it reaches {m.settings.half_sigma:g} in about "
            f"{math.ceil(m.trend.nights_to_half_sigma)} nights ({math.floor(low)} to {math.ceil(high)})."
        )
    return _why(m) if m.attribution.causes else "It is lasting, so somebody should look at lamp, lens and fixture."


def _seen(m: Measurement) -> str:
    if m.n == 0 and m.n_known_defects:
        return (
            f"All {_images(m.n_known_defects)} of this night are labelled defects: none is left to judge the line by."
        )
    if m.n == 0:
        return "No image was scored this night: the line stood still, or its camera or its log does not work."
    if m.tonight is None:
        were = "was" if m.n == 1 else "were"
        return f"Only {_images(m.n)} {were} scored, too few to say where the bulk lies."
    worth = f"{_images(m.n)} (worth {m.n_effective:.0f} independent ones)"
    if m.power >= m.settings.noticed_power:
        return f"{worth} are fewer than the {m.settings.least_effective} independent ones that a verdict rests on."
    return (
        f"{worth} would show a shift of {m.settings.noticed_shift:g} standard deviation with only "
        f"{100 * m.power:.0f} % probability."
    )


def _missing(m: Measurement) -> str:
    if m.n_missing is None:
        return "More images a night cannot help: the reference is too small or too spread; fit with more good images."
    more = f"{m.n_missing} more {'image is' if m.n_missing == 1 else 'images are'} needed"
    if m.tonight is not None and m.power >= m.settings.noticed_power:
        return f"{more}."
    return f"{more} for {100 * m.settings.noticed_power:.0f} % probability."
