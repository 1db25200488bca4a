"""How far the good bulk of a night has moved, by an estimate that a minority of defects cannot move.

The centre of a sample is the mean of its scores between the 5th and the 80th percentile: the lower part of a
detector's scores is where defects do not come. Of the night's sample the excess at the top is taken off first:
the share of scores beyond what the reference, moved and widened as the night's lower half is, would have there
(the one-sided mixture F_night = (1 - e) F_good + e G, with e the largest excess that is beyond chance, as Patra and
Sen 2016 estimate e). Where there is no excess, nothing is taken off, and the estimate is a plain trimmed mean:
85 to 150 % as efficient as the mean. Bias and variance: docs/statistics.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOWER, UPPER = 0.05, 0.80
"""Ranks that count towards the centre. 0.80 leaves room for 20 % of defects; a lower one is no less biased once the
excess is taken off, and less efficient on normal scores. 0.05 keeps single low scores out."""
EXCESS_FROM = 0.60
"""The excess is looked for above the reference's 60th percentile."""
EXCESS_Z = 3.0
"""Standard errors that are subtracted from the excess: with fewer, clean nights lose good scores (2: 3 % efficiency)."""
LARGEST_EXCESS = 0.30
"""More than this is no minority: it is then the bulk that moved."""
LOW_BLOCK, HIGH_BLOCK = (0.05, 0.20), (0.35, 0.50)
"""Ranks whose means' distance is the spread; both below the median, of equal width."""
SPREAD_Z = 2.0
"""A night's spread counts as changed beyond this many standard errors, and the farther beyond the more fully."""
IGNORANCE = 0.5
"""Half of what the excess moved the centre by is carried as a standard error: overlapping defects remain in the bulk."""
PRIOR_SCORES = 20.0
"""The reference's variance counts as much as this many scores of the night: a variance of a few is a guess."""
ROUNDS = 6
"""Taking off and centring again settles within three or four."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sorted sample and what its centre needs; `spread` is the distance between two low blocks of ranks."""

    ordered: NDArray[np.float64]
    total: NDArray[np.float64]
    centre: float
    unit_variance: float
    spread: float
    spread_variance: float
    """Relative, for the sample as a whole if it were independent."""

    @property
    def n(self) -> int:
        return len(self.ordered)


@dataclass(frozen=True, slots=True)
class BulkMove:
    """`shift` in score units; `unit_variance` is that of one independent score, `extra_variance` stays at any n."""

    shift: float
    unit_variance: float
    extra_variance: float
    excess: float
    """Share of the night's scores that was taken off at the top: a lower bound of the defects' share."""
    widening: float
    """Spread of the night's lower half over the reference's; 1 unless it is beyond chance."""
    influence: NDArray[np.float64]
    """(n,) in the order of capture: every score clipped to the ranks that count. Bounded, for the autocorrelation."""


def sample(scores: NDArray[np.float64]) -> Sample:
    """The sample of `scores` (n,), n >= 2."""
    ordered = np.sort(scores)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    spread = _mean(total, *_ranks(len(ordered), *HIGH_BLOCK)) - _mean(total, *_ranks(len(ordered), *LOW_BLOCK))
    clipped = np.clip(ordered, *_edges(ordered, *HIGH_BLOCK)) - np.clip(ordered, *_edges(ordered, *LOW_BLOCK))
    variance = float(clipped.var()) / len(ordered) / (LOW_BLOCK[1] - LOW_BLOCK[0]) ** 2
    return Sample(
        ordered=ordered,
        total=total,
        centre=_centre(total, len(ordered)),
        unit_variance=_unit_variance(ordered),
        spread=spread,
        spread_variance=variance / spread**2 if spread > 0.0 else math.inf,
    )


def clipped_to_bulk(scores: NDArray[np.float64], ranks: Sample) -> NDArray[np.float64]:
    """`scores` (n,) in their order, clipped to the ranks that count: up to a factor, their influence on the centre."""
    return np.clip(scores, *_edges(ranks.ordered, LOWER, UPPER))


def bulk_move(
    scores: NDArray[np.float64],
    night: Sample,
    reference: Sample,
    *,
    n_effective: float,
    largest_excess: float = LARGEST_EXCESS,
) -> BulkMove:
    """How far the bulk of `scores` (n,), n >= 2, in capture order, lies above the reference's; `night` is their sample.

    Undefined for more than 20 % of defects at the top: from `largest_excess` on, a share, they are the bulk.
    """
    n, m = night.n, reference.n
    inflation = n / max(n_effective, 1.0)
    widening = _widening(night, reference, inflation)
    start = math.ceil(EXCESS_FROM * m)
    beyond = reference.ordered[start:] - reference.centre
    share_reference = 1.0 - np.arange(start + 1, m + 1) / m
    margin = EXCESS_Z * np.sqrt(
        np.maximum(share_reference * (1.0 - share_reference), 1.0 / m) * (1.0 / max(n_effective, 1.0) + 1.0 / m)
    )
    # The lower half, which defects reach last, says where to begin.
    half = math.ceil(0.5 * n)
    centre = _mean(night.total, math.floor(LOWER * n), half) + widening * (
        reference.centre - _mean(reference.total, math.floor(LOWER * m), math.ceil(0.5 * m))
    )
    removed = -1
    for _ in range(ROUNDS):
        share_night = 1.0 - np.searchsorted(night.ordered, centre + widening * beyond, side="right") / n
        excess = (share_night - share_reference - margin) / (1.0 - share_reference)
        share = min(max(float(excess.max(initial=0.0)), 0.0), largest_excess)
        count = round(share * n)
        if count == removed:
            break
        removed = count
        centre = _centre(night.total, n - removed)
    kept = night.ordered[: n - removed]
    low, high = _edges(kept, LOWER, UPPER)
    unit_variance = (n * _unit_variance(kept) * n / len(kept) + PRIOR_SCORES * reference.unit_variance) / (
        n + PRIOR_SCORES
    )
    median = reference.ordered[m // 2]
    # A wider night has its low ranks lower although its middle has not moved.
    correction = (widening - 1.0) * (reference.centre - float(median))
    raw = night.centre - centre
    return BulkMove(
        shift=centre - reference.centre - correction,
        unit_variance=unit_variance,
        extra_variance=(IGNORANCE * raw) ** 2,
        excess=removed / n,
        widening=widening,
        influence=np.clip(scores, low, high),
    )


def _widening(night: Sample, reference: Sample, inflation: float) -> float:
    if not (night.spread > 0.0 and reference.spread > 0.0):
        return 1.0
    log_ratio = math.log(night.spread / reference.spread)
    error = math.sqrt(night.spread_variance * inflation + reference.spread_variance)
    believed = max(1.0 - (SPREAD_Z * error / log_ratio) ** 2, 0.0) if log_ratio else 0.0  # Breiman's garrote
    return math.exp(believed * log_ratio)


def _ranks(n: int, lower: float, upper: float) -> tuple[int, int]:
    start = math.floor(lower * n)
    return start, max(math.ceil(upper * n), start + 1)


def _edges(ordered: NDArray[np.float64], lower: float, upper: float) -> tuple[float, float]:
    start, stop = _ranks(len(ordered), lower, upper)
    return float(ordered[start]), float(ordered[stop - 1])


def _mean(total: NDArray[np.float64], start: int, stop: int) -> float:
    return float(total[stop] - total[start]) / (stop - start)


def _centre(total: NDArray[np.float64], n: int) -> float:
    return _mean(total, *_ranks(n, LOWER, UPPER))


def _unit_variance(ordered: NDArray[np.float64]) -> float:
    """Variance of the trimmed mean's influence function: of the scores clipped to the ranks that count."""
    clipped = np.clip(ordered, *_edges(ordered, LOWER, UPPER))
    return float(clipped.var()) * len(ordered) / max(len(ordered) - 1, 1) / (UPPER - LOWER) ** 2
