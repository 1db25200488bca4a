"""Which of too many good images to keep: greedily those that differ most, in what they show and in the time of day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.patches.coreset import greedy_coreset

BLOCKS = 8
"""Side of the coarse picture that is compared: light, place and kind of the part are seen in it, a small defect hardly. A
greedy choice takes what is far from all others; it shall not go for the defects that nobody found."""
DAY_RADIUS = 1.0
"""Two images twelve hours apart are as far from each other as two that differ by twice the usual."""
_DAY_S = 86_400.0


def spread_out(
    small_images: Sequence[NDArray[np.float32]], captured_at: Sequence[datetime | None], n: int, *, seed: int
) -> NDArray[np.int64]:
    """Indices, ascending, of the `n` images that a greedy k-center over pictures and time of day keeps.

    Every image left out lies as near to one that is kept as twice the best choice of `n` could bring it (Gonzalez 1985).

    Args:
        small_images: gray, each (side, side).
        captured_at: of each; a time that is not known counts as midnight.
        n: at most as many as there are images.
        seed: of the first pick.
    """
    coarse = np.stack(
        [cv2.resize(each, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA).ravel() for each in small_images]
    )
    away = coarse - coarse.mean(axis=0)
    usual = math.sqrt(float((away**2).sum(axis=1).mean())) or 1.0
    points = np.concatenate([away / usual, DAY_RADIUS * _clock(captured_at)], axis=1)
    return np.sort(greedy_coreset(points.astype(np.float32), n, seed=seed))


def _clock(captured_at: Sequence[datetime | None]) -> NDArray[np.float64]:
    """(n, 2): a point on a circle that goes round once a day."""
    seconds = [0.0 if at is None else at.hour * 3600.0 + at.minute * 60.0 + at.second for at in captured_at]
    angle = 2.0 * math.pi * np.array(seconds) / _DAY_S
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
