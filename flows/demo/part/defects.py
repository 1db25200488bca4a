"""Real-looking defects laid onto a photograph: scratch, hole, stain, chipped edge, foreign body.

Each is drawn with what makes the eye believe it: an irregular outline, a soft border, one side in light and
the other in shadow (light comes from the upper left, as on the demo's part), and the texture of the surface
beneath where it would be seen. Sizes follow the picture: a factor of 1 is a side of 256 px.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_DESIGN_SIDE_PX = 256
# Towards the light, as a unit step in (x, y) of the image.
_LIGHT_X, _LIGHT_Y = -0.63, -0.78
# What a defect covers, for the mask: any pixel it changes by more than this share of its full strength.
_MASK_LEVEL = 0.25


@dataclass(frozen=True, slots=True)
class Defective:
    """A picture with one defect: light (H, W, 3) or (H, W) in 0..1, the pixels it covers, and its kind."""

    light: Float
    mask: NDArray[np.bool_]
    kind: str


def add_defect(
    light: Float,
    where: Float,
    rng: np.random.Generator,
    *,
    kind: str,
    part: Float | None = None,
    size: float = 1.0,
) -> Defective:
    """One defect of the given kind at a place drawn by weight from `where`; the given picture is untouched.

    light: (H, W) or (H, W, 3) in 0..1; where: (H, W), 0 where no defect may start; part: (H, W), 0 where
    there is nothing to scratch, soak or break; size: a factor on what the picture's side asks for. A chipped
    edge starts at the rim of `where`; a foreign body may overhang.

    >>> plate = np.full((256, 256), 0.5, np.float32)
    >>> spoilt = add_defect(plate, np.ones_like(plate), np.random.default_rng(0), kind="hole")
    >>> bool(spoilt.mask.any()), spoilt.kind
    (True, 'hole')
    """
    colour = light if light.ndim == 3 else np.repeat(light[..., None], 3, axis=2)
    scale = size * min(light.shape[:2]) / _DESIGN_SIDE_PX
    x, y = _place(_edges(where) if kind == "chipped edge" and part is not None else where, rng)
    spoilt, cover = KINDS[kind](colour.copy(), _Spot(x, y, scale), rng)
    if part is not None and kind != "foreign body":
        inside = _blur((part > 0).astype(np.float32), 0.6)
        cover = cover * inside
        spoilt = colour + (spoilt - colour) * inside[..., None]
    spoilt = np.clip(spoilt, 0, 1).astype(np.float32)
    return Defective(spoilt if light.ndim == 3 else spoilt.mean(axis=2), cover > _MASK_LEVEL, kind)


@dataclass(frozen=True, slots=True)
class _Spot:
    x: float
    y: float
    size: float
    """Picture's side over 256 px."""


def _place(where: Float, rng: np.random.Generator) -> tuple[float, float]:
    weight = where.ravel().astype(np.float64)
    if weight.sum() <= 0:
        weight = np.ones_like(weight)
    y, x = divmod(int(rng.choice(weight.size, p=weight / weight.sum())), where.shape[1])
    return float(x), float(y)


def _edges(where: Float) -> Float:
    """The rim of the region, where something can break off."""
    inside = (where > 0).astype(np.uint8)
    rim = inside - cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(rim if rim.any() else inside, dtype=np.float32)


def _outline(
    shape: tuple[int, ...],
    spot: _Spot,
    rng: np.random.Generator,
    *,
    radius: float,
    rough: float,
    thin: float = 1,
) -> Float:
    """An irregular closed form, (H, W) in 0..1, smooth at its border; `thin` is its width over its length."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    reach = np.ones_like(angle)
    for wave in range(2, 11):
        reach += rough * rng.normal() / wave**0.9 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    reach = np.maximum(reach, 0.25) * radius * spot.size
    turn = rng.uniform(0, np.pi)
    u, v = reach * np.cos(angle), thin * reach * np.sin(angle)
    x = spot.x + u * np.cos(turn) - v * np.sin(turn)
    y = spot.y + u * np.sin(turn) + v * np.cos(turn)
    canvas = np.zeros(shape, np.uint8)
    points = np.rint(np.stack([x, y], axis=1) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / np.float32(255)


def _blur(field: Float, sigma: float) -> Float:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), max(sigma, 0.3)), dtype=np.float32)


def _relief(height: Float) -> Float:
    """How much more (+) or less (-) light a surface of this height gets than a flat one."""
    slope_y, slope_x = np.gradient(height)
    return np.asarray(-slope_x * _LIGHT_X - slope_y * _LIGHT_Y, dtype=np.float32)


def _moved(field: Float, dx: float, dy: float) -> Float:
    step = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    return np.asarray(cv2.warpAffine(field, step, field.shape[1::-1]), dtype=np.float32)


def _scratch(light: Float, spot: _Spot, rng: np.random.Generator) -> tuple[Float, Float]:
    """A bent groove of varying depth, bright where metal or binder is torn open, dark along one side."""
    shape = light.shape[:2]
    cover = np.zeros(shape, np.float32)
    heading = rng.uniform(0, 2 * np.pi)
    for companion in range(int(rng.integers(1, 3))):
        length = rng.uniform(34, 60) * spot.size * (1.0 if companion == 0 else 0.6)
        steps = int(max(length * 2, 8))
        bend = rng.normal(0, 0.7) / steps
        angle = heading + bend * np.arange(steps) + rng.normal(0, 0.02, steps).cumsum()
        x = spot.x + np.cumsum(np.cos(angle)) * 0.5 + companion * rng.normal(0, 3) * spot.size
        y = spot.y + np.cumsum(np.sin(angle)) * 0.5 + companion * rng.normal(0, 3) * spot.size
        # The tool bites, lifts and bites again.
        depth = np.interp(np.arange(steps), np.linspace(0, steps, 8), rng.uniform(0.45, 1.0, 8))
        depth *= np.minimum(1, 5 * np.minimum(np.arange(steps), steps - 1 - np.arange(steps)) / steps)
        line = np.zeros(shape, np.uint8)
        points = np.rint(np.stack([x, y], axis=1) * 16).astype(np.int32)
        width = max(1, round(1.6 * spot.size))
        for k in range(steps - 1):
            cv2.line(line, points[k], points[k + 1], int(255 * depth[k]), width, cv2.LINE_AA, 4)
        cover = np.maximum(cover, line.astype(np.float32) / 255 * (1.0 if companion == 0 else 0.6))
    burr = _moved(_blur(cover, 0.5 * spot.size), 0.9 * spot.size, 1.1 * spot.size)
    bright = 0.45 + 0.55 * float(light.mean())
    groove = cover[..., None]
    out = light * (1 - 0.35 * burr[..., None]) * (1 - 0.85 * groove) + groove * 0.85 * (bright + 0.35 * light)
    return out, np.maximum(cover, 0.5 * burr)


def _hole(light: Float, spot: _Spot, rng: np.random.Generator) -> tuple[Float, Float]:
    """A pore: dark inside, the near rim in shadow, the far rim catching the light."""
    form = _outline(light.shape[:2], spot, rng, radius=rng.uniform(4.4, 7.0), rough=0.16, thin=rng.uniform(0.65, 1))
    soft = _blur(form, 0.7 * spot.size)
    floor = 0.22 * light + 0.015
    far = np.clip(soft - _moved(soft, 1.3 * spot.size * _LIGHT_X, 1.3 * spot.size * _LIGHT_Y), 0, 1)
    rim = np.clip(_moved(soft, -0.9 * spot.size * _LIGHT_X, -0.9 * spot.size * _LIGHT_Y) - soft, 0, 1)
    inner = soft[..., None]
    out = light * (1 - inner) + inner * floor * (1 + 0.9 * far[..., None]) + 0.34 * rim[..., None] * (0.35 + light)
    return out, np.maximum(soft, rim)


def _stain(light: Float, spot: _Spot, rng: np.random.Generator) -> tuple[Float, Float]:
    """Oil or coolant soaked in: the texture shows through, darker and yellower, darkest at the drying rim."""
    form = _outline(light.shape[:2], spot, rng, radius=rng.uniform(9, 16), rough=0.2, thin=rng.uniform(0.6, 1))
    beside = rng.normal(0, 14, 2) * spot.size
    drop_spot = _Spot(spot.x + beside[0], spot.y + beside[1], spot.size)
    drop = _outline(light.shape[:2], drop_spot, rng, radius=rng.uniform(2.5, 4.5), rough=0.12)
    soft = _blur(np.maximum(form, drop), 1.0 * spot.size)
    rim = np.clip(soft - _blur(soft, 2.6 * spot.size), 0, 1) * 2.0
    density = np.clip(0.58 * soft + 0.40 * rim, 0, 0.85)[..., None]
    tint = np.array([0.50, 0.42, 0.30], np.float32)
    glint = 0.07 * np.clip(_relief(_blur(soft, 1.5 * spot.size)) * 8, 0, 1)[..., None]
    return light * (1 - density) + density * light * tint + glint, soft


def _chipped_edge(light: Float, spot: _Spot, rng: np.random.Generator) -> tuple[Float, Float]:
    """A piece broken away: a paler, rough break with a lit edge and what lies beneath in shadow."""
    form = _outline(light.shape[:2], spot, rng, radius=rng.uniform(8, 13), rough=0.24, thin=rng.uniform(0.6, 0.95))
    soft = _blur(form, 0.6 * spot.size)
    rough = _blur(rng.standard_normal(light.shape[:2]).astype(np.float32), 1.1 * spot.size)
    rough = rough / max(float(rough.std()), 1e-6)
    ground = _blur(light, 5.0 * spot.size).mean(axis=2)
    break_light = (0.55 * ground + 0.10) * (1 + 0.30 * rough)
    lip = np.clip(soft - _blur(soft, 1.6 * spot.size), 0, 1) * 1.6
    lit = np.clip(_relief(_blur(-soft, 0.8 * spot.size)) * 3, -0.5, 1)
    face = (break_light + 0.22 * np.clip(lit, 0, 1) - 0.10 * lip)[..., None] * np.array([1.04, 1.0, 0.95], np.float32)
    inner = soft[..., None]
    return light * (1 - inner) + inner * np.clip(face, 0.02, 1), soft


def _foreign_body(light: Float, spot: _Spot, rng: np.random.Generator) -> tuple[Float, Float]:
    """A curl of swarf or a crumb lying on the part, with a cast shadow and a highlight along its back."""
    shape = light.shape[:2]
    if rng.uniform() < 0.5:
        form = _outline(shape, spot, rng, radius=rng.uniform(4.5, 7.5), rough=0.18, thin=rng.uniform(0.5, 0.9))
        back = _blur(form, 1.8 * spot.size)
    else:
        steps = np.linspace(0, 1, 80)
        radius = rng.uniform(5, 9) * spot.size * (0.55 + 0.45 * steps)
        angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * steps * rng.uniform(3.2, 6.0)
        points = np.stack([spot.x + radius * np.cos(angle), spot.y + 0.75 * radius * np.sin(angle)], axis=1)
        canvas = np.zeros(shape, np.uint8)
        curl = np.rint(points * 16).astype(np.int32)
        cv2.polylines(canvas, [curl], False, 255, max(2, round(2.4 * spot.size)), cv2.LINE_AA, 4)
        form = canvas.astype(np.float32) / np.float32(255)
        back = _blur(form, 0.8 * spot.size)
    hue = np.array(_BODIES[int(rng.integers(len(_BODIES)))], np.float32)
    shade = _relief(back)
    shade = shade / max(float(np.abs(shade).max()), 1e-6)
    body = hue * np.clip(0.75 + 0.55 * shade, 0.05, 2)[..., None] + 0.45 * np.clip(shade - 0.55, 0, 1)[..., None]
    cast = np.zeros(shape, np.float32)
    for share in np.linspace(0.2, 1, 5):
        cast = np.maximum(cast, _moved(form, -_LIGHT_X * 4 * spot.size * share, -_LIGHT_Y * 4 * spot.size * share))
    shadow = 0.6 * _blur(cast, 1.1 * spot.size)[..., None]
    edge = _blur(form, 0.5 * spot.size)[..., None]
    return light * (1 - shadow) * (1 - edge) + edge * body, np.maximum(edge[..., 0], 0.4 * cast)


# Bare steel, brass, blue plastic, wood: what falls onto parts in a plant.
_BODIES = ((0.62, 0.64, 0.67), (0.72, 0.56, 0.28), (0.20, 0.34, 0.60), (0.62, 0.48, 0.32))

KINDS: Mapping[str, Callable[[Float, _Spot, np.random.Generator], tuple[Float, Float]]] = MappingProxyType(
    {
        "scratch": _scratch,
        "hole": _hole,
        "stain": _stain,
        "chipped edge": _chipped_edge,
        "foreign body": _foreign_body,
    }
)
