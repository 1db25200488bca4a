"""Labelled defects that a challenger misses and the champion catches, where both are as strict with good parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from registry.gates import CHANCE_OF_REJECTIONS, Gate

RECALL_MARGIN = 0.05
"""Share of the golden set that a challenger may miss beyond what the champion misses."""
GOLDEN_CONFIDENCE = 0.90
"""Lower, since a missed defect costs more than a retrain that waits: 4 of 4 lost are enough."""


def recall_limit(
    threshold: float, fresh: NDArray[np.float64], *, promised_fpr: float, n_reference: int, defect_share: float = 0.0
) -> float:
    """Above which a deployed version counts as catching a defect: its threshold, unless the line has drifted.

    A champion that rejects half of the good parts catches most defects, and no good challenger would catch as many. So where
    it rejects more fresh images than its threshold promises and chance explains (beta-binomial, as in `false_positives_gate`),
    it is asked at the score that only the promised share of them exceeds.

    Args:
        threshold: of the version.
        fresh: (n,) its scores of fresh images that nobody called a defect.
        promised_fpr: by the threshold.
        n_reference: scores that the threshold was taken from.
        defect_share: of defects among the fresh images, 0…1, where nobody has looked at them.

    >>> float(recall_limit(1.0, np.array([0.5, 0.6, 0.7, 0.8]), promised_fpr=0.01, n_reference=300))
    1.0
    >>> float(recall_limit(0.1, np.array([0.5, 0.6, 0.7, 0.8]), promised_fpr=0.01, n_reference=300))
    0.8
    """
    if not fresh.size:
        return threshold
    share = min(promised_fpr + defect_share, 1.0)
    above = min(share * (n_reference + 1), n_reference + 0.5)
    chance = betabinom(fresh.size, above, n_reference + 1 - above)
    if chance.sf(int((fresh > threshold).sum()) - 1) >= CHANCE_OF_REJECTIONS:
        return threshold
    return max(threshold, float(np.quantile(fresh, 1.0 - share, method="higher")))


def recall_gate(champion_caught: NDArray[np.bool_], challenger_caught: NDArray[np.bool_]) -> Gate:
    """Labelled defects of this line are not forgotten: (n,) verdicts of both on the golden set, the champion's above its `recall_limit`.

    Fails when the challenger misses more than `RECALL_MARGIN` beyond the champion, and that is no accident: of the
    defects that only one of the two catches, so few are the challenger's with a probability below 1 −
    `GOLDEN_CONFIDENCE` (exact one-sided McNemar test). Labelled defects are often those that the champion itself
    rejected, so one lost of fifteen says little.
    """
    before, after = float(champion_caught.mean()), float(challenger_caught.mean())
    lost = int((champion_caught & ~challenger_caught).sum())
    won = int((~champion_caught & challenger_caught).sum())
    p = float(binom.cdf(won, lost + won, 0.5)) if lost + won else 1.0
    forgot = after < before - RECALL_MARGIN and p < 1.0 - GOLDEN_CONFIDENCE
    return Gate(
        "golden_recall",
        not forgot,
        after,
        before - RECALL_MARGIN,
        f"{int(challenger_caught.sum())} of {challenger_caught.size} labelled defects are caught, "
        f"the champion catches {int(champion_caught.sum())}; {lost} lost, {won} won (p = {p:.3f})",
    )
