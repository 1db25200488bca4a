"""Charts as SVG that follows the page's light or dark colours, needs no script, and says what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from flows.pages.palette import LOOKS
from flows.pages.story import Distribution, NightRow
from flows.pages.words import interval, percent, signed

Scale = Callable[[float], float]

HALF_SIGMA = 0.5
# Linear near zero and logarithmic beyond: half a sigma and twenty are both readable on one axis.
_SHIFT_TICKS = (-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
_MAX_NIGHT_LABELS = 14
_N_BINS = 36


def timeline_chart(nights: Sequence[NightRow], *, width: int = 1120, height: int = 250) -> Markup:
    """Bulk shift with its interval, night after night, over the band of ± half a sigma."""
    left, right, top, bottom = 58, 16, 14, 34
    known = [night for night in nights if night.bulk_shift_sd is not None]
    reach = [1.0, -1.0]
    for night in known:
        reach += [night.bulk_shift_sd or 0.0, *(night.bulk_shift_ci or ())]
    low, high = squash(min(reach)) - 0.25, squash(max(reach)) + 0.25

    def y_of(value: float) -> float:
        return top + (high - squash(value)) / (high - low) * (height - top - bottom)

    step = (width - left - right) / max(len(nights), 1)
    marks: list[str] = []
    band_top, band_bottom = y_of(HALF_SIGMA), y_of(-HALF_SIGMA)
    marks.append(
        f'<rect class="band" x="{left}" y="{band_top:.1f}" width="{width - left - right}" '
        f'height="{band_bottom - band_top:.1f}"/>'
    )
    marks += shift_axis(low, high, y_of, left=left, right=width - right)
    marks.append(
        f'<text class="tick" transform="translate(13 {(top + height - bottom) / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">bulk shift in reference SD</text>'
    )
    every = math.ceil(len(nights) / _MAX_NIGHT_LABELS)
    previous: tuple[float, float, str] | None = None
    dots: list[str] = []
    for number, night in enumerate(nights):
        x = left + step * (number + 0.5)
        if number % every == 0:
            label = f"{night.night.day} {night.night:%b}"
            marks.append(f'<text class="tick" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{label}</text>')
        if number and nights[number - 1].version != night.version:
            edge = x - step / 2
            marks.append(f'<line class="change" x1="{edge:.1f}" x2="{edge:.1f}" y1="{top}" y2="{height - bottom}"/>')
            told = f"{escape(night.version)} takes over"
            marks.append(f'<text class="note" x="{edge + 5:.1f}" y="{top + 11}">{told}</text>')
        if night.bulk_shift_sd is None:
            previous = None
            continue
        y = y_of(night.bulk_shift_sd)
        if previous is not None and previous[2] == night.version:
            start = f'x1="{previous[0]:.1f}" y1="{previous[1]:.1f}"'
            marks.append(f'<line class="path" {start} x2="{x:.1f}" y2="{y:.1f}"/>')
        previous = (x, y, night.version)
        dots.append(_night_mark(night, x, y_of, radius=min(9.0, max(3.0, step * 0.36))))
    return svg(width, height, marks + dots, "Bulk shift of every night")


def shift_axis(low: float, high: float, y_of: Scale, *, left: int, right: int) -> list[str]:
    """Lines and figures of the shifts between `low` and `high`, both squashed, from x = `left` to `right`."""
    marks = []
    for tick in _SHIFT_TICKS:
        if low <= squash(tick) <= high:
            y = y_of(tick)
            kind = "zero" if tick == 0 else "grid"
            marks.append(f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = f"{tick:+g}".replace("-", "−") if tick else "0"
            marks.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return marks


def _night_mark(night: NightRow, x: float, y_of: Scale, *, radius: float) -> str:
    look, y = LOOKS[night.verdict], y_of(night.bulk_shift_sd or 0.0)
    whisker = ""
    if night.bulk_shift_ci is not None:
        top, bottom, half = y_of(night.bulk_shift_ci[1]), y_of(night.bulk_shift_ci[0]), radius * 0.55
        whisker = (
            f'<path d="M{x - half:.1f} {top:.1f}h{2 * half:.1f}M{x:.1f} {top:.1f}V{bottom:.1f}'
            f'M{x - half:.1f} {bottom:.1f}h{2 * half:.1f}" '
            f'stroke="{look.colour}" stroke-width="2" fill="none"/>'
        )
    told = (
        f"{night.night}: {look.word}, bulk shift {signed(night.bulk_shift_sd, unit='SD')} "
        f"({interval(night.bulk_shift_ci)}), false rejects {percent(night.fpr)}"
    )
    # On small dots a sign would be dust; the colour, the place and the title still tell.
    sign = f'<text class="sign" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{look.sign}</text>'
    return (
        f"<g><title>{escape(told)}</title>{whisker}"
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{look.colour}"/>'
        f"{sign if radius > 7 else ''}</g>"
    )


def distribution_chart(item: Distribution, *, width: int = 550, height: int = 250) -> Markup:
    """Two histograms on one axis, shares of each sample, with the threshold and the side that it rejects."""
    left, right, top, bottom = 14, 14, 40, 40
    edges = _edges(item)
    low, high = float(edges[0]), float(edges[-1])
    reference, window = _shares(item.reference, edges), _shares(item.window, edges)
    peak = max(float(reference.max(initial=0)), float(window.max(initial=0)), 1e-9)

    def x_of(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (width - left - right)

    def y_of(share: float) -> float:
        return top + (1 - share / peak) * (height - top - bottom)

    floor = height - bottom
    marks: list[str] = []
    if item.threshold is not None:
        x = x_of(item.threshold)
        size = f'width="{width - right - x:.1f}" height="{floor - top}"'
        marks.append(f'<rect class="rejects" x="{x:.1f}" y="{top}" {size}/>')
    marks.append(_steps(reference, edges, x_of, y_of, floor, "reference"))
    marks.append(_steps(window, edges, x_of, y_of, floor, "window"))
    marks.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    for tick in _round_ticks(low, high):
        x = x_of(tick)
        marks.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        marks.append(f'<text class="tick" x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{tick:g}</text>')
    marks.append(f'<text class="tick" x="{width - right}" y="{height - 5}" text-anchor="end">anomaly score →</text>')
    if item.threshold is not None:
        x = x_of(item.threshold)
        side = "end" if x > width * 0.72 else "start"
        marks.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{floor}"/>')
        beside = x + (-6 if side == "end" else 6)
        marks.append(f'<text class="note" x="{beside:.1f}" y="{top + 3}" text-anchor="{side}">threshold</text>')
    if item.window_defects is not None:
        for score in item.window_defects:
            x = x_of(float(score))
            cross = f"M{x - 4:.1f} {floor - 9}l8 8M{x + 4:.1f} {floor - 9}l-8 8"
            told = f"known defect, score {score:.4g}"
            marks.append(f'<path class="defect" d="{cross}"><title>{told}</title></path>')
    n_beyond = int(np.count_nonzero(item.window > high))
    if n_beyond:
        place = f'x="{width - right}" y="{floor - 14}" text-anchor="end"'
        marks.append(f'<text class="note" {place}>{n_beyond} beyond ▸</text>')
    marks.append(_legend(item, left))
    return svg(width, height, marks, f"{item.title}: scores against the reference")


def _edges(item: Distribution) -> NDArray[np.float64]:
    """Bins over everything but the far tail, so that one defect does not press the good parts into a line."""
    both = np.concatenate([item.reference, item.window])
    if both.size == 0:
        return np.linspace(0.0, 1.0, _N_BINS + 1)
    ends = [float(item.reference.max())] if item.reference.size else []
    ends += [float(np.quantile(item.window, 0.95))] if item.window.size else []
    ends += [item.threshold] if item.threshold is not None else []
    low, high = float(both.min()), max(ends)
    margin = max((high - low) * 0.06, abs(high) * 1e-6, 1e-9)
    return np.linspace(low - margin, high + 2 * margin, _N_BINS + 1)


def _shares(scores: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_bins,) share of the scores in each bin; what lies beyond an edge counts in the bin beside it."""
    if scores.size == 0:
        return np.zeros(len(edges) - 1)
    return np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / scores.size


def _steps(
    shares: NDArray[np.float64], edges: NDArray[np.float64], x_of: Scale, y_of: Scale, floor: float, kind: str
) -> str:
    points = [f"M{x_of(edges[0]):.1f} {floor}"]
    for share, start, stop in zip(shares, edges[:-1], edges[1:], strict=True):
        points.append(f"L{x_of(start):.1f} {y_of(share):.1f}L{x_of(stop):.1f} {y_of(share):.1f}")
    points.append(f"L{x_of(edges[-1]):.1f} {floor}Z")
    return f'<path class="{kind}" d="{"".join(points)}"/>'


def _round_ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]


def _legend(item: Distribution, left: float) -> str:
    parts = [
        ("reference", f"{item.reference_label} ({item.reference.size})"),
        ("window", f"{item.window_label} ({item.window.size})"),
    ]
    marks, x = [], left
    for kind, text in parts:
        marks.append(f'<rect class="{kind}" x="{x:.0f}" y="8" width="13" height="13"/>')
        marks.append(f'<text class="key" x="{x + 19:.0f}" y="19">{escape(text)}</text>')
        x += 34 + 6.9 * len(text)
    if item.window_defects is not None and item.window_defects.size:
        marks.append(f'<path class="defect" d="M{x} 10l9 9M{x + 9} 10l-9 9"/>')
        text = f"{item.defects_label} ({item.window_defects.size})"
        marks.append(f'<text class="key" x="{x + 15:.0f}" y="19">{escape(text)}</text>')
    return "".join(marks)


def squash(value: float) -> float:
    """A shift's place on an axis that is linear near zero and logarithmic beyond."""
    return math.asinh(value / HALF_SIGMA)


def svg(width: int, height: int, marks: Sequence[str], told: str) -> Markup:
    """`marks` as one picture of that size, described by `told` for who cannot see it."""
    body = "".join(marks)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
