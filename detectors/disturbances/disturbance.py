"""A disturbed image shows what the same part looks like after the station has changed, not the part.

What can change at an inspection station is its lamp, its optics, the fixture that holds the part, and the
sensor. Each disturbance is one such change with one strength in a stated unit. Whatever a change keeps all
night (the direction in which a fixture slipped, the place of the dirt on the lens) belongs to the
`Disturbance`; whatever is new in every exposure (noise, flicker, the phase of a banding) is drawn from the
generator.

Disturbances are applied in the order in which light meets them, fixture, lamp, optics, sensor, whatever order
they are given in, and the image is rounded once, at the end. Pixel values are taken as linear in light, as
machine-vision cameras deliver them (EMVA 1288).

Sources: the families follow Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions" (ICLR 2019), reduced to what happens to a fixed camera, with physical units in place of
severities 1 to 5; the noise model is EMVA 1288's constant (dark) part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from halfsigma import ImageError, UsageError

Image = NDArray[np.uint8] | NDArray[np.uint16]
Float = NDArray[np.float32]
Family = Literal["fixture", "lamp", "optics", "sensor"]

FAMILY_ORDER: tuple[Family, ...] = ("fixture", "lamp", "optics", "sensor")
# Gaussian kernels are cut at this many sigmas: what is left outside is below one grey level of eight bits.
_KERNEL_SIGMAS = 3.5
# A speck of dirt is far from the focal plane, so it is a soft shadow that never takes all the light.
_DIRT_OPACITY = 0.6
# Specks are about one part in this many of the picture's side.
_DIRT_GRID = 24
_BANDING_PERIOD_ROWS = 12.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a disturbance means: unit, the strength that does nothing, limits, a ladder of strengths.

    `opposite` is the ladder of the other direction, for kinds whose two directions are different changes; a shift or a
    rotation is the same change whichever way it goes.
    """

    name: str
    family: Family
    unit: str
    neutral: float
    low: float
    high: float
    ladder: tuple[float, ...]
    label: Callable[[float], str]
    opposite: tuple[float, ...] = ()

    def within(self, strength: float) -> float:
        """The nearest strength that the kind allows."""
        return min(max(strength, self.low), self.high)


def _percent(value: float) -> str:
    return f"{abs(value) * 100:.3g} %"


# fmt: off
_KINDS = (
    Kind("shift", "fixture", "px", 0, 0, 1e5, (2, 4, 8, 12), lambda s: f"fixture slipped by {s:.3g} px"),
    Kind("rotation", "fixture", "deg", 0, -180, 180, (0.5, 1, 2, 3), lambda s: f"part turned by {s:.3g}°"),
    Kind("scale", "fixture", "factor", 1, 0.2, 5, (1.01, 1.02, 1.04, 1.08),
         lambda s: f"camera {_percent(s - 1)} {'closer' if s >= 1 else 'farther away'}", (0.99, 0.98, 0.96, 0.92)),
    Kind("gain", "lamp", "factor", 1, 0, 10, (0.9, 0.8, 0.7, 0.5),
         lambda s: f"lamp {_percent(s - 1)} {'brighter' if s >= 1 else 'darker'}", (1.1, 1.2, 1.4, 1.7)),
    Kind("gamma", "lamp", "exponent", 1, 0.1, 10, (1.1, 1.2, 1.3, 1.5),
         lambda s: f"tone curve bent to gamma {s:.3g}", (0.9, 0.8, 0.7, 0.5)),
    Kind("gradient", "lamp", "share lost at the far corner", 0, 0, 1, (0.1, 0.2, 0.3, 0.5),
         lambda s: f"light falling off by {_percent(s)} across the picture"),
    Kind("warmth", "lamp", "share", 0, -1, 1, (0.05, 0.1, 0.15, 0.25),
         lambda s: f"lamp {_percent(s)} {'warmer' if s >= 0 else 'colder'}", (-0.05, -0.1, -0.15, -0.25)),
    Kind("flicker", "lamp", "sd of the gain", 0, 0, 1, (0.02, 0.04, 0.08, 0.16),
         lambda s: f"lamp flickering by {_percent(s)}"),
    Kind("defocus", "optics", "sigma in px", 0, 0, 100, (0.5, 1, 1.5, 2),
         lambda s: f"out of focus by {s:.3g} px"),
    Kind("motion", "optics", "px", 0, 0, 500, (2, 4, 6, 8), lambda s: f"smeared over {s:.3g} px by motion"),
    Kind("dirt", "optics", "share of the lens", 0, 0, 0.9, (0.01, 0.03, 0.06, 0.12),
         lambda s: f"dirt on {_percent(s)} of the lens"),
    Kind("noise", "sensor", "sd as a share of white", 0, 0, 1, (0.01, 0.02, 0.04, 0.08),
         lambda s: f"sensor noise of {_percent(s)}"),
    Kind("banding", "sensor", "amplitude as a share of white", 0, 0, 1, (0.01, 0.02, 0.04, 0.08),
         lambda s: f"bands of {_percent(s)} across the rows"),
    Kind("dead_pixels", "sensor", "share of pixels", 0, 0, 1, (0.0005, 0.001, 0.002, 0.005),
         lambda s: f"{_percent(s)} of the pixels dead or stuck"),
    Kind("jpeg", "sensor", "quality", 100, 1, 100, (80, 60, 40, 20),
         lambda s: f"compressed as JPEG of quality {s:.0f}"),
)
# fmt: on

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One lasting change of the station; `direction_deg` and `seed` hold what stays the same in every image.

    `direction_deg` turns counter-clockwise from rightwards as seen in the image; it is where the fixture
    slips to (`shift`), where the light is weakest (`gradient`), or the line of the movement (`motion`).
    `seed` places the dirt and the dead pixels. Other kinds ignore both.

    >>> Disturbance("gain", 0.8).label
    'lamp 20 % darker'

    Raises `UsageError` for an unknown name or a strength outside what the kind allows.
    """

    name: str
    strength: float
    direction_deg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        kind = KINDS.get(self.name)
        if kind is None:
            raise UsageError(
                f"There is no disturbance named {self.name!r}.", hint=f"Choose one of: {', '.join(KINDS)}."
            )
        if not kind.low <= self.strength <= kind.high:
            raise UsageError(
                f"The disturbance {self.name!r} cannot have the strength {self.strength!r} ({kind.unit}).",
                hint=f"Give a strength from {kind.low:g} to {kind.high:g}; {kind.neutral:g} changes nothing.",
            )

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def label(self) -> str:
        """The change in a person's words."""
        return self.kind.label(self.strength)

    @property
    def is_neutral(self) -> bool:
        return self.strength == self.kind.neutral


Changes = tuple[Disturbance, ...]
"""What has happened to a station, one thing after the other."""


def describe(disturbances: Iterable[Disturbance]) -> str:
    """All changes in one phrase, in the order in which light meets them; "nothing changed" if there are none.

    >>> describe([Disturbance("gain", 0.8), Disturbance("shift", 6)])
    'fixture slipped by 6 px, lamp 20 % darker'
    """
    return ", ".join(d.label for d in _in_light_order(disturbances)) or "nothing changed"


def disturb(
    image: Image,
    disturbances: Iterable[Disturbance],
    rng: np.random.Generator,
    *,
    white_level: int | None = None,
) -> Image:
    """The image as the changed station would have taken it: same shape and dtype, the given image untouched.

    image: (H, W) or (H, W, 3) RGB, uint8 or uint16. Neutral strengths change nothing, and with no other
    disturbance an exact copy comes back. What the fixture moves in from outside the image repeats its edge.
    On a gray image `warmth` changes nothing. `jpeg` leaves eight bits of a 16-bit image, as JPEG does.
    `white_level` is where the sensor saturates: the type's maximum, or 4095 for twelve bits kept in a 16-bit
    file.

    >>> plate = np.full((4, 4), 200, np.uint8)
    >>> int(disturb(plate, [Disturbance("gain", 0.5)], np.random.default_rng(0))[0, 0])
    100

    Raises `ImageError` for another shape or dtype.
    """
    if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(
            f"found {image.shape} of {image.dtype}, expected (H, W) or (H, W, 3) in uint8 or uint16",
            hint="read the image with detectors.photographs.images.read_photograph",
        )
    ordered = [d for d in _in_light_order(disturbances) if not d.is_neutral]
    if not ordered or image.size == 0:
        return image.copy()
    white = float(white_level or np.iinfo(image.dtype).max)
    light = image.astype(np.float32) / np.float32(white)
    light = _move([d for d in ordered if d.kind.family == "fixture"], light)
    for disturbance in ordered:
        if disturbance.kind.family != "fixture":
            # Light that is too much is lost at the sensor only, so nothing is clipped before it.
            if disturbance.kind.family == "sensor":
                light = np.clip(light, 0.0, 1.0)
            light = _EFFECTS[disturbance.name](light, disturbance, rng)
    values = np.rint(np.clip(light, 0.0, 1.0) * white)
    if image.dtype == np.uint16:
        return np.asarray(values, dtype=np.uint16)
    return np.asarray(values, dtype=np.uint8)


def _in_light_order(disturbances: Iterable[Disturbance]) -> list[Disturbance]:
    return sorted(disturbances, key=lambda d: FAMILY_ORDER.index(d.kind.family))


def _direction(disturbance: Disturbance) -> tuple[float, float]:
    angle = np.deg2rad(disturbance.direction_deg)
    return float(np.cos(angle)), float(-np.sin(angle))


def _move(moves: list[Disturbance], light: Float) -> Float:
    """All movements as one affine map, so that the image is interpolated once and keeps its sharpness."""
    if not moves:
        return light
    height, width = light.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    total = np.eye(3)
    for move in moves:
        step = np.eye(3)
        if move.name == "shift":
            step[:2, 2] = np.multiply(_direction(move), move.strength)
        elif move.name == "rotation":
            step[:2] = cv2.getRotationMatrix2D(centre, move.strength, 1.0)
        else:
            step[:2] = cv2.getRotationMatrix2D(centre, 0.0, move.strength)
        total = step @ total
    moved = cv2.warpAffine(light, total[:2], (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def _gain(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    return light * np.float32(disturbance.strength)


def _gamma(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    return np.power(np.maximum(light, 0.0), np.float32(disturbance.strength))


def _gradient(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """Light falls off linearly towards `direction_deg`, from full at the near corner."""
    height, width = light.shape[:2]
    dx, dy = _direction(disturbance)
    ramp = dx * np.linspace(-1, 1, width)[None, :] + dy * np.linspace(-1, 1, height)[:, None]
    reach = abs(dx) + abs(dy)
    return light * _per_pixel(1.0 - disturbance.strength * (ramp / reach + 1.0) / 2.0, light)


def _warmth(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """Red gains what blue loses, as when a white lamp ages towards a lower colour temperature."""
    if light.ndim == 2:
        return light
    return light * np.array([1 + disturbance.strength, 1.0, 1 - disturbance.strength], dtype=np.float32)


def _flicker(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    return light * np.float32(max(0.0, 1.0 + rng.normal(0.0, disturbance.strength)))


def _defocus(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    size = 2 * int(np.ceil(_KERNEL_SIGMAS * disturbance.strength)) + 1
    blurred = cv2.GaussianBlur(light, (size, size), disturbance.strength, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def _motion(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """The mean over a straight path of `strength` px, sampled every half pixel."""
    reach = int(np.ceil(disturbance.strength / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    dx, dy = _direction(disturbance)
    steps = np.linspace(-0.5, 0.5, 2 * int(np.ceil(disturbance.strength)) + 1) * disturbance.strength
    for x, y in zip(reach + steps * dx, reach + steps * dy, strict=True):
        left, top = int(np.floor(x)), int(np.floor(y))
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
                if share_x * share_y > 0:
                    kernel[row, column] += share_x * share_y
    smeared = cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smeared, dtype=np.float32)


def _dirt(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """Soft specks shade `strength` of the picture; the same seed puts them in the same place every night."""
    height, width = light.shape[:2]
    still = np.random.default_rng(disturbance.seed)
    coarse = still.normal(size=(_DIRT_GRID, _DIRT_GRID)).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    edge = float(np.quantile(field, 1.0 - disturbance.strength))
    softness = max(float(field.std()) * 0.15, 1e-6)
    cover = 1.0 / (1.0 + np.exp(-np.clip((field - edge) / softness, -30, 30)))
    return light * _per_pixel(1.0 - _DIRT_OPACITY * cover, light)


def _noise(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    return light + rng.normal(0.0, disturbance.strength, light.shape).astype(np.float32)


def _banding(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """Rows wave with a fixed period and a new phase in every exposure, as under a lamp on mains current."""
    rows = np.arange(light.shape[0])[:, None]
    wave = np.sin(2 * np.pi * (rows / _BANDING_PERIOD_ROWS + rng.uniform()))
    return light + _per_pixel(disturbance.strength * np.broadcast_to(wave, light.shape[:2]), light)


def _dead_pixels(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    """Half of them stay black, half white; the same seed breaks the same pixels."""
    still = np.random.default_rng(disturbance.seed).uniform(size=light.shape[:2])
    broken = light.copy()
    broken[still < disturbance.strength / 2] = 0.0
    broken[still > 1.0 - disturbance.strength / 2] = 1.0
    return broken


def _jpeg(light: Float, disturbance: Disturbance, rng: np.random.Generator) -> Float:
    eight_bit = np.rint(light * 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(disturbance.strength)]
    encoded = cv2.imencode(".jpg", eight_bit[..., ::-1] if light.ndim == 3 else eight_bit, quality)[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if light.ndim == 3 else cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ImageError("The image cannot be compressed as JPEG.", hint="JPEG holds at most 65,500 px a side.")
    back = decoded[..., ::-1] if light.ndim == 3 else decoded
    return np.asarray(back, np.float32) / np.float32(255)


def _per_pixel(factor: NDArray[np.floating], light: Float) -> Float:
    """(H, W) made to multiply (H, W) or (H, W, 3)."""
    factor32 = np.asarray(factor, dtype=np.float32)
    return factor32 if light.ndim == 2 else factor32[:, :, None]


_EFFECTS: Mapping[str, Callable[[Float, Disturbance, np.random.Generator], Float]] = {
    "gain": _gain, "gamma": _gamma, "gradient": _gradient, "warmth": _warmth, "flicker": _flicker,
    "defocus": _defocus, "motion": _motion, "dirt": _dirt,
    "noise": _noise, "banding": _banding, "dead_pixels": _dead_pixels, "jpeg": _jpeg,
}  # fmt: skip
