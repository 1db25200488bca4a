"""Where the part lies, and from where the light falls on it, against the line's mean image.

Two steps. *Coarse*: phase correlation against the mean image, and on log-polar spectra for the turn (Reddy & Chatterji
1996); it is believed only where undoing the move makes the photograph agree with the mean image much better, as it does
where the part has a shape. *Fine*: one Gauss–Newton step of Lucas & Kanade (1981), generalised least squares with the
good images' own variation as the noise (low rank plus diagonal), so that what varies from part to part anyway hardly
counts. Where parts are pure texture only the fine step speaks: it says little of one photograph, but it is linear, so
the mean over a night is as good as a registration of the night's mean image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

TEMPLATE_PX = 128
"""Side of the square on which position is compared: phase correlation finds 1/10 px of it, 0.1 % of the part."""
MAX_ROTATION_DEG = 15.0
MAX_OFFSET = 0.5
POSITION_NAMES = ("offset_x", "offset_y", "rotation", "scale", "gradient_x", "gradient_y")

FINE_PX = 64
_FINE_SIGMA = 1.0
_PRIOR_SD = (0.2, 0.2, 10.0, 0.2, 1.0, 1.0, 0.5, 1.0)
"""Of the positions and of two nuisances (level, gain): where the mean image shows nothing, nothing is said."""
_COMPONENTS = 16
_IMAGES_PER_COMPONENT = 10
"""Fewer components where images are few: they would fit the very images that the reference is measured on."""
_LEAST_PIXEL_SD = 0.01
_BELIEVED = 0.5
"""A coarse move counts where it takes this share of the disagreement away."""
_FLAT = 1e-4
_LOG_POLAR_PX = 128
MOST_VARIED = 1000
"""The decomposition of 5,000 images takes half a minute and 0.8 GB; sixteen components are told by a fraction of them."""


@dataclass(frozen=True, slots=True)
class PartTemplate:
    """The line's mean image, and the linear map from a photograph's difference to it onto `POSITION_NAMES`."""

    mean_image: NDArray[np.float32]
    """(`TEMPLATE_PX`, `TEMPLATE_PX`), gray in 0…1."""
    operator: NDArray[np.float32]
    """(len(`POSITION_NAMES`), `FINE_PX`²)."""
    _spectrum: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _fine_mean: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spectrum", _log_polar_spectrum(self.mean_image))
        object.__setattr__(self, "_fine_mean", _fine(self.mean_image))

    @classmethod
    def of(cls, small_images: Sequence[NDArray[np.float32]]) -> PartTemplate:
        """Learned from what `small_gray` made of the line's good images, at least one.

        The mean is of all; how they vary is told by at most `MOST_VARIED` of them, evenly among the rest.
        """
        total = np.zeros((TEMPLATE_PX, TEMPLATE_PX))
        for small in small_images:
            total += small
        varied = small_images[:: math.ceil(len(small_images) / MOST_VARIED)]
        mean = np.asarray(total / len(small_images), np.float32)
        return cls(mean, _position_operator(np.stack([_fine(small) for small in varied])))


def measure_position(small: NDArray[np.float32], template: PartTemplate) -> dict[str, float]:
    """The covariates of `POSITION_NAMES`, all 0 where there is nothing to see.

    offset_x, offset_y: fraction of the width and height by which the part lies right of and below the template.
    rotation: degrees, counter-clockwise as seen, within ±`MAX_ROTATION_DEG`. scale: by which share the part appears
    larger. gradient_x, gradient_y: by which share of its mean the light gains from the left to the right edge and from
    the top to the bottom.

    Args:
        small: what `small_gray` made of the photograph.
        template: the line's mean image.
    """
    if small.std() < _FLAT or template.mean_image.std() < _FLAT:
        return dict.fromkeys(POSITION_NAMES, 0.0)
    x, y, turn, aligned = _coarse(small, template)
    fine = template.operator @ (_fine(aligned) - template._fine_mean).ravel()
    measured = dict(zip(POSITION_NAMES, (float(value) for value in fine), strict=True))
    measured["offset_x"] = float(np.clip(measured["offset_x"] + x / TEMPLATE_PX, -MAX_OFFSET, MAX_OFFSET))
    measured["offset_y"] = float(np.clip(measured["offset_y"] + y / TEMPLATE_PX, -MAX_OFFSET, MAX_OFFSET))
    measured["rotation"] = float(np.clip(measured["rotation"] + turn, -MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    return measured


def small_gray(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) uint8 → (`TEMPLATE_PX`, `TEMPLATE_PX`) gray in 0…1, stretched to the square."""
    small = cv2.resize(gray_of(image), (TEMPLATE_PX, TEMPLATE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def gray_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) uint8 RGB → (height, width) gray in 0…1, weighed as the eye weighs colours (BT.601)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255.0)


def _fine(small: NDArray[np.float32]) -> NDArray[np.float32]:
    reduced = cv2.resize(small, (FINE_PX, FINE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(reduced, (0, 0), _FINE_SIGMA), np.float32)


def _position_operator(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """The generalised least squares map from (image − mean) onto the positions; `fine` is (n, FINE_PX, FINE_PX).

    With C = Vᵀ L V + D the good images' covariance and B the picture's derivatives by each position, the map is
    (B C⁻¹ Bᵀ + P⁻¹)⁻¹ B C⁻¹, C⁻¹ by Woodbury, P the prior variances.
    """
    n = len(fine)
    mean = fine.mean(axis=0, dtype=np.float64)
    derivatives = _derivatives(mean)
    spread = fine.reshape(n, -1) - mean.ravel()
    rank = min(_COMPONENTS, n // _IMAGES_PER_COMPONENT)
    # the largest eigenvectors of n² inner products: a fifth of the time that the singular values of all pixels take
    values, vectors = np.linalg.eigh(spread @ spread.T)
    largest = np.maximum(values[n - rank :], 1e-12)
    components, variances = (vectors[:, n - rank :] / np.sqrt(largest)).T @ spread, largest / n
    rest = (spread - (spread @ components.T) @ components).var(axis=0) + _LEAST_PIXEL_SD**2
    weighed = derivatives / rest
    if rank:
        inner = np.diag(1.0 / np.maximum(variances, 1e-12)) + (components / rest) @ components.T
        weighed -= (weighed @ components.T) @ np.linalg.solve(inner, components / rest)
    prior = np.diag(1.0 / np.square(_PRIOR_SD))
    operator = np.linalg.solve(weighed @ derivatives.T + prior, weighed)
    return np.asarray(operator[: len(POSITION_NAMES)], np.float32)


def _derivatives(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the mean image changes with each position, and with the nuisances level and gain: (8, FINE_PX²)."""
    x, y = np.meshgrid(*[(np.arange(FINE_PX) - (FINE_PX - 1) / 2) / FINE_PX] * 2)
    by_y, by_x = np.gradient(mean, 1.0 / FINE_PX)
    turn = (by_y * x - by_x * y) * np.pi / 180.0  # counter-clockwise as seen, y pointing down
    columns = (-by_x, -by_y, turn, -(by_x * x + by_y * y), x * mean, y * mean, np.ones_like(mean), mean - mean.mean())
    return np.stack([column.ravel() for column in columns])


def _coarse(small: NDArray[np.float32], template: PartTemplate) -> tuple[float, float, float, NDArray[np.float32]]:
    """(x, y) in px and the turn in degrees by which the part lies from the template, and the photograph moved back."""
    best = 0.0, 0.0, 0.0, small
    least = _BELIEVED * _disagreement(small, template.mean_image)
    _, angle = _displacement(template._spectrum, _log_polar_spectrum(small), _POLAR_WINDOW)
    found = float(np.clip(-angle * 180.0 / _LOG_POLAR_PX, -MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    for turn in (0.0, found):
        turned = _moved_back(small, 0.0, 0.0, turn)
        x, y = _displacement(template.mean_image, turned, _SQUARE_WINDOW)
        aligned = _moved_back(turned, x, y, 0.0)
        disagreement = _disagreement(aligned, template.mean_image)
        if disagreement < least:
            best, least = (x, y, turn, aligned), _BELIEVED * disagreement
    return best


def _disagreement(small: NDArray[np.float32], mean: NDArray[np.float32]) -> float:
    """1 − the correlation of the middles, which a move does not bring the border into."""
    edge = TEMPLATE_PX // 8
    first, second = small[edge:-edge, edge:-edge], mean[edge:-edge, edge:-edge]
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1.0 - float(np.vdot(first, second)) / scale if scale > 0.0 else 1.0


def _moved_back(small: NDArray[np.float32], x: float, y: float, turn: float) -> NDArray[np.float32]:
    if x == y == turn == 0.0:
        return small
    middle = (TEMPLATE_PX - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), -turn, 1.0)
    matrix[:, 2] -= (x, y)
    moved = cv2.warpAffine(small, matrix, (TEMPLATE_PX, TEMPLATE_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _window(height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)


_SQUARE_WINDOW = _window(TEMPLATE_PX, TEMPLATE_PX)
_POLAR_WINDOW = _window(_LOG_POLAR_PX, _LOG_POLAR_PX)


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
