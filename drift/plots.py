"""A check as a picture: the scores against the reference, and the bulk shift of every night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drift.measurement import measure
from drift.reference import Reference
from drift.verdict import Verdict
from drift.window import Window

COLOURS = {
    "stable": "#2a7f4f",
    "warning": "#c98a00",
    "drift": "#c0392b",
    "defect_burst": "#7d3c98",
    "sensor_fault": "#34495e",
    "insufficient": "#7f8c8d",
}


def plot_check(reference: Reference, windows: Sequence[Window], verdict: Verdict, path: Path | str) -> Path:
    """Writes a PNG (about 1200 x 450 px): score distributions on the left, the nights' bulk shift on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colour = COLOURS[verdict.kind]
    figure = Figure(figsize=(12.0, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.2))

    tonight = windows[-1].scores
    both = np.concatenate([reference.scores, tonight])
    low, high = float(both.min()), float(np.quantile(both, 0.995))
    edges = np.linspace(low, max(high, low + 1e-9), 41)
    weights = [np.full(len(s), 100.0 / max(len(s), 1)) for s in (reference.scores, tonight)]
    clipped = [np.clip(s, edges[0], edges[-1]) for s in (reference.scores, tonight)]
    left.hist(clipped[0], bins=edges, weights=weights[0], color="#b0b7bd", label=f"reference ({reference.n})")
    if len(tonight):
        left.hist(clipped[1], bins=edges, weights=weights[1], histtype="step", linewidth=2.0, color=colour,
                  label=f"{windows[-1].night} ({len(tonight)})")  # fmt: skip
    left.set(xlabel="score", ylabel="% of the images", title="Scores against the reference")
    left.legend(frameon=False)

    measured = measure(reference, windows)
    dates = measured.night_dates
    shift = np.array([night.estimate for night in measured.nights])
    error = np.array([night.variance**0.5 for night in measured.nights]) * 1.96
    position = np.arange(len(dates))
    limit = measured.settings.half_sigma
    right.axhspan(-limit, limit, color="#2a7f4f", alpha=0.08, linewidth=0)
    right.axhline(0.0, color="#888888", linewidth=0.8)
    if len(dates):
        right.errorbar(position, shift, yerr=error, fmt="o-", color="#555555", markersize=4, linewidth=1, capsize=2)
        right.plot(position[-1], shift[-1], "o", color=colour, markersize=9)
        step = max(len(dates) // 8, 1)
        right.set_xticks(position[::-step], [dates[i].strftime("%m-%d") for i in position[::-step]])
    if verdict.changed_on in dates:
        right.axvline(dates.index(verdict.changed_on) - 0.5, color=colour, linestyle="--", linewidth=1.2)
    right.set(xlabel="night", ylabel="bulk shift (reference SD)",
              title=f"{verdict.kind.replace('_', ' ')} on {verdict.night}")  # fmt: skip
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path = Path(path)
    figure.savefig(path, format="png")
    return path
