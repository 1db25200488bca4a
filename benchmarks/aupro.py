"""The area under the per-region overlap (Bergmann et al., CVPR 2020): how well maps show where a defect is."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MOST_FALSE_POSITIVES = 0.3
"""The curve is integrated up to this share of the good pixels, as the paper does."""
_THRESHOLDS = 400
SIDE_PX = 256


def aupro(maps: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]]) -> float:
    """0…1; each connected defect counts alike, however large it is.

    >>> mask = np.zeros((256, 256), bool)
    >>> mask[:64] = True
    >>> aupro(np.where(mask, 1.0, 0.0)[None], [mask]), round(aupro(np.where(mask, 0.0, 1.0)[None], [mask]), 2)
    (1.0, 0.0)

    Args:
        maps: (n, SIDE_PX, SIDE_PX), of defective images.
        masks: of any size, True on a defect; brought to the maps' size, where a defect keeps at least one pixel.
    """
    sized = np.stack([resized_mask(mask) for mask in masks])
    good = np.sort(maps[~sized].astype(np.float32))
    # thresholds by the share of good pixels above them
    shares = np.linspace(0.0, MOST_FALSE_POSITIVES, _THRESHOLDS)
    place = np.clip(len(good) - 1 - np.floor(shares * len(good)).astype(np.int64), 0, len(good) - 1)
    thresholds = good[place]
    overlaps = []
    for anomaly_map, mask in zip(maps, sized, strict=True):
        regions, n = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, n + 1):
            inside = np.sort(anomaly_map[regions == region].astype(np.float32))
            overlaps.append(1.0 - np.searchsorted(inside, thresholds, side="right") / len(inside))
    return float(np.trapezoid(np.mean(overlaps, axis=0), shares) / MOST_FALSE_POSITIVES)


def resized_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(SIDE_PX, SIDE_PX); a pixel is on the defect when a quarter of it is, so that cracks stay whole."""
    share = cv2.resize(mask.astype(np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= min(0.25, float(share.max())))
