"""From a map of patch distances to an image's score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import ImageScore

TOP_SHARE = 0.05
"""docs/decisions/features-and-aggregation.md has the figures for the maximum, 2 % and 10 % beside it."""


def top_mean(anomaly_map: NDArray[np.float32], *, top_share: float) -> ImageScore:
    """The mean of the largest ``top_share`` of the map's values, of one value at least.

    >>> top_mean(np.array([[1, 2], [6, 4]], np.float32), top_share=0.5).score
    5.0
    """
    distances = anomaly_map.ravel()
    n_top = max(1, round(top_share * distances.size))
    top = np.partition(distances, distances.size - n_top)[distances.size - n_top :]
    return ImageScore(float(np.sort(top).mean(dtype=np.float64)), anomaly_map)
