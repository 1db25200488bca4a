"""What a change of the station costs, on the same parts photographed before and after it.

Each part is its own control, so a loss is told from chance with far fewer images than two separate samples would need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from registry.gates import DETECTION_MARGIN, N_RESAMPLES, auroc
from registry.recall import RECALL_MARGIN

Cost = Literal["detection", "missed_defects", "false_rejects"]

CHANCE = 0.01
"""Of calling a loss one that is none; a drill asks of some seventy strengths."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How a version does on goods and defects, at its own threshold: shares, 0…1."""

    auroc: float
    fpr: float
    missed: float


def figures(good: NDArray[np.float64], defect: NDArray[np.float64], *, threshold: float) -> Figures:
    """AUROC, share of goods above the threshold, share of defects not above it; (n,) and (m,) scores.

    >>> figures(np.array([1.0, 2.0, 4.0, 1.0]), np.array([3.0, 5.0]), threshold=3.5)
    Figures(auroc=0.875, fpr=0.25, missed=0.5)
    """
    return Figures(auroc(good, defect), float((good > threshold).mean()), float((defect <= threshold).mean()))


def costs(
    *,
    good_before: NDArray[np.float64],
    good_after: NDArray[np.float64],
    defect_before: NDArray[np.float64],
    defect_after: NDArray[np.float64],
    threshold: float,
    seed: int,
) -> tuple[Cost, ...]:
    """What one version does worse after the change, by more than the gates' margins and more than chance.

    `detection`: AUROC fell by more than `DETECTION_MARGIN` (bootstrap over parts, one-sided at `CHANCE`).
    `missed_defects`, `false_rejects`: their share rose by more than `RECALL_MARGIN` (exact one-sided McNemar test).

    Args:
        good_before, good_after: (n,) scores of the same good parts in the same order.
        defect_before, defect_after: (m,) of the same defective ones.
        threshold: of the version.
        seed: of the bootstrap.
    """
    found: list[Cost] = []
    if auroc(good_before, defect_before) - auroc(good_after, defect_after) > DETECTION_MARGIN:
        rng = np.random.default_rng(seed)
        losses = np.empty(N_RESAMPLES)
        for index in range(N_RESAMPLES):
            g = rng.integers(0, good_before.size, good_before.size)
            d = rng.integers(0, defect_before.size, defect_before.size)
            losses[index] = auroc(good_before[g], defect_before[d]) - auroc(good_after[g], defect_after[d])
        if float(np.quantile(losses, CHANCE)) > 0.0:
            found.append("detection")
    if _rose(defect_before <= threshold, defect_after <= threshold):
        found.append("missed_defects")
    if _rose(good_before > threshold, good_after > threshold):
        found.append("false_rejects")
    return tuple(found)


def _rose(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Of the parts whose verdict changed, too many changed for the worse to be an accident."""
    worse, better = int((after & ~before).sum()), int((before & ~after).sum())
    rise = float(after.mean()) - float(before.mean())
    return rise > RECALL_MARGIN and float(binom.sf(worse - 1, worse + better, 0.5)) < CHANCE
