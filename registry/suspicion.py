"""Which images of a night look suspicious to a judge that knows the new conditions, and how many defects it expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import robust

EXCESS_FROM, EXCESS_TO = 0.80, 0.99
"""Ranks of the known goods beyond which the night's scores are counted: below, defects and goods are too much alike; above,
a handful of rare goods decides."""
SEEN_SHARE = 0.5
"""Of the defects lie so far out; of the real ones on tiles under six drifts 0.2 to 0.6 did, of gross ones nearly all do."""
LIKELY_Z, SURE_Z = 0.5, 2.0
"""Standard errors that are taken off each excess: the largest of many is too large by chance; and to be sure of it."""
FARTHEST_SD, WIDEST = 3.0, 2.5
"""A transfer that is near leaves the night's median about where that of its goods is, and its spread alike: on tiles 0.0 (gain) to
0.6 (slip), and 1.2 times as wide with 20 % of defects in it. On bricks, whose slips are told badly at times, up to 2.9 and 2.4 times: such a
judge still ranks defects far better than the champion. A wrong transfer: tens of standard deviations."""


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

    def fits(self) -> bool:
        """Whether the night's bulk is no stranger than the known goods: a judge to which all of a night looks strange judges nothing.

        It may look less strange: the known goods can be more diverse than one night's.
        """
        if not self.scores:
            return False
        usual_centre, usual_spread = robust(self.usual)
        centre, spread = robust(np.array(list(self.scores.values())))
        return centre - usual_centre <= FARTHEST_SD * usual_spread and spread <= WIDEST * usual_spread

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
        """What the judge expects of the night's share of defects, 0…1.

        Rough: docs/decisions/curation.md has what it said of real nights.
        """
        return min(self._excess(LIKELY_Z) / SEEN_SHARE, 1.0)

    def surely_defective(self) -> float:
        """The share of defects, 0…1, that the judge is sure of: what two standard errors do not explain."""
        return self._excess(SURE_Z)

    def _excess(self, z: float) -> float:
        """The largest excess of the night's share beyond a rank of the known goods over theirs, medians on each other."""
        scores, usual = np.sort(list(self.scores.values())), np.sort(self.usual)
        n, m = scores.size, usual.size
        if n < 2 or m < 2:
            return 0.0
        limits = usual[int(EXCESS_FROM * m) : int(EXCESS_TO * m)] - np.median(usual)
        expected = 1.0 - np.searchsorted(usual - np.median(usual), limits, side="right") / m
        found = 1.0 - np.searchsorted(scores - np.median(scores), limits, side="right") / n
        margin = z * np.sqrt(expected * (1.0 - expected) * (1.0 / n + 1.0 / m))
        return max(0.0, float(((found - expected - margin) / (1.0 - expected)).max(initial=0.0)))
