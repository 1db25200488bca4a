"""Parts with labelled defects and their masks: the magnetic tiles, and a texture that scikit-image ships.

The texture is its photograph of bricks, which the demo does not use. Parts are cut from it: those to fit from its upper
rows, those to judge from its lower ones, so that no pixel is on both sides. The defects are those of the demo's painter, which no
detector learns from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

from benchmarks.closed_loop_on_tiles import TILES, Image
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb
from flows.demo.part.defects import KINDS, add_defect

Mask = NDArray[np.bool_]

_CUT_PX = 160
_UPPER_SHARE = 0.6
"""Of the photograph, for the parts that are fitted on: below it there must be one cut, and some room to move it."""
_DEFECT_SIZE = (0.6, 1.6)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPart:
    """Good and defective photographs, (h, w, 3) uint8.

    Attributes:
        name: of the part.
        fit: goods to fit on.
        good: other goods.
        defects: photographs with a defect.
        masks: (h, w), where it is.
        kinds: what it is.
    """

    name: str
    fit: Sequence[Image]
    good: Sequence[Image]
    defects: Sequence[Image]
    masks: Sequence[Mask]
    kinds: Sequence[str]


def some(part: LabelledPart, n: int, *, seed: int) -> LabelledPart:
    """The part with a draw of at most ``n`` of its other goods and of its defects."""
    rng = np.random.default_rng(seed)
    good = np.sort(rng.permutation(len(part.good))[:n])
    bad = np.sort(rng.permutation(len(part.defects))[:n])
    return picked(part, good, bad)


def picked(part: LabelledPart, good: NDArray[np.int64], defects: NDArray[np.int64]) -> LabelledPart:
    """The part with these of its other goods and of its defects, by their places, in this order."""
    return replace(
        part,
        good=[part.good[i] for i in good],
        defects=[part.defects[i] for i in defects],
        masks=[part.masks[i] for i in defects],
        kinds=[part.kinds[i] for i in defects],
    )


def tiles(n_fit: int, *, seed: int) -> LabelledPart:
    """Magnetic tiles: a draw of ``n_fit`` goods, the other goods, and all defects."""
    goods = [_read(path) for path in list_images(TILES / "good")]
    order = np.random.default_rng(seed).permutation(len(goods))
    paths = list_images(TILES / "defect")
    return LabelledPart(
        "magnetic tiles",
        fit=[goods[i] for i in order[:n_fit]],
        good=[goods[i] for i in order[n_fit:]],
        defects=[_read(path) for path in paths],
        masks=[_mask_of(path) for path in paths],
        kinds=[path.parent.name for path in paths],
    )


def bricks(n_fit: int, *, n_good: int = 300, n_defects: int = 300, seed: int) -> LabelledPart:
    """Cuts of a photograph of bricks, with some light and noise of their own, and painted defects of five kinds."""
    rng = np.random.default_rng(seed)
    upper, lower = _wall()
    return _of_bricks(
        fit=[_cut(upper, rng) for _ in range(n_fit)],
        good=[_cut(lower, rng) for _ in range(n_good)],
        spoilt=[_spoilt(lower, number, rng) for number in range(n_defects)],
    )


def bricks_alike(n_fit: int, *, n_good: int, n_defects: int, seed: int) -> LabelledPart:
    """As `bricks`, but everything is cut from anywhere: goods to fit on and others show the same stretches of wall.

    For comparisons of what is learned from a night, in which its goods, the verified ones and those that judge are to differ by
    nothing but chance, as a line's do. All sides have seen the pixels by which they are judged; an AUROC says nothing in itself.
    """
    rng = np.random.default_rng(seed)
    wall = np.concatenate(_wall())
    return _of_bricks(
        fit=[_cut(wall, rng) for _ in range(n_fit)],
        good=[_cut(wall, rng) for _ in range(n_good)],
        spoilt=[_spoilt(wall, number, rng) for number in range(n_defects)],
    )


Spoilt = tuple[Image, Mask, str]


def _wall() -> tuple[Image, Image]:
    """Its upper and its lower rows."""
    whole = _read(Path(skimage.__file__).parent / "data" / "brick.png")
    split = round(_UPPER_SHARE * len(whole))
    return whole[:split], whole[split:]


def _spoilt(photograph: Image, number: int, rng: np.random.Generator) -> Spoilt:
    """A cut with a painted defect, its mask and its kind: the kinds by turns."""
    light = _cut(photograph, rng)[..., 0].astype(np.float32) / np.float32(255)
    kind = list(KINDS)[number % len(KINDS)]
    found = add_defect(light, np.ones_like(light), rng, kind=kind, size=float(rng.uniform(*_DEFECT_SIZE)))
    return np.repeat(np.rint(found.light * 255).astype(np.uint8)[..., None], 3, axis=2), found.mask, kind


def _of_bricks(*, fit: Sequence[Image], good: Sequence[Image], spoilt: Sequence[Spoilt]) -> LabelledPart:
    return LabelledPart(
        "bricks (scikit-image)",
        fit=fit,
        good=good,
        defects=[image for image, _, _ in spoilt],
        masks=[mask for _, mask, _ in spoilt],
        kinds=[kind for _, _, kind in spoilt],
    )


def _cut(photograph: Image, rng: np.random.Generator) -> Image:
    top, left = (int(rng.integers(side - _CUT_PX + 1)) for side in photograph.shape[:2])
    part = photograph[top : top + _CUT_PX, left : left + _CUT_PX].astype(np.float32)
    part = part * rng.normal(1.0, 0.02) + rng.normal(0.0, 1.5, part.shape[:2])[..., None]
    return np.asarray(np.clip(np.rint(part), 0, 255), np.uint8)


def _read(path: Path) -> Image:
    return to_uint8_rgb(read_photograph(path).pixels, white_level=255)


def _mask_of(path: Path) -> Mask:
    drawn = cv2.imread(str(TILES / "mask" / path.parent.name / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
    return np.asarray(drawn > 127)
