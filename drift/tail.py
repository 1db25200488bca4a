"""Whether a night has more high scores than its shifted bulk explains, and what share of it they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

LEVELS = (0.10, 0.05, 0.02, 0.0)
"""Shares of the reference above the limits that are counted, the last its highest score: a few far defects show above
the highest, many near ones above the 90th percentile."""
SHOWN_LEVEL = 0.05
"""The level whose counts are told to people."""


@dataclass(frozen=True, slots=True)
class Tail:
    """`share` estimates the share of images beyond what goods explain; `p` that so many would occur without any (1 where
    they are about as many as usual)."""

    share: float
    n_beyond: int
    expected: float
    p: float


def heavy_tail(
    scores: NDArray[np.float64],
    reference_sorted: NDArray[np.float64],
    *,
    bulk_shift: float,
    n_effective: float,
) -> Tail:
    """Counts scores (n,), moved back by `bulk_shift` (score units), beyond high scores of the reference.

    Without defects the count above the reference's k-th highest score is beta-binomial, whatever the distribution:
    the reference's own error is in it. Under autocorrelation the count is scaled to the effective size; the least p
    of the levels is corrected for their number (Bonferroni).
    """
    n, m = len(scores), len(reference_sorted)
    size = max(round(n_effective), 1)
    p, shown = 1.0, (0, 0.0)
    for level in LEVELS:
        k = max(round(level * m), 1)
        beyond = int(np.count_nonzero(scores > reference_sorted[m - k] + bulk_shift))
        count = math.floor(beyond * size / n)
        usual = size * k / (m + 1)
        if count > usual + math.sqrt(usual):  # fewer are no burst, and the exact p would cost most of the check's time
            p = min(p, len(LEVELS) * float(betabinom.sf(count - 1, size, k, m - k + 1)))
        if level == SHOWN_LEVEL:
            shown = (beyond, k / (m + 1))
    beyond, expected = shown
    return Tail(share=max((beyond / n - expected) / (1.0 - expected), 0.0), n_beyond=beyond, expected=expected * n, p=p)
