"""Charts of a bake-off: what a family costs against what it finds, and what a drift and a retrain do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from flows.pages.bakeoff import BakeoffRow
from flows.pages.charts import Scale, svg

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 16, 44
_LABEL_PX = 7.0
"""Of a letter, so that a name at the right edge is written to the left of its mark."""
_LINE_PX, _NAME_PX = 14, 90
"""Names nearer to each other than this would lie on each other."""
_ROW_PX = 34


def cost_chart(rows: Sequence[BakeoffRow], *, budget_ms: float | None, width: int = 550, height: int = 320) -> Markup:
    """AUROC over the time of one image, logarithmic; what is slower than the budget lies in a shaded field."""
    low_ms, high_ms = _decades([row.latency_ms for row in rows] + ([budget_ms] if budget_ms else []))
    floor = auroc_floor([row.auroc for row in rows])

    def x_of(milliseconds: float) -> float:
        share = math.log(milliseconds / low_ms) / math.log(high_ms / low_ms)
        return _LEFT + share * (width - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        return _TOP + (1.0 - value) / (1.0 - floor) * (height - _TOP - _BOTTOM)

    bottom = height - _BOTTOM
    marks = []
    if budget_ms is not None:
        x = x_of(budget_ms)
        marks.append(
            f'<rect class="rejects" x="{x:.1f}" y="{_TOP}" width="{width - _RIGHT - x:.1f}" height="{bottom - _TOP}"/>'
            f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            f'<text class="note" x="{x - 6:.1f}" y="{bottom - 6}" text-anchor="end">the line’s budget</text>'
        )
    marks += _auroc_axis(floor, y_of, right=width - _RIGHT)
    for tick in _ticks_ms(low_ms, high_ms):
        x = x_of(tick)
        marks.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        marks.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    marks.append(f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    marks.append(f'<text class="tick" x="{width - _RIGHT}" y="{height - 6}" text-anchor="end">ms an image →</text>')
    written: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda each: (each.recommended, -each.auroc)):  # the recommended one on top
        x, y = x_of(row.latency_ms), y_of(row.auroc)
        baseline = y + 4
        while any(abs(baseline - other) < _LINE_PX and abs(x - beside) < _NAME_PX for beside, other in written):
            baseline += _LINE_PX
        written.append((x, baseline))
        kind = "after chosen" if row.recommended else "before"
        to_left = x + 14 + _LABEL_PX * len(row.family) > width - _RIGHT
        place = f'x="{x - 11:.1f}" text-anchor="end"' if to_left else f'x="{x + 11:.1f}"'
        weight = ' font-weight="700"' if row.recommended else ""
        marks.append(
            f"<g><title>{escape(row.family)}: AUROC {row.auroc:.3f}, {row.latency_ms:.1f} ms</title>"
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{8 if row.recommended else 6}"/>'
            f'<text class="key" {place} y="{baseline:.1f}"{weight}>{escape(row.family)}</text></g>'
        )
    return svg(width, height, marks, "AUROC over the time of one image, by family")


def drift_chart(rows: Sequence[BakeoffRow], *, width: int = 550) -> Markup:
    """AUROC before the drift, after it, and after a retrain: one line a family."""
    known = [value for row in rows for value in (row.auroc, row.auroc_drifted, row.auroc_after_drift) if value]
    floor = auroc_floor(known)
    left, height = 108, _TOP + _ROW_PX * len(rows) + _BOTTOM

    def x_of(value: float) -> float:
        return left + (value - floor) / (1.0 - floor) * (width - left - _RIGHT)

    bottom = height - _BOTTOM
    marks = []
    for tick in auroc_ticks(floor):
        x = x_of(tick)
        marks.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        marks.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:.2f}</text>')
    for k, row in enumerate(rows):
        y = _TOP + _ROW_PX * (k + 0.5)
        weight = ' font-weight="700"' if row.recommended else ""
        marks.append(
            f'<text class="key" x="{left - 14}" y="{y + 4:.1f}" text-anchor="end"{weight}>{escape(row.family)}</text>'
        )
        told = f"{row.family}: AUROC {row.auroc:.3f} before the drift"
        if row.auroc_drifted is not None:
            start, end = x_of(row.auroc), x_of(row.auroc_drifted)
            told += f", {row.auroc_drifted:.3f} after it"
            marks.append(f'<line class="zero" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            cross = f"M{end - 5:.1f} {y - 5:.1f}l10 10M{end + 5:.1f} {y - 5:.1f}l-10 10"
            marks.append(f'<path class="defect" d="{cross}"/>')
        if row.auroc_after_drift is not None:
            told += f", {row.auroc_after_drift:.3f} after a retrain"
            marks.append(f'<circle class="after" cx="{x_of(row.auroc_after_drift):.1f}" cy="{y:.1f}" r="7"/>')
        marks.append(
            f"<g><title>{escape(told)}</title>"
            f'<circle class="before" cx="{x_of(row.auroc):.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    marks.append(f'<text class="tick" x="{width - _RIGHT}" y="{height - 6}" text-anchor="end">AUROC →</text>')
    return svg(width, height, marks, "AUROC before a drift, after it and after a retrain, by family")


def auroc_floor(values: Sequence[float]) -> float:
    """A round lower end of an AUROC axis below all of them.

    >>> auroc_floor([0.93, 0.81]), auroc_floor([0.97]), auroc_floor([])
    (0.8, 0.9, 0.5)
    """
    return max(0.0, min(0.9, math.floor((min(values, default=0.52) - 0.01) * 10) / 10))


def auroc_ticks(floor: float) -> list[float]:
    """Round values from the floor to 1.

    >>> auroc_ticks(0.7), auroc_ticks(0.9)
    ([0.7, 0.8, 0.9, 1.0], [0.9, 0.92, 0.94, 0.96, 0.98, 1.0])
    """
    step = 0.02 if floor >= 0.9 else 0.05 if floor >= 0.8 else 0.1
    return [round(floor + k * step, 2) for k in range(round((1.0 - floor) / step) + 1)]


def _auroc_axis(floor: float, y_of: Scale, *, right: int) -> list[str]:
    marks = []
    for tick in auroc_ticks(floor):
        y = y_of(tick)
        marks.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    return marks


def _decades(milliseconds: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis, a little beyond the values."""
    return min(milliseconds, default=1.0) / 1.5, max(milliseconds, default=10.0) * 1.8


def _ticks_ms(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
