"""Which images of a night look suspicious to a judge that knows the new conditions, and how many defects it expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.bulk import bulk_move, sample
from drift.tail import heavy_tail

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
SURE_P = 0.01
"""The judge's own estimate of the defect share counts when so much excess comes less often without any defect."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """Scores of a night by one judge, and of goods that it was not fitted on.

    Attributes:
        scores: SHA-256 → score of each readable candidate.
        usual: (m,) of known goods.
        judge: who judged, for people: ``the champion`` or ``drift transfer``.
    """

    scores: Mapping[str, float]
    usual: NDArray[np.float64]
    judge: str

    def limit(self, threshold: float) -> float:
        """Where `threshold`, on the scale of `usual`, lies tonight: the night brought back by median and MAD.

        A drifted night may be rejected whole, and a transferred good is only near a real one: what is asked is who stands
        out among the night's own. Infinite for an empty night.
        """
        if not self.scores:
            return math.inf
        centre, spread = robust(np.array(list(self.scores.values())))
        usual_centre, usual_spread = robust(self.usual)
        return float(centre + (threshold - usual_centre) * spread / usual_spread)

    def defect_share(self) -> float:
        """What the judge says of the night's share of defects: 0 where its high scores are no more than chance brings.

        As the nightly check does, with goods that know the conditions in the place of a reference that does not.
        """
        scores = np.array(list(self.scores.values()))
        if scores.size < 2:
            return 0.0
        usual = sample(self.usual)
        move = bulk_move(scores, sample(scores), usual, n_effective=float(scores.size))
        tail = heavy_tail(scores, usual.ordered, bulk_shift=move.shift, n_effective=float(scores.size))
        return tail.share if tail.p <= SURE_P else 0.0


def robust(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for; (n,), n ≥ 1."""
    centre = float(np.median(scores))
    spread = MAD_TO_SD * float(np.median(np.abs(scores - centre)))
    return centre, spread if spread > 0.0 else float(scores.std()) or 1.0
