"""The conditions that a challenger must meet before it can become champion, each with its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

DETECTION_MARGIN = 0.02
"""AUROC that a challenger may lose against the champion on the same images."""
RECALL_MARGIN = 0.05
"""Share of the golden set that a challenger may miss beyond what the champion misses."""
MAX_SHIFT_SD = 0.5
"""Half a sigma: with more, tomorrow's check would call drift at once."""
LATENCY_FACTOR = 1.5
"""Against the champion in the same minutes, where the line states no budget."""
CONFIDENCE = 0.95
N_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what was measured, what was allowed, and what it means."""

    name: str
    passed: bool
    value: float
    limit: float
    reason: str

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "passed": self.passed,
            "value": self.value,
            "limit": self.limit,
            "reason": self.reason,
        }


def false_positives_gate(n_rejected: int, n_good: int, *, fpr_budget: float) -> Gate:
    """Fresh goods, never fitted on, are not rejected more often than the budget, as far as so few can tell.

    Passes unless even the lower bound of the Clopper–Pearson interval lies above the budget: a handful of images must
    neither fail a good challenger by bad luck nor be silent about a bad one.
    """
    observed = n_rejected / n_good
    low = float(beta.ppf((1 - CONFIDENCE) / 2, n_rejected, n_good - n_rejected + 1)) if n_rejected else 0.0
    return Gate(
        "false_positives",
        low <= fpr_budget,
        observed,
        fpr_budget,
        f"{n_rejected} of {n_good} fresh goods are rejected; with so many images at least {low:.1%} is certain",
    )


def detection_gate(
    name: str,
    *,
    champion_good: NDArray[np.float64],
    champion_defect: NDArray[np.float64],
    challenger_good: NDArray[np.float64],
    challenger_defect: NDArray[np.float64],
    seed: int,
) -> Gate:
    """The challenger separates defects from fresh goods no worse than the champion, on the same images.

    AUROC is compared, since a drifted champion that rejects everything has a recall of 1. Both score the same images,
    so the bootstrap draws images, not scores: what the two have in common cancels out. Fails when the upper bound of
    the gain lies below −`DETECTION_MARGIN`.

    Args:
        name: of the gate.
        champion_good, challenger_good: (n,), the same fresh goods in the same order.
        champion_defect, challenger_defect: (m,), the same defects in the same order.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    before, after = auroc(champion_good, champion_defect), auroc(challenger_good, challenger_defect)
    gains = np.empty(N_RESAMPLES)
    for index in range(N_RESAMPLES):
        g = rng.integers(0, champion_good.size, champion_good.size)
        d = rng.integers(0, champion_defect.size, champion_defect.size)
        gains[index] = auroc(challenger_good[g], challenger_defect[d]) - auroc(champion_good[g], champion_defect[d])
    high = float(np.quantile(gains, 1 - (1 - CONFIDENCE) / 2))
    return Gate(
        name,
        high >= -DETECTION_MARGIN,
        after,
        before - DETECTION_MARGIN,
        f"AUROC {after:.3f}, the champion's {before:.3f} on the same {champion_good.size} goods and "
        f"{champion_defect.size} defects",
    )


def recall_gate(champion_caught: NDArray[np.bool_], challenger_caught: NDArray[np.bool_]) -> Gate:
    """Labelled defects of this line are not forgotten: (n,) verdicts of both on the golden set."""
    before, after = float(champion_caught.mean()), float(challenger_caught.mean())
    return Gate(
        "golden_recall",
        after >= before - RECALL_MARGIN,
        after,
        before - RECALL_MARGIN,
        f"{int(challenger_caught.sum())} of {challenger_caught.size} labelled defects are caught, "
        f"the champion catches {int(champion_caught.sum())}",
    )


def shift_gate(bulk_shift_sd: float, low: float, high: float) -> Gate:
    """Fresh goods lie where the challenger's own reference lies: the interval reaches below half a sigma."""
    nearest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    return Gate(
        "fresh_shift_sd",
        nearest < MAX_SHIFT_SD,
        bulk_shift_sd,
        MAX_SHIFT_SD,
        f"fresh goods lie {bulk_shift_sd:+.2f} SD from the new reference (95 % between {low:+.2f} and {high:+.2f})",
    )


def latency_gate(challenger_ms: Sequence[float], champion_ms: Sequence[float], *, budget_ms: float | None) -> Gate:
    """One image is judged within the line's budget, or as fast as the champion judges it in the same minutes."""
    value = float(np.median(challenger_ms))
    usual = float(np.median(champion_ms))
    limit = budget_ms if budget_ms is not None else LATENCY_FACTOR * usual
    return Gate("latency_ms", value <= limit, value, limit, f"{value:.1f} ms an image, the champion {usual:.1f} ms")


def round_trip_gate(before: NDArray[np.float64], after: NDArray[np.float64]) -> Gate:
    """The saved version, loaded again, gives the same scores bit for bit: (n,) each."""
    unequal = int((before != after).sum())
    return Gate(
        "round_trip", unequal == 0, float(unequal), 0.0, f"{before.size - unequal} of {before.size} scores are equal"
    )


def auroc(good: NDArray[np.float64], defect: NDArray[np.float64]) -> float:
    """Probability that a defect scores above a good image, ties count half (Mann–Whitney)."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, side="left") + np.searchsorted(ordered, defect, side="right")
    return float(below.mean() / (2.0 * good.size))
