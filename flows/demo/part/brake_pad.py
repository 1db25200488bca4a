"""A brake pad before the camera, made of the photographs of gravel and grass that scikit-image ships.

The friction lining is a photograph of gravel, shrunk until its stones are the grains of a friction material;
the steel back plate is a photograph of grass, drawn out along one direction until it is the grain of brushed
steel; the fixture is a photograph of the moon's surface, darkened. Form, chamfers, drilled holes, light and
shadow are computed once from a height map; every photograph of a part takes new places of the textures, a new
position within the fixture's play, a little of the lamp's unsteadiness and the sensor's noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from halfsigma import ImageError

Float = NDArray[np.float32]

SIDE_PX = 256
"""What the camera delivers."""
MARGIN_PX = 32
"""Rendered around it, so that a slipped fixture shows more of the scene and not a repeated edge."""
CANVAS_PX = SIDE_PX + 2 * MARGIN_PX
_FINE = 4  # forms are drawn this much finer and averaged down: smooth edges
_ZOOM = 1.14  # forms are given for 1.0; this fills the picture
_QUILT_PX = 1024
_TILE_PX = 128
# Variance of the sensor's noise in shares of white: constant, and growing with the light (EMVA 1288).
_READ_NOISE = 1.1e-5
_SHOT_NOISE = 7.2e-5


@dataclass(frozen=True, slots=True)
class Photograph:
    """One picture before the sensor: light (H, W, 3), white at 1, and which pixels are lining or steel."""

    light: Float
    lining: Float
    steel: Float


class BrakePad:
    """Renders photographs of one kind of brake pad; the same seed of the textures gives the same station.

    >>> pad = BrakePad(seed=0)
    >>> pad.photograph(np.random.default_rng(1)).light.shape
    (320, 320, 3)
    """

    def __init__(self, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._gravel = _quilt(_shipped("gravel.png"), shrink=3.6, rng=rng)
        self._brushed = _brushed(_quilt(_shipped("grass.png"), shrink=1.6, rng=rng))
        self._forms = _forms()
        self._light = _static_light(self._forms)
        self._fixture = _fixture(rng)

    def photograph(self, rng: np.random.Generator) -> Photograph:
        """A good part, as it happens to lie and to be lit this time."""
        forms, shade = self._forms, self._light
        grain = _crop(self._gravel, rng)
        brushed = _crop(self._brushed, rng)

        # Lining: dark, grainy, with the brightest grains as metal fibres of brass and copper.
        depth = np.clip(0.5 + 0.17 * grain, 0, 1)
        lining = (0.20 + 0.21 * depth)[..., None] * np.array([1.0, 0.965, 0.92], np.float32)
        flecks = np.clip((grain - 1.75) * 1.6, 0, 1)[..., None]
        lining = lining * (1 - flecks) + flecks * np.array([0.76, 0.60, 0.42], np.float32)
        lining *= _tint(rng, brightness_sd=0.02, hue_sd=0.006)
        lining += (shade.print_ink * np.clip(0.78 + 0.10 * grain, 0.35, 0.95))[..., None] * (0.80 - lining)

        steel = (0.56 + 0.055 * brushed)[..., None] * np.array([0.97, 1.0, 1.03], np.float32)
        steel *= _tint(rng, brightness_sd=0.015, hue_sd=0.004)

        part = steel * shade.steel[..., None] + shade.steel_gloss[..., None] * (0.85 + 0.25 * brushed[..., None])
        over = forms.lining[..., None]
        part = part * (1 - over) + over * (lining * shade.lining[..., None] + shade.lining_gloss[..., None])
        part = np.ascontiguousarray(part.astype(np.float32))

        # The part lies a little differently in its nest every time; its shadow goes with it.
        play = cv2.getRotationMatrix2D((CANVAS_PX / 2, CANVAS_PX / 2), float(rng.normal(0, 0.30)), 1.0)
        play[:, 2] = play[:, 2] + rng.normal(0, 0.8, 2)
        part = _moved(part, play)
        forms_moved = np.clip(_moved(np.dstack([forms.part, shade.shadow, forms.lining]), play), 0, 1)
        inside, shadow, covered = (forms_moved[..., k] for k in range(3))
        picture = self._fixture * (1 - 0.75 * shadow[..., None])
        picture = picture * (1 - inside[..., None]) + inside[..., None] * part
        picture *= _lamp(rng)[..., None]
        return Photograph(picture, covered, np.clip(inside - covered, 0, 1))


def _lamp(rng: np.random.Generator) -> Float:
    """A ring light with a soft centre, never twice exactly as bright and in the same place: (H, W)."""
    axis = np.linspace(-1, 1, CANVAS_PX, dtype=np.float32)
    x, y = rng.normal(-0.12, 0.02), rng.normal(-0.15, 0.02)
    distance = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2
    return np.asarray((1.12 - 0.26 * distance) * (1 + rng.normal(0, 0.025)), dtype=np.float32)


def _tint(rng: np.random.Generator, *, brightness_sd: float, hue_sd: float) -> Float:
    """No two batches of a material are quite the same: (3,)."""
    return np.asarray(1 + rng.normal(0, brightness_sd) + rng.normal(0, hue_sd, 3), dtype=np.float32)


def expose(light: Float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light as the camera delivers it: shot and read noise, eight bits."""
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    noise *= np.sqrt(_READ_NOISE + _SHOT_NOISE * np.clip(light, 0, 1))
    return np.asarray(np.rint(np.clip(light + noise, 0, 1) * 255), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class _Forms:
    """Where what is, each (H, W) in 0..1 with smooth edges, and the fine height map in canvas pixels."""

    part: Float
    lining: Float
    height: Float


@dataclass(frozen=True, slots=True)
class _Light:
    steel: Float
    steel_gloss: Float
    lining: Float
    lining_gloss: Float
    shadow: Float
    print_ink: Float


def _shipped(name: Literal["gravel.png", "grass.png", "moon.png"]) -> Float:
    """A photograph inside scikit-image's own package, which needs no download, as standardised gray."""
    data = np.frombuffer(files("skimage").joinpath("data", name).read_bytes(), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ImageError(f"scikit-image's photograph {name} cannot be read", hint="install scikit-image again")
    gray = decoded.astype(np.float32)
    return np.asarray((gray - gray.mean()) / gray.std(), dtype=np.float32)


def _quilt(photo: Float, *, shrink: float, rng: np.random.Generator) -> Float:
    """A large field of the photograph's texture: overlapping tiles, blended so that the variance stays.

    Dividing by the root of the summed squared weights keeps the contrast where tiles overlap (Heitz and
    Neyret, "High-performance by-example noise using a histogram-preserving blending operator", 2018).
    """
    small = cv2.resize(photo, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    small = (small - cv2.GaussianBlur(small, (0, 0), 12)).astype(np.float32)
    tile = min(_TILE_PX, *small.shape)
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile).astype(np.float32)
    weight = np.outer(window, window)
    total = np.zeros((_QUILT_PX + tile, _QUILT_PX + tile), np.float32)
    power = np.full_like(total, 1e-6)
    for top in range(0, _QUILT_PX, tile // 2):
        for left in range(0, _QUILT_PX, tile // 2):
            row, column = (int(rng.integers(0, size - tile + 1)) for size in small.shape)
            piece = small[row : row + tile, column : column + tile]
            piece = piece[:, ::-1] if rng.uniform() < 0.5 else piece
            total[top : top + tile, left : left + tile] += weight * piece
            power[top : top + tile, left : left + tile] += weight**2
    whole = slice(tile // 2, tile // 2 + _QUILT_PX - tile)  # where four tiles overlap
    field = (total / np.sqrt(power))[whole, whole]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _brushed(field: Float) -> Float:
    """Drawn out along the rows: the grain that a brush or a belt leaves on steel."""
    long = cv2.blur(field, (61, 1), borderType=cv2.BORDER_REFLECT)
    short = cv2.blur(field, (17, 1), borderType=cv2.BORDER_REFLECT)
    grain = long / long.std() + 0.5 * short / short.std()
    return np.asarray(grain / grain.std(), dtype=np.float32)


def _moved(layers: Float, play: NDArray[Any]) -> Float:
    size = (CANVAS_PX, CANVAS_PX)
    moved = cv2.warpAffine(layers, play, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def _crop(field: Float, rng: np.random.Generator) -> Float:
    """A new place of the field, perhaps mirrored: (CANVAS_PX, CANVAS_PX)."""
    row, column = (int(rng.integers(0, size - CANVAS_PX + 1)) for size in field.shape)
    piece = field[row : row + CANVAS_PX, column : column + CANVAS_PX]
    return piece[:, ::-1] if rng.uniform() < 0.5 else piece


def _forms() -> _Forms:
    """The pad from above: a curved plate with an ear and a hole at each end, and a slotted lining on it."""
    n = CANVAS_PX * _FINE
    y, x = np.mgrid[0:n, 0:n].astype(np.float32) / _FINE
    x, y = (x - CANVAS_PX / 2) / _ZOOM, (y - CANVAS_PX / 2) / _ZOOM
    # The pad is a piece of a ring about a centre far below the picture.
    radius = np.hypot(x, y - 165.0)
    along = np.arctan2(x, -(y - 165.0)) * 165.0  # arc length in px, 0 in the middle
    plate = _rounded(along, radius - 160.0, half=(86.0, 46.0), corner=10.0)
    ear = np.minimum(
        _rounded(along - 92.0, radius - 146.0, half=(19.0, 17.0), corner=9.0),
        _rounded(along + 92.0, radius - 146.0, half=(19.0, 17.0), corner=9.0),
    )
    body = np.minimum(plate, ear)
    for side in (-1, 1):
        hole = np.hypot(along - side * 98.0, radius - 146.0) - 6.5
        body = np.maximum(body, -hole)
    lining = _rounded(along, radius - 160.0, half=(74.0, 36.0), corner=7.0)
    lining = np.maximum(lining, 3.2 - np.abs(along))  # the slot that parts the lining in two
    # Height in px: the plate's rounded rim, and on it the lining with broad chamfers at its ends.
    rim = np.clip(-body / 1.8, 0, 1)
    chamfer = np.clip((74.0 - np.abs(along)) / 13.0, 0, 1)
    pad = np.clip(-lining / 1.5, 0, 1) * (5.0 + 7.0 * chamfer)
    height = 5.0 * np.sqrt(rim) + pad
    return _Forms(part=_average(_filled(body)), lining=_average(_filled(lining)), height=height.astype(np.float32))


def _rounded(x: Float, y: Float, *, half: tuple[float, float], corner: float) -> Float:
    """Signed distance to a rectangle with round corners, negative inside."""
    dx, dy = np.abs(x) - half[0] + corner, np.abs(y) - half[1] + corner
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - corner, dtype=np.float32)


def _filled(distance: Float) -> Float:
    return np.asarray(np.clip(0.5 - distance * _ZOOM * _FINE, 0, 1), dtype=np.float32)


def _unit(eight_bit: NDArray[np.generic]) -> Float:
    return np.asarray(eight_bit, dtype=np.float32) / np.float32(255)


def _average(fine: Float) -> Float:
    return np.asarray(cv2.resize(fine, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _static_light(forms: _Forms) -> _Light:
    """Lambert and gloss of the height map under light from the upper left, with its shadow and crevices."""
    smooth = cv2.GaussianBlur(forms.height, (0, 0), 0.55 * _FINE)
    slope_y, slope_x = np.gradient(smooth, 1.0 / _FINE)
    toward = np.array([-0.50, -0.62, 0.61])
    normal_z = 1.0 / np.sqrt(1 + slope_x**2 + slope_y**2)
    lambert = np.clip((-slope_x * toward[0] - slope_y * toward[1] + toward[2]) * normal_z, 0, None) / toward[2]
    diffuse = _average((0.30 + 0.70 * lambert).astype(np.float32))
    gloss = _average(np.clip(lambert - 1.12, 0, 1).astype(np.float32))
    # Crevices: where the surroundings are higher, less of the ring light arrives.
    coarse = _average(forms.height)
    crevice = np.exp(-np.clip(cv2.GaussianBlur(coarse, (0, 0), 4.0) - coarse, 0, None) / 5.0)
    lining_shadow = _shadow(forms.lining, reach=5.0, softness=1.6) * (1 - forms.lining)
    return _Light(
        steel=(diffuse * crevice * (1 - 0.45 * lining_shadow)).astype(np.float32),
        steel_gloss=(0.55 * gloss).astype(np.float32),
        lining=(diffuse * (0.5 + 0.5 * crevice)).astype(np.float32),
        lining_gloss=(0.16 * gloss).astype(np.float32),
        shadow=_shadow(forms.part, reach=8.0, softness=3.0),
        print_ink=_print() * forms.lining,
    )


def _shadow(form: Float, *, reach: float, softness: float) -> Float:
    cast = np.zeros_like(form)
    for share in np.linspace(0, 1, 8):
        move = np.array([[1, 0, reach * 0.62 * share], [0, 1, reach * 0.78 * share]])
        cast = np.maximum(cast, cv2.warpAffine(form, move, form.shape[::-1]))
    return np.asarray(cv2.GaussianBlur(cast, (0, 0), softness), dtype=np.float32)


def _print() -> Float:
    """The white batch print on the left half of the lining."""
    n = CANVAS_PX * _FINE
    ink = np.zeros((n, n), np.uint8)
    for row, text in enumerate(("HS 2411", "FF  E9")):
        place = (int((CANVAS_PX / 2 - 64) * _FINE), int((CANVAS_PX / 2 + 1 + 15 * row) * _FINE))
        cv2.putText(ink, text, place, cv2.FONT_HERSHEY_DUPLEX, 0.41 * _FINE, 255, 4, cv2.LINE_AA)
    tilt = cv2.getRotationMatrix2D((n / 2 - 30 * _FINE, n / 2), 9.0, 1.0)
    turned = cv2.warpAffine(ink, tilt, (n, n))
    ink_seen = cv2.GaussianBlur(_average(_unit(turned)), (0, 0), 0.5)
    return np.asarray(ink_seen, dtype=np.float32)


def _fixture(rng: np.random.Generator) -> Float:
    """The dark nest behind the part, the same in every picture: two locating pins and an engraved scale."""
    moon = cv2.GaussianBlur(cv2.resize(_shipped("moon.png"), (CANVAS_PX, CANVAS_PX)), (0, 0), 5.0)
    grain = _crop(_brushed(_quilt(_shipped("grass.png"), shrink=1.2, rng=rng)), rng).T
    base = 0.105 + 0.008 * np.clip(moon, -1, 1) + 0.012 * grain
    picture = base[..., None] * np.array([0.93, 0.98, 1.08], np.float32)
    n = CANVAS_PX * _FINE
    lines = np.zeros((n, n), np.uint8)
    for k in range(-12, 13):
        length = 9 if k % 5 == 0 else 5
        x, y = (CANVAS_PX // 2 + 9 * k) * _FINE, (CANVAS_PX - MARGIN_PX - 10) * _FINE
        cv2.line(lines, (x, y), (x, y - length * _FINE), 255, 3, cv2.LINE_AA)
    picture = picture + 0.32 * _average(_unit(lines))[..., None]
    y, x = np.mgrid[0:CANVAS_PX, 0:CANVAS_PX].astype(np.float32)
    for centre in ((62.0, 246.0), (258.0, 246.0)):
        distance = np.hypot(x - centre[0], y - centre[1])
        inside = np.clip(9.0 - distance, 0, 1)[..., None]
        shaded = 0.42 + 0.020 * ((centre[0] - x) + (centre[1] - y)) + 0.25 * np.exp(-((distance - 7) ** 2) / 1.5)
        cast = np.clip(1 - np.hypot(x - centre[0] - 4, y - centre[1] - 5) / 14.0, 0, 1)[..., None]
        picture = picture * (1 - 0.7 * cast) * (1 - inside) + inside * np.clip(shaded, 0.1, 0.9)[..., None]
    return np.asarray(picture, dtype=np.float32)
