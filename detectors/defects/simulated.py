"""Simulated anomalies for DRAEM: a strange texture under a mask of Perlin noise, exact to the pixel.

Zavrtanik et al., ICCV 2021, section 3.3. The paper takes its textures from a collection of photographs (DTD), which is
not shipped here: they are the line's own images, from another place, turned and with another light and contrast, and
noise made on the spot. These anomalies teach a network; they have nothing in common with `detectors.defects.synthetic`, whose
defects judge challengers, so that no detector is examined on what it was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

ANOMALY_SHARE = 0.5
"""Of the training images have an anomaly."""
MASK_LEVEL = 0.5
"""Perlin noise above it is mask."""
CELLS_LOG2 = (0, 5)
"""A mask's noise has 2 to the power of these cells on a side: from half the image to specks."""
OPACITY = (0.1, 1.0)
"""β: how much of the image the texture replaces."""
_OWN_TEXTURE_SHARE = 0.5
"""Of the textures are the line's own."""
_CONTRASTS = (0.5, 2.0)
_LIGHTS = (-0.3, 0.3)
"""Of a texture of the line's own, against the original, on a scale of 0…1."""
_OCTAVES = 3
_TRIES = 10
"""To draw a mask that is not empty."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A training example.

    Attributes:
        image: (h, w, 3) float32, 0…1, with or without an anomaly.
        mask: (h, w) float32, 1 where it is anomalous.
    """

    image: Float
    mask: Float


def simulate(image: Float, others: Sequence[Float], rng: np.random.Generator) -> Simulated:
    """The image, in half of the cases with an anomaly, as `spoil` makes it.

    Args:
        image: (h, w, 3) float32, 0…1.
        others: as `spoil` takes them.
        rng: draws everything.
    """
    if rng.uniform() >= ANOMALY_SHARE:
        return Simulated(image, np.zeros(image.shape[:2], np.float32))
    return spoil(image, others, rng)


def spoil(image: Float, others: Sequence[Float], rng: np.random.Generator) -> Simulated:
    """The image with an anomaly: I_a = (1 - M) I + M ((1 - β) I + β A).

    >>> plain = np.full((64, 64, 3), 0.5, np.float32)
    >>> found = spoil(plain, [plain], np.random.default_rng(3))
    >>> bool((found.image[found.mask == 0] == 0.5).all()), found.image.shape
    (True, (64, 64, 3))

    Args:
        image: (h, w, 3) float32, 0…1.
        others: images of the line, of the same shape, from which textures are taken; the image itself may be one.
        rng: draws everything.
    """
    size = (image.shape[0], image.shape[1])
    mask = perlin_mask(size, rng)
    own = rng.uniform() < _OWN_TEXTURE_SHARE
    texture = _own_texture(others[int(rng.integers(len(others)))], rng) if own else _made_texture(size, rng)
    opacity = np.float32(rng.uniform(*OPACITY))
    cover = mask[:, :, None]
    return Simulated(np.asarray(image + cover * opacity * (texture - image), np.float32), mask)


def perlin_mask(size: tuple[int, int], rng: np.random.Generator) -> Float:
    """(h, w) of 0 and 1: Perlin noise of a random scale in each direction, turned by a random angle, over its level."""
    for _ in range(_TRIES):
        cells = tuple(2 ** int(rng.integers(*CELLS_LOG2, endpoint=True)) for _ in size)
        noise = perlin_noise(size, (cells[0], cells[1]), rng)
        turn = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), float(rng.uniform(-90.0, 90.0)), 1.0)
        turned = cv2.warpAffine(noise, turn, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        mask = np.asarray(turned > MASK_LEVEL, np.float32)
        if mask.any():
            return mask
    return np.asarray(cv2.circle(np.zeros(size, np.float32), (size[1] // 2, size[0] // 2), max(size) // 8, 1.0, -1))


def perlin_noise(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Float:
    """Perlin's gradient noise (1985, 2002), (h, w), about -1…1, 0 on the corners of its ``cells``.

    Args:
        size: (h, w).
        cells: of the lattice, down and across.
        rng: draws the gradients.
    """
    angles = rng.uniform(0.0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradient_y, gradient_x = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
    y = (np.arange(size[0], dtype=np.float32) * np.float32(cells[0] / size[0]))[:, None]
    x = (np.arange(size[1], dtype=np.float32) * np.float32(cells[1] / size[1]))[None, :]
    row, column = y.astype(np.int64), x.astype(np.int64)
    inside_y, inside_x = y - row, x - column

    def corner(down: int, right: int) -> Float:
        at = (row + down, column + right)
        return np.asarray(gradient_y[at] * (inside_y - down) + gradient_x[at] * (inside_x - right), np.float32)

    fade_y, fade_x = (t * t * t * (t * (t * 6 - 15) + 10) for t in (inside_y, inside_x))
    above = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    below = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.asarray(np.sqrt(np.float32(2.0)) * (above + fade_y * (below - above)), np.float32)


def _own_texture(other: Float, rng: np.random.Generator) -> Float:
    """Another place of the line's own images, turned or mirrored, in another light."""
    height, width = other.shape[:2]
    moved = np.roll(other, (int(rng.integers(height)), int(rng.integers(width))), axis=(0, 1))
    turned = np.ascontiguousarray(np.rot90(moved, int(rng.integers(4))))
    if turned.shape != other.shape:
        turned = np.asarray(cv2.resize(turned, (width, height)), np.float32)
    mean = turned.mean(axis=(0, 1))
    contrast = np.exp(rng.uniform(*np.log(_CONTRASTS))) * rng.choice([-1.0, 1.0], p=[0.2, 0.8])
    changed = mean + np.float32(contrast) * (turned - mean) + np.float32(rng.uniform(*_LIGHTS))
    return np.asarray(np.clip(changed, 0.0, 1.0), np.float32)


def _made_texture(size: tuple[int, int], rng: np.random.Generator) -> Float:
    """Perlin noise of several octaves between two random colours, one of them often gray."""
    first = rng.integers(*CELLS_LOG2)
    field = np.zeros(size, np.float32)
    for octave in range(_OCTAVES):
        cells = tuple(min(2 ** int(first + octave), side) for side in size)
        field += perlin_noise(size, (cells[0], cells[1]), rng) / np.float32(2**octave)
    share = np.clip(0.5 + field / 2, 0.0, 1.0)[:, :, None]
    gray, tint = rng.uniform(0.0, 1.0, (2, 1)), rng.normal(0.0, 0.1, (2, 3)) * (rng.uniform() < 0.5)
    dark, light = np.clip(gray + tint, 0.0, 1.0).astype(np.float32)
    return np.asarray(dark + share * (light - dark), np.float32)
