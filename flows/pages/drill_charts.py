"""Charts of a fire drill: what rises with a disturbance's strength, before and after the retrain."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from flows.pages.charts import HALF_SIGMA, shift_axis, squash, svg
from flows.pages.drill import DrillStep
from flows.pages.palette import LOOKS
from flows.pages.words import interval, percent, signed

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 30


def drill_shift_chart(steps: Sequence[DrillStep], *, width: int = 360, height: int = 210) -> Markup:
    """Bulk shift with its interval over the strengths, the band of ± half a sigma behind it."""
    known = [step for step in steps if step.bulk_shift_sd is not None]
    reach = [
        1.0,
        -1.0,
        *(bound for step in known for bound in (step.bulk_shift_sd or 0.0, *(step.bulk_shift_ci or ()))),
    ]
    low, high = squash(min(reach)) - 0.25, squash(max(reach)) + 0.25

    def y_of(value: float) -> float:
        return _TOP + (high - squash(value)) / (high - low) * (height - _TOP - _BOTTOM)

    marks = [
        f'<rect class="band" x="{_LEFT}" y="{y_of(HALF_SIGMA):.1f}" width="{width - _LEFT - _RIGHT}" '
        f'height="{y_of(-HALF_SIGMA) - y_of(HALF_SIGMA):.1f}"/>',
        *shift_axis(low, high, y_of, left=_LEFT, right=width - _RIGHT),
        *_strengths(steps, width, height),
    ]
    points = [
        (_x(k, steps, width), y_of(step.bulk_shift_sd), step)
        for k, step in enumerate(steps)
        if step.bulk_shift_sd is not None
    ]
    marks.append(_line([(x, y) for x, y, _ in points], "path"))
    for x, y, step in points:
        look = LOOKS[step.verdict]
        told = f"{step.label}: {look.word}, bulk shift {signed(step.bulk_shift_sd, unit='SD')} ({interval(step.bulk_shift_ci)})"
        whisker = ""
        if step.bulk_shift_ci is not None:
            start, end = y_of(step.bulk_shift_ci[0]), y_of(step.bulk_shift_ci[1])
            whisker = f'<path d="M{x:.1f} {start:.1f}V{end:.1f}" stroke="{look.colour}" stroke-width="2"/>'
        marks.append(
            f"<g><title>{escape(told)}</title>{whisker}"
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="9" fill="{look.colour}"/>'
            f'<text class="sign" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{look.sign}</text></g>'
        )
    return svg(width, height, marks, "Bulk shift over the strength of the disturbance")


def before_after_chart(
    steps: Sequence[DrillStep],
    before: Sequence[float],
    after: Sequence[float | None],
    *,
    title: str,
    low: float,
    high: float,
    width: int = 360,
    height: int = 210,
) -> Markup:
    """A share over the strengths: as a line by the champion, as hollow marks after a retrain; `low` … `high` is shown."""

    def y_of(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (height - _TOP - _BOTTOM)

    marks = []
    for k in range(5):
        tick = low + (high - low) * k / 4
        y = y_of(tick)
        marks.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = f"{tick:.2f}" if low > 0 else percent(tick)
        marks.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    marks += _strengths(steps, width, height)
    marks.append(_line([(_x(k, steps, width), y_of(value)) for k, value in enumerate(before)], "before"))
    for k, (step, was, now) in enumerate(zip(steps, before, after, strict=True)):
        x, y = _x(k, steps, width), y_of(was)
        marks.append(
            f"<g><title>{escape(step.label)}: {title} {was:.3g}</title>"
            f'<circle class="before" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
        if now is not None:
            marks.append(
                f"<g><title>{escape(step.label)}: {title} {now:.3g} after the retrain, {was:.3g} before</title>"
                f'<line class="gain" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y_of(now):.1f}"/>'
                f'<circle class="after" cx="{x:.1f}" cy="{y_of(now):.1f}" r="6"/></g>'
            )
    return svg(width, height, marks, f"{title} over the strength of the disturbance, before and after the retrain")


def auroc_floor(steps: Sequence[DrillStep]) -> float:
    """A round lower end of the AUROC axis below every step.

    >>> auroc_floor([])
    0.8
    """
    seen = [value for step in steps for value in (step.auroc_before, step.auroc_after) if value is not None]
    return max(0.0, min(0.8, int((min(seen, default=0.9) - 0.02) * 5) / 5))


def _x(k: int, steps: Sequence[DrillStep], width: int) -> float:
    return _LEFT + (width - _LEFT - _RIGHT) * (k + 0.5) / len(steps)


def _strengths(steps: Sequence[DrillStep], width: int, height: int) -> list[str]:
    return [
        f'<text class="tick" x="{_x(k, steps, width):.1f}" y="{height - 8}" text-anchor="middle">{escape(step.strength)}</text>'
        for k, step in enumerate(steps)
    ]


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    joined = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" fill="none" d="M{joined}"/>' if points else ""
