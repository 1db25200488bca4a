"""The working resolution and the camera's scale, from the images themselves, before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from detectors.framing import Framing, native_side_px
from detectors.images import read_photograph, white_level_of
from halfsigma import ImageError

USUAL_SIDE_PX = 256
"""Enough for photographs below `FINE_NATIVE_SIDE_PX`: larger canvases did not help on 270 px tiles (0.80 to 0.83)."""
FINE_SIDE_PX = 384
"""For larger photographs, whose defects would be shrunk away: 0.62 → 0.82 on a part with 1024 px photographs."""
FINE_NATIVE_SIDE_PX = 600.0
COST_MS_PER_MEGAPIXEL = 160.0
"""Backbone, search and covariates on two cores, as benchmarks/against_anomalib.py measured them."""
PROBED_16_BIT_IMAGES = 50


@dataclass(frozen=True, slots=True)
class FramePlan:
    """How the line's photographs will be seen."""

    framing: Framing
    white_level: int
    native_side_px: float


def plan_frame(paths: Sequence[Path], *, latency_budget_ms: float | None) -> FramePlan:
    """Choose the working resolution from the files' headers and the latency budget.

    Raises:
        ImageError: no file has a readable header.
    """
    sizes, deep = _probe(paths)
    if not sizes:
        raise ImageError(f"none of {len(paths)} files can be read as an image", hint="check the folder")
    native = native_side_px(sizes)
    side = FINE_SIDE_PX if native >= FINE_NATIVE_SIDE_PX else USUAL_SIDE_PX
    if latency_budget_ms is not None and COST_MS_PER_MEGAPIXEL * side**2 / 1e6 > latency_budget_ms:
        side = USUAL_SIDE_PX
    return FramePlan(Framing(side), _white_level(deep), native)


def _probe(paths: Sequence[Path]) -> tuple[list[tuple[int, int]], list[Path]]:
    sizes, deep = [], []
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.append((image.height, image.width))
                if image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile):
                    deep.append(path)
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # reading it in full will say what is wrong with it
    return sizes, deep


def _white_level(deep: Sequence[Path]) -> int:
    images = []
    for path in deep[:: max(1, len(deep) // PROBED_16_BIT_IMAGES)]:
        try:
            images.append(read_photograph(path).pixels)
        except ImageError:
            continue
    return white_level_of(images)
