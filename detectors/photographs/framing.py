"""From a photograph of any size to the canvas that the backbone sees: one scale, no squashing, no padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

STRIDE_PX = 32
"""Sides of a canvas are multiples of the backbone's coarsest stride."""
SMALLEST_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class Framing:
    """The working resolution of a line.

    Every photograph is scaled so that its canvas has about ``side_px`` ** 2 pixels and its own aspect ratio, each side
    rounded to a multiple of `STRIDE_PX`. A line with one image size therefore has one canvas size; a line whose parts
    differ (the magnetic tiles run from 0.4 to 2.6) is neither squashed to a square nor padded with edges that no part
    has. What rounding distorts is at most `STRIDE_PX` / 2 pixels of a side.
    """

    side_px: int

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the canvas for a photograph of this size.

        >>> Framing(side_px=256).canvas_size(480, 640)
        (224, 288)
        """
        scale = self.side_px / math.sqrt(height * width)
        return _to_stride(height * scale), _to_stride(width * scale)

    def frame(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 → canvas (h', w', 3) uint8; area averaging where it shrinks, so that nothing aliases."""
        height, width = self.canvas_size(*image.shape[:2])
        if image.shape[:2] == (height, width):
            return image
        shrinks = height * width < image.shape[0] * image.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def native_side_px(sizes: Sequence[tuple[int, int]]) -> float:
    """Geometric mean side of the median photograph, from (height, width) pairs in pixels."""
    return float(np.median([math.sqrt(height * width) for height, width in sizes]))


def _to_stride(side: float) -> int:
    return max(SMALLEST_SIDE_PX, STRIDE_PX * round(side / STRIDE_PX))
