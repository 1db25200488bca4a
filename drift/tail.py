"""Whether a night has more high scores than its shifted bulk explains, and what share of it they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

TAIL_SHARE = 0.05
"""Of the reference above the limit that is counted: high enough for defects, low enough for references of 60."""


@dataclass(frozen=True, slots=True)
class Tail:
    """`share` estimates the share of images beyond what goods explain; `p` that so many would occur without any."""

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
    """Counts scores (n,), moved back by `bulk_shift` (score units), beyond the reference's upper 5 %.

    Without defects the count above the reference's k-th highest score is beta-binomial, whatever the distribution:
    the reference's own error is in it. Under autocorrelation the count is scaled to the effective size.
    """
    n, m = len(scores), len(reference_sorted)
    k = max(round(TAIL_SHARE * m), 1)
    limit = reference_sorted[m - k] + bulk_shift
    beyond = int(np.count_nonzero(scores > limit))
    size = max(round(n_effective), 1)
    count = round(beyond * size / n) if n else 0
    p = float(betabinom.sf(count - 1, size, k, m - k + 1)) if n else 1.0
    expected = k / (m + 1)
    share = max((beyond / n - expected) / (1.0 - expected), 0.0) if n else 0.0
    return Tail(share=share, n_beyond=beyond, expected=expected * n, p=p)
