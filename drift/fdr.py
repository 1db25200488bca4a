"""Benjamini-Hochberg over the lines of one night."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control


def q_values(p_values: Sequence[float]) -> list[float]:
    """The q of each p: the least false discovery rate at which its line would be named.

    >>> [round(q, 3) for q in q_values([0.01, 0.04, 0.5])]
    [0.03, 0.06, 0.5]
    """
    if not p_values:
        return []
    return [float(q) for q in false_discovery_control(np.asarray(p_values, dtype=np.float64), method="bh")]
