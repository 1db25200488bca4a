"""Which images of a night look suspicious to a judge that knows the new conditions, and how many defects it expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
EXCESS_FROM, EXCESS_TO = 0.80, 0.97
"""Ranks of the known goods beyond which the night's scores are counted: below, defects and goods are too much alike; above,
a handful of rare goods decides."""
SEEN_SHARE = 2.0 / 3.0
"""Of the defects lie so far out; on blurred tiles 0.6 to 0.7 of the real ones did."""
ROUNDS = 10


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

        A drifted night may be rejected whole: what is asked is who stands out among the night's own. Infinite for an
        empty night.
        """
        if not self.scores:
            return math.inf
        centre, spread = robust(np.array(list(self.scores.values())))
        usual_centre, usual_spread = robust(self.usual)
        return float(centre + (threshold - usual_centre) * spread / usual_spread)

    def defect_share(self) -> float:
        """What the judge expects of the night's share of defects, 0…1; rough: ± 0.03 for 300 images and 200 goods.

        The largest excess of the night's share beyond a rank of the known goods over theirs, the night brought back by
        the median of what is left when that excess is taken off its top; divided by `SEEN_SHARE`.
        """
        scores, usual = np.sort(list(self.scores.values())), np.sort(self.usual)
        n, m = scores.size, usual.size
        if n < 2 or m < 2:
            return 0.0
        limits = usual[int(EXCESS_FROM * m) : int(EXCESS_TO * m)] - np.median(usual)
        beyond_usual = 1.0 - np.searchsorted(usual - np.median(usual), limits, side="right") / m
        share = 0.0
        for _ in range(ROUNDS):
            centre = np.median(scores[: max(1, round(n * (1.0 - share)))])
            beyond = 1.0 - np.searchsorted(scores - centre, limits, side="right") / n
            found = max(0.0, float(((beyond - beyond_usual) / (1.0 - beyond_usual)).max(initial=0.0)))
            if round(found * n) == round(share * n):
                break
            share = found
        return min(share / SEEN_SHARE, 1.0)


def robust(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for; (n,), n ≥ 1."""
    centre = float(np.median(scores))
    spread = MAD_TO_SD * float(np.median(np.abs(scores - centre)))
    return centre, spread if spread > 0.0 else float(scores.std()) or 1.0
