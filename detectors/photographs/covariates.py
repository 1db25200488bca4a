"""Cheap measurements of every photograph, logged beside its score: they say *why* scores moved."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.photographs.position import PartTemplate, gray_of, measure_position, small_gray

COVARIATE_NAMES = (
    "brightness",
    "contrast",
    "sharpness",
    "noise",
    "offset_x",
    "offset_y",
    "rotation",
    "saturation",
    "width",
    "height",
    "scale",
    "gradient_x",
    "gradient_y",
    "warmth",
    "speckle",
    "grain_direction",
)

MEASURED_SIDE_PX = 1024
"""Sharpness and noise are measured on the middle of larger images: pixel statistics need no more."""
_TINY = 1e-12
_FAINT = 1e-5
"""Added where detail is divided by detail: far below one grey level."""
_DARK = 0.02
"""Added to red and blue before their ratio is taken: the colour of black is noise."""
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkær, "Fast noise variance estimation", 1996: blind to constant and linear structure."""


def measure_covariates(
    image: NDArray[np.uint8], *, template: PartTemplate, original_size: tuple[int, int]
) -> dict[str, float]:
    """Every covariate of `COVARIATE_NAMES` for one image: `measure_appearance` and `measure_position` together."""
    measured = measure_appearance(image, original_size=original_size) | measure_position(small_gray(image), template)
    return {name: measured[name] for name in COVARIATE_NAMES}


def measure_appearance(image: NDArray[np.uint8], *, original_size: tuple[int, int]) -> dict[str, float]:
    """What one photograph looks like, whatever the others look like.

    brightness: mean gray, 0…1. contrast: standard deviation of gray, 0…1. sharpness: natural logarithm of the
    Laplacian's variance over the gray's variance, so that neither lamp nor gain moves it. noise: standard deviation of
    the finest detail, 0…1 (Immerkær 1996). speckle: natural logarithm of that detail's root mean square over its mean
    magnitude: 0.23 for Gaussian noise, more where single pixels stand out. grain_direction: natural logarithm of the
    detail across the columns over that across the rows, 0 where neither is smeared. warmth: natural logarithm of red
    over blue, 0 for a gray image. saturation: share of pixels at black or white. width, height: of the file, in pixels.

    Args:
        image: (height, width, 3) uint8.
        original_size: (height, width) of the file in pixels.
    """
    gray = gray_of(image)
    middle = _middle(gray)
    laplacian = cv2.Laplacian(middle, cv2.CV_32F)
    finest = cv2.filter2D(middle, cv2.CV_32F, _NOISE_KERNEL)
    across, down = cv2.absdiff(middle[:, 1:], middle[:, :-1]), cv2.absdiff(middle[1:], middle[:-1])
    magnitude = float(np.abs(finest).mean())
    red, _, blue, _ = cv2.mean(image)
    return {
        "brightness": float(gray.mean()),
        "contrast": float(gray.std()),
        "sharpness": float(np.log((float(laplacian.var()) + _TINY) / (float(middle.var()) + _TINY))),
        "noise": magnitude * float(np.sqrt(np.pi / 2)) / 6.0,
        "speckle": float(np.log((float(np.sqrt(np.square(finest).mean())) + _FAINT) / (magnitude + _FAINT))),
        "grain_direction": float(np.log((float(across.mean()) + _FAINT) / (float(down.mean()) + _FAINT))),
        "warmth": float(np.log((red / 255.0 + _DARK) / (blue / 255.0 + _DARK))),
        "saturation": float(np.mean((image == 0) | (image == 255))),
        "width": float(original_size[1]),
        "height": float(original_size[0]),
    }


def _middle(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = gray.shape
    top, left = max(0, (height - MEASURED_SIDE_PX) // 2), max(0, (width - MEASURED_SIDE_PX) // 2)
    return np.ascontiguousarray(gray[top : top + MEASURED_SIDE_PX, left : left + MEASURED_SIDE_PX])
