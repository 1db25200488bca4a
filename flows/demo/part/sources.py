"""Where the demo's photographs come from: a rendered part, or a folder of the user's own good images.

A source answers one question, "the k-th photograph of this pool, perhaps with a defect, at a station that has
changed like this", and answers it the same way every time for the same generator. The pools `fit` and
`nights` never share a photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.photographs.images import list_images, read_photograph, white_level_of
from flows.demo.part.brake_pad import MARGIN_PX, SIDE_PX, BrakePad, expose
from flows.demo.part.defects import add_defect
from halfsigma import ImageError, TooFewImages

Pool = Literal["fit", "nights"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

MIN_OWN_IMAGES = 20
"""With fewer, a pool repeats its photographs so often that every statistic is an illusion."""
MAX_OWN_SIDE_PX = 768
"""Larger photographs are shrunk: the demo promises minutes."""
_LINING_SHARE = 0.7
"""So many of the brake pad's defects are in the lining; the others may be anywhere."""
_OWN_DEFECT_SIZE = 2.5
"""Own parts vary more: on magnetic tiles PatchCore rejects 5 % of the defects at 1.5 and 58 % at 3."""
_MIDDLE = 0.15
"""Nothing is known of the user's part, so defects stay away from this share of the picture at each border."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One photograph as the camera delivered it, and where its defect is, if it has one."""

    pixels: Pixels
    kind: str | None = None
    mask: NDArray[np.bool_] | None = None


class PartSource(Protocol):
    """Gives photographs of one part; `side_px` is the picture's shorter side, which scales disturbances."""

    name: str
    side_px: int

    def take(
        self,
        pool: Pool,
        index: int,
        rng: np.random.Generator,
        *,
        defect: str | None = None,
        disturbances: Sequence[Disturbance] = (),
    ) -> Shot: ...


class BrakePadSource:
    """Rendered brake pads; every photograph is a new part, so nothing is ever repeated."""

    def __init__(self, *, seed: int) -> None:
        self.name = "brake pad, assembled from scikit-image's photographs of gravel, grass and the moon"
        self.side_px = SIDE_PX
        self._pad = BrakePad(seed=seed)

    def take(
        self,
        pool: Pool,
        index: int,
        rng: np.random.Generator,
        *,
        defect: str | None = None,
        disturbances: Sequence[Disturbance] = (),
    ) -> Shot:
        photograph = self._pad.photograph(rng)
        light, mask = photograph.light, None
        if defect is not None:
            part = (photograph.lining + photograph.steel > 0.5).astype(np.float32)
            surface = (photograph.lining > 0.5).astype(np.float32) if rng.uniform() < _LINING_SHARE else part
            spoilt = add_defect(light, surface, rng, kind=defect, part=part)
            light, mask = spoilt.light, _cropped(spoilt.mask)
        if disturbances:
            # Before the sensor and beyond the picture's border: noise stays sharp and no edge is smeared.
            fine = np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)
            light = disturb(fine, disturbances, rng).astype(np.float32) / np.float32(65535)
        return Shot(_cropped(expose(light, rng)), defect, mask)


class OwnImagesSource:
    """The user's good photographs, split once by the seed; where they run out they return, a little varied.

    `fit_share` of them go to the pool `fit`, the others to `nights`. A repeated photograph is moved by less
    than a pixel, lit by some per cent more or less and given a little noise, so that it is no exact copy.

    Raises `ImageError` for a folder without images, `TooFewImages` for fewer than `MIN_OWN_IMAGES` readable
    ones.
    """

    def __init__(self, folder: Path, *, fit_share: float, seed: int) -> None:
        self.name = f"your own images ({folder.name})"
        self._images: list[Pixels] = []
        for path in list_images(folder):
            try:
                self._images.append(_shrunk(read_photograph(path).pixels))
            except ImageError:
                continue  # a demo goes on without them; `ingest` is the place that lists unreadable files
        if len(self._images) < MIN_OWN_IMAGES:
            raise TooFewImages(
                f"{folder} has {len(self._images)} readable images, expected at least {MIN_OWN_IMAGES}",
                hint="give a folder with more photographs of good parts",
            )
        self.side_px = int(np.median([min(image.shape[:2]) for image in self._images]))
        self._white = white_level_of(self._images)
        order = np.random.default_rng(seed).permutation(len(self._images))
        n_fit = min(max(round(fit_share * len(order)), 1), len(order) - 1)
        self._pools: dict[Pool, NDArray[np.int64]] = {"fit": order[:n_fit], "nights": order[n_fit:]}

    def take(
        self,
        pool: Pool,
        index: int,
        rng: np.random.Generator,
        *,
        defect: str | None = None,
        disturbances: Sequence[Disturbance] = (),
    ) -> Shot:
        members = self._pools[pool]
        pixels = self._images[int(members[index % len(members)])]
        white = self._white if pixels.dtype == np.uint16 else 255
        if index >= len(members):
            pixels = disturb(pixels, _again(rng), rng, white_level=white)
        mask = None
        if defect is not None:
            light = pixels.astype(np.float32) / np.float32(white)
            spoilt = add_defect(light, _middle(pixels.shape[:2]), rng, kind=defect, size=_OWN_DEFECT_SIZE)
            pixels, mask = _as_pixels(spoilt.light * white, like=pixels), spoilt.mask
        if disturbances:
            pixels = disturb(pixels, disturbances, rng, white_level=white)
        return Shot(pixels, defect, mask)


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _cropped(canvas: NDArray[_Scalar]) -> NDArray[_Scalar]:
    return np.ascontiguousarray(canvas[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def _again(rng: np.random.Generator) -> list[Disturbance]:
    """What differs between two photographs of the same part, taken one after the other."""
    return [
        Disturbance("shift", float(rng.uniform(0, 0.7)), direction_deg=float(rng.uniform(0, 360))),
        Disturbance("gain", float(np.clip(rng.normal(1, 0.012), 0.95, 1.05))),
        Disturbance("noise", 0.004),
    ]


def _middle(shape: tuple[int, int]) -> NDArray[np.float32]:
    where = np.zeros(shape, np.float32)
    rows, columns = round(shape[0] * _MIDDLE), round(shape[1] * _MIDDLE)
    where[rows : shape[0] - rows, columns : shape[1] - columns] = 1.0
    return where


def _shrunk(pixels: Pixels) -> Pixels:
    longest = max(pixels.shape[:2])
    if longest <= MAX_OWN_SIDE_PX:
        return pixels
    factor = MAX_OWN_SIDE_PX / longest
    shrunk = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return _as_pixels(shrunk, like=pixels)


def _as_pixels(values: NDArray[np.generic], *, like: Pixels) -> Pixels:
    rounded = np.rint(values)
    if like.dtype == np.uint16:
        return np.asarray(rounded, dtype=np.uint16)
    return np.asarray(rounded, dtype=np.uint8)
