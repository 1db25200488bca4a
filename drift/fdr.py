"""Benjamini-Hochberg over the lines of one night."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control


def q_values(p_values: Sequence[float | None]) -> list[float]:
    """The q of each p: the least false discovery rate at which its line would be named.

    None is no test, as of a line that stood still: its q is 1, and it costs the others nothing.

    >>> [round(q, 3) for q in q_values([0.01, None, 0.04, 0.5])]
    [0.03, 1.0, 0.06, 0.5]
    """
    tested = [p for p in p_values if p is not None]
    found = iter(false_discovery_control(np.asarray(tested, dtype=np.float64), method="bh") if tested else ())
    return [1.0 if p is None else float(next(found)) for p in p_values]
