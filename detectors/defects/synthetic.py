"""A synthetic defect changes a good image in one place, and its mask says exactly where.

Synthetic defects choose between configurations where no real ones may be looked at, and watch the recall of a
challenger. They say which of two detectors sees more of what can happen to a surface; the AUROC they give is no
forecast of the AUROC on real defects, and should not be quoted as one.

The kinds are scratch, hole, transplant, stain, wear and chip: thin and sharp, compact, own texture in the wrong
place, broad and faint, missing texture, broken border. Sizes are shares of the image's side and strengths are
multiples of its own contrast, so that the same ranges serve a 100 px gray tile and a 16-bit colour photograph.

Sources: own texture in the wrong place is CutPaste (Li et al., CVPR 2021), faint stains by thresholded smooth
noise are DRAEM's (Zavrtanik et al., ICCV 2021), without its foreign texture images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from halfsigma import ImageError, UsageError

Image = NDArray[np.uint8] | NDArray[np.uint16]
Float = NDArray[np.float32]
Scalar = TypeVar("Scalar", np.float32, np.bool_)

SIZES = (0.03, 0.3)
"""Extent of a random defect as a share of the geometric mean side: from a pinhole to a third of the part."""
STRENGTHS = (0.5, 3.0)
"""Contrast of a random defect in standard deviations of its image: from hardly visible to obvious."""

# An image without any contrast still shows a defect of this share of white.
_LEAST_CONTRAST = 0.02
# A cover thinner than this is not visible, and is cut off so that the mask can be exact.
_LEAST_COVER = 0.05
# A scratch is this share of the side wide (drawn between the two), one pixel at least.
_SCRATCH_WIDTHS = (0.003, 0.01)
# Line segments of a scratch, and the sd of its turn at each joint: nearly straight to wandering like a crack.
_SCRATCH_JOINTS = 12
_SCRATCH_TURN_RAD = (0.02, 0.5)
# Sub-pixel bits of cv2's line drawing.
_SHIFT_BITS = 4
# Waves around a blob's outline; the amplitude of each falls with its number, as outlines of chips and stains do.
_OUTLINE_WAVES = 6
_OUTLINE_AMPLITUDE = 0.25
# Inside a hole or a chip this share of the part's own texture is lost.
_TEXTURE_LOST = 0.7
# Colours of a defect differ from gray by this much of its change, so that colour is used but not relied on.
_TINT_SD = 0.3


@dataclass(frozen=True, slots=True)
class SyntheticDefect:
    """A defective copy of a good image.

    Attributes:
        image: shape and dtype of the good image, which outside the mask it equals.
        mask: (H, W) bool; at least one pixel is True.
        kind: one of `KINDS`.
        size: extent as a share of the geometric mean side.
        strength: contrast in standard deviations of the good image.
    """

    image: Image
    mask: NDArray[np.bool_]
    kind: str
    size: float
    strength: float


@dataclass(frozen=True, slots=True)
class _Brush:
    """What a painter needs to know: extent in pixels, and the signed change of light, one value per channel."""

    size_px: float
    change: Float


Painter = Callable[[Float, _Brush, np.random.Generator], tuple[Float, Float]]
"""(light, brush, rng) → what lies in the defect's place, and its cover from 0 to 1, (H, W)."""


def add_defect(
    image: Image, rng: np.random.Generator, *, kind: str, size: float, strength: float, white_level: int | None = None
) -> SyntheticDefect:
    """A copy of `image` with one defect of the stated kind, size and strength at a random place.

    image: (H, W) or (H, W, 3) RGB, uint8 or uint16, any size from 1 x 1 pixel. `strength` is ignored by `wear`,
    which removes texture and changes no mean. `white_level` is the camera's for uint16, which may hold 10 or 12 bits; by default
    the largest of the type. A saturated place can swallow a change: the mask says where the
    defect lies, not that every pixel in it moved.

    >>> defect = add_defect(np.full((64, 64), 90, np.uint8), np.random.default_rng(0),
    ...                     kind="hole", size=0.2, strength=2.0)
    >>> bool((defect.image[~defect.mask] == 90).all()), bool((defect.image[defect.mask] != 90).any())
    (True, True)

    Raises `ImageError` for another shape or dtype, `UsageError` for an unknown kind or a size or strength that is
    not positive.
    """
    if (
        image.dtype not in (np.uint8, np.uint16)
        or image.size == 0
        or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    ):
        raise ImageError(
            f"found shape {image.shape} and type {image.dtype}, expected (H, W) or (H, W, 3) in uint8 or uint16",
            hint="read the image with detectors.photographs.images.read_photograph",
        )
    painter = KINDS.get(kind)
    if painter is None:
        raise UsageError(f"There is no kind of defect named {kind!r}.", hint=f"Choose one of: {', '.join(KINDS)}.")
    if not (0 < size <= 1 and strength > 0):
        raise UsageError(
            f"A defect cannot have the size {size!r} and the strength {strength!r}.",
            hint="Give a size from 0 to 1 (share of the side) and a strength above 0 (standard deviations).",
        )
    white = float(np.iinfo(image.dtype).max if white_level is None or image.dtype == np.uint8 else white_level)
    light = image.astype(np.float32) / np.float32(white)
    side = float(np.sqrt(light.shape[0] * light.shape[1]))
    brush = _Brush(max(1.0, size * side), _change(light, strength, rng))
    painted, cover = painter(light, brush, rng)
    cover = _visible(cover, rng)
    mask = cover > 0
    mixed = light + _per_pixel(cover, light) * (painted - light)
    values = np.rint(np.clip(mixed, 0.0, 1.0) * np.float32(white)).astype(image.dtype)
    return SyntheticDefect(np.where(_per_pixel(mask, light), values, image), mask, kind, float(size), float(strength))


def random_defect(
    image: Image, rng: np.random.Generator, *, kind: str | None = None, white_level: int | None = None
) -> SyntheticDefect:
    """A defect of a random kind (or of `kind`), its size and strength log-uniform in `SIZES` and `STRENGTHS`.

    >>> defect = random_defect(np.full((64, 64, 3), 90, np.uint8), np.random.default_rng(1))
    >>> defect.kind in KINDS, defect.image.shape
    (True, (64, 64, 3))
    """
    chosen = str(rng.choice(list(KINDS))) if kind is None else kind
    size, strength = (float(np.exp(rng.uniform(*np.log(limits)))) for limits in (SIZES, STRENGTHS))
    return add_defect(image, rng, kind=chosen, size=size, strength=strength, white_level=white_level)


def _scratch(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """A thin broken line as long as the brush, darker or brighter than its surroundings."""
    height, width = light.shape[:2]
    side = np.sqrt(height * width)
    turns = rng.normal(0.0, rng.uniform(*_SCRATCH_TURN_RAD), _SCRATCH_JOINTS)
    angles = rng.uniform(0.0, 2 * np.pi) + np.cumsum(turns)
    steps = brush.size_px / _SCRATCH_JOINTS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    path += _place(light, rng) - path.mean(axis=0)
    thickness = max(1, round(side * rng.uniform(*_SCRATCH_WIDTHS)))
    drawn = np.zeros((height, width), np.uint8)
    points = np.rint(path * 2**_SHIFT_BITS).astype(np.int32)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], False, 255, thickness, cv2.LINE_AA, _SHIFT_BITS)
    return light + brush.change, drawn.astype(np.float32) / np.float32(255)


def _hole(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """A compact blob that has lost most of its texture and is darker or brighter than its surroundings."""
    cover = _blob(light, _place(light, rng), brush.size_px / 2, softness_px=1.0, rng=rng)
    return _flattened(light, cover) + brush.change, cover


def _transplant(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """The part's own texture from another place, turned by a quarter or half, a little darker or brighter."""
    away = rng.uniform(0.25, 0.75, 2) * light.shape[1::-1]
    moved = np.roll(light, tuple(int(step) for step in away[::-1]), axis=(0, 1))
    turned = np.ascontiguousarray(np.rot90(moved, int(rng.integers(1, 4))))
    donor = turned if turned.shape == light.shape else cv2.resize(turned, light.shape[1::-1])
    cover = _blob(light, _place(light, rng), brush.size_px / 2, softness_px=1.5, rng=rng)
    return np.asarray(donor + brush.change / 4, np.float32), cover


def _stain(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """Islands of smooth noise inside a soft outline: broad, faint, the texture shining through."""
    radius = brush.size_px / 2
    outline = _blob(light, _place(light, rng), radius, softness_px=max(1.0, radius / 3), rng=rng)
    cells = max(2, min(64, round(3 * max(light.shape[:2]) / max(1.0, brush.size_px))))
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    islands = np.asarray(cv2.resize(coarse, light.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray(light + brush.change / 2, np.float32), np.asarray(
        outline / (1 + np.exp(-4 * islands)), np.float32
    )


def _wear(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """A blob whose texture is smeared out, as where a surface is worn, polished or out of shape."""
    sigma = max(1.0, brush.size_px / 10)
    smooth = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)
    return smooth, _blob(light, _place(light, rng), brush.size_px / 2, softness_px=2.0, rng=rng)


def _chip(light: Float, brush: _Brush, rng: np.random.Generator) -> tuple[Float, Float]:
    """A hole that reaches over one of the image's four borders, as where a corner or an edge has broken off."""
    last = np.array(light.shape[1::-1], np.float64) - 1
    centre = rng.uniform(0.0, 1.0, 2)
    centre[int(rng.integers(2))] = float(rng.integers(2))
    cover = _blob(light, centre * last, brush.size_px / 2, softness_px=1.0, rng=rng)
    return _flattened(light, cover) + brush.change, cover


KINDS: Mapping[str, Painter] = MappingProxyType(
    {
        "scratch": _scratch,
        "hole": _hole,
        "transplant": _transplant,
        "stain": _stain,
        "wear": _wear,
        "chip": _chip,
    }
)


GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sharp": ("scratch", "hole", "chip"),
        "textural": ("transplant", "wear"),
        "low-contrast": ("stain",),
    }
)
"""The kinds by what makes them visible: an edge, a texture in the wrong place or none, a faint change of light."""


def _change(light: Float, strength: float, rng: np.random.Generator) -> Float:
    """Darker or brighter by `strength` standard deviations, slightly tinted where there is colour."""
    contrast = max(float(light.std()), _LEAST_CONTRAST)
    # Towards the side with room: a defect must not vanish in black or white.
    room_above = 1.0 - float(light.mean())
    sign = 1.0 if rng.uniform() < room_above else -1.0
    tint = 1.0 + rng.normal(0.0, _TINT_SD, 3) if light.ndim == 3 else np.ones(1)
    return np.asarray(sign * strength * contrast * tint, np.float32)


def _place(light: Float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(x, y) of a random pixel."""
    return np.asarray(rng.uniform(0.0, 1.0, 2) * (np.array(light.shape[1::-1]) - 1), np.float64)


def _blob(
    light: Float,
    centre: NDArray[np.float64],
    radius_px: float,
    *,
    softness_px: float,
    rng: np.random.Generator,
) -> Float:
    """Cover of an irregular, stretched and turned disc, from 1 inside to 0 outside over `softness_px`."""
    height, width = light.shape[:2]
    x = np.arange(width)[None, :] - centre[0]
    y = np.arange(height)[:, None] - centre[1]
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.5, 0.5))
    along = (x * np.cos(turn) + y * np.sin(turn)) / stretch
    across = (-x * np.sin(turn) + y * np.cos(turn)) * stretch
    angle, distance = np.arctan2(across, along), np.hypot(along, across)
    outline = np.ones_like(angle)
    for wave in range(2, 2 + _OUTLINE_WAVES):
        amplitude, phase = rng.normal(0.0, _OUTLINE_AMPLITUDE / wave), rng.uniform(0, 2 * np.pi)
        outline += amplitude * np.cos(wave * angle + phase)
    inside = radius_px * np.maximum(outline, 0.2) - distance
    return np.asarray(np.clip(inside / softness_px + 0.5, 0.0, 1.0), np.float32)


def _flattened(light: Float, cover: Float) -> Float:
    """The image with most of its texture replaced by the mean under the cover."""
    weight = max(float(cover.sum()), 1e-6)
    mean = (_per_pixel(cover, light) * light).sum(axis=(0, 1)) / np.float32(weight)
    return np.asarray(light + np.float32(_TEXTURE_LOST) * (mean - light), np.float32)


def _visible(cover: Float, rng: np.random.Generator) -> Float:
    """The cover cut where it is too thin to see; one whole pixel if nothing was left, as on the smallest images."""
    kept = np.where(cover < _LEAST_COVER, np.float32(0), cover)
    if not kept.any():
        kept[tuple(int(rng.integers(side)) for side in kept.shape)] = 1.0
    return np.asarray(kept, np.float32)


def _per_pixel(plane: NDArray[Scalar], light: Float) -> NDArray[Scalar]:
    """(H, W) made to broadcast against (H, W) or (H, W, 3)."""
    return plane if light.ndim == 2 else plane[:, :, None]
