"""Cheap measurements of every photograph, logged beside its score: they say *why* scores moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

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
)

TEMPLATE_PX = 128
"""Side of the square on which position is compared: phase correlation finds 1/10 px of it, 0.1 % of the part."""
MEASURED_SIDE_PX = 1024
"""Sharpness and noise are measured on the middle of larger images: pixel statistics need no more."""
MAX_ROTATION_DEG = 15.0
_LOG_POLAR_PX = 128
_TINY = 1e-12
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkær, "Fast noise variance estimation", 1996: blind to constant and linear structure."""


@dataclass(frozen=True, slots=True)
class PartTemplate:
    """The line's mean image, against which offset and rotation are measured."""

    mean_image: NDArray[np.float32]
    """(`TEMPLATE_PX`, `TEMPLATE_PX`), gray in 0…1."""
    _spectrum: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spectrum", _log_polar_spectrum(self.mean_image))

    @classmethod
    def of(cls, small_images: Sequence[NDArray[np.float32]]) -> PartTemplate:
        """The average of what `small_gray` made of the line's good images."""
        return cls(np.asarray(np.mean(np.stack(small_images), axis=0, dtype=np.float64), np.float32))


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
    the finest detail, 0…1 (Immerkær 1996). saturation: share of pixels at black or white. width, height: of the file,
    in pixels.

    Args:
        image: (height, width, 3) uint8.
        original_size: (height, width) of the file in pixels.
    """
    gray = _gray(image)
    middle = _middle(gray)
    laplacian = cv2.Laplacian(middle, cv2.CV_32F)
    finest = cv2.filter2D(middle, cv2.CV_32F, _NOISE_KERNEL)
    return {
        "brightness": float(gray.mean()),
        "contrast": float(gray.std()),
        "sharpness": float(np.log((float(laplacian.var()) + _TINY) / (float(middle.var()) + _TINY))),
        "noise": float(np.abs(finest).mean() * np.sqrt(np.pi / 2) / 6.0),
        "saturation": float(np.mean((image == 0) | (image == 255))),
        "width": float(original_size[1]),
        "height": float(original_size[0]),
    }


def measure_position(small: NDArray[np.float32], template: PartTemplate) -> dict[str, float]:
    """Where the part lies against the line's mean image.

    offset_x, offset_y: fraction of the width and height by which the part lies right of and below the template.
    rotation: degrees, counter-clockwise as seen, within ±`MAX_ROTATION_DEG`. All 0 where there is nothing to see.

    Args:
        small: what `small_gray` made of the photograph.
        template: the line's mean image.
    """
    offset_x, offset_y = _offset(small, template)
    return {"offset_x": offset_x, "offset_y": offset_y, "rotation": _rotation(small, template)}


def small_gray(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) uint8 → (`TEMPLATE_PX`, `TEMPLATE_PX`) gray in 0…1, stretched to the square."""
    small = cv2.resize(_gray(image), (TEMPLATE_PX, TEMPLATE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255.0)


def _middle(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = gray.shape
    top, left = max(0, (height - MEASURED_SIDE_PX) // 2), max(0, (width - MEASURED_SIDE_PX) // 2)
    return np.ascontiguousarray(gray[top : top + MEASURED_SIDE_PX, left : left + MEASURED_SIDE_PX])


def _window(height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)


_SQUARE_WINDOW = _window(TEMPLATE_PX, TEMPLATE_PX)
_POLAR_WINDOW = _window(_LOG_POLAR_PX, _LOG_POLAR_PX)


def _offset(small: NDArray[np.float32], template: PartTemplate) -> tuple[float, float]:
    if small.std() < 1e-4 or template.mean_image.std() < 1e-4:
        return 0.0, 0.0
    x, y = _displacement(template.mean_image, small, _SQUARE_WINDOW)
    return float(x) / TEMPLATE_PX, float(y) / TEMPLATE_PX


def _displacement(
    first: NDArray[np.float32], second: NDArray[np.float32], window: NDArray[np.float32]
) -> tuple[float, float]:
    """(x, y) by which ``second`` lies from ``first``, in pixels.

    OpenCV multiplies the images that it is given by the window in place: it gets copies, or every photograph would
    change the template for the next one.
    """
    (x, y), _ = cv2.phaseCorrelate(first.copy(), second.copy(), window)
    return x, y


def _log_polar_spectrum(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fourier–Mellin: a rotation of the image is a shift along the spectrum's angle (Reddy & Chatterji 1996)."""
    spectrum = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2((small - small.mean()) * _SQUARE_WINDOW))))
    middle = (TEMPLATE_PX / 2, TEMPLATE_PX / 2)
    polar = cv2.warpPolar(
        spectrum.astype(np.float32),
        (_LOG_POLAR_PX, _LOG_POLAR_PX * 2),
        middle,
        TEMPLATE_PX / 2,
        cv2.WARP_POLAR_LOG | cv2.INTER_LINEAR,
    )
    return np.ascontiguousarray(polar[:_LOG_POLAR_PX], np.float32)  # the spectrum repeats after half a turn


def _rotation(small: NDArray[np.float32], template: PartTemplate) -> float:
    if small.std() < 1e-4 or template.mean_image.std() < 1e-4:
        return 0.0
    _, y = _displacement(template._spectrum, _log_polar_spectrum(small), _POLAR_WINDOW)
    degrees = -float(y) * 180.0 / _LOG_POLAR_PX
    return float(np.clip(degrees, -MAX_ROTATION_DEG, MAX_ROTATION_DEG))
