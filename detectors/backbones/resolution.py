"""The working resolution and the camera's scale, from the images themselves, before anything is fitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.backbones.runtime import FeatureRuntime
from detectors.photographs.framing import Framing, native_side_px
from detectors.photographs.images import Pixels, is_deep, open_image, read_photograph, white_level_of
from halfsigma import DetectorError, ImageError

USUAL_SIDE_PX = 256
"""Enough for photographs below `FINE_NATIVE_SIDE_PX`: larger canvases did not help on 270 px tiles (0.80 to 0.83)."""
FINE_SIDE_PX = 384
"""For larger photographs, whose defects would be shrunk away: 0.62 → 0.82 on a part with 1024 px photographs."""
FINE_NATIVE_SIDE_PX = 600.0
SMALLER_SIDES_PX = (320, 256, 192, 160, 128)
"""What is tried, largest first, while one image takes longer than the line's budget."""
TIMED_RUNS = 7
BACKBONE_SHARE = 0.5
"""Of an image's time; the rest is framing, projection, search and covariates (benchmarks/against_anomalib.py)."""
PROBED_16_BIT_IMAGES = 50


@dataclass(frozen=True, slots=True)
class FramePlan:
    """How the line's photographs will be seen."""

    framing: Framing
    white_level: int
    native_side_px: float


def plan_frame(paths: Sequence[Path], *, latency_budget_ms: float | None, cost_ms: Callable[[int], float]) -> FramePlan:
    """Choose the working resolution from the files' headers, and the largest that the latency budget allows.

    Args:
        paths: the line's good images.
        latency_budget_ms: accepted time of one image, or None.
        cost_ms: measured time of one image at a working resolution; only asked when there is a budget.

    Raises:
        ImageError: no file has a readable header.
        DetectorError: even the smallest resolution takes longer than the budget.
    """
    sizes, deep = _probe(paths)
    if not sizes:
        raise ImageError(f"none of {len(paths)} files can be read as an image", hint="check the folder")
    native = native_side_px(sizes)
    wanted = FINE_SIDE_PX if native >= FINE_NATIVE_SIDE_PX else USUAL_SIDE_PX
    side = wanted if latency_budget_ms is None else _largest_within(wanted, latency_budget_ms, cost_ms)
    return FramePlan(Framing(side), _white_level(deep), native)


def measured_cost_ms(runtime: FeatureRuntime, side_px: int) -> float:
    """Median time of the backbone on a square canvas, in milliseconds; the first run compiles and is not counted."""
    canvas = np.zeros((side_px, side_px, 3), np.uint8)
    times = []
    for _ in range(TIMED_RUNS + 1):
        started = time.perf_counter()
        runtime.features(canvas)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[1:]))


def _largest_within(wanted: int, budget_ms: float, cost_ms: Callable[[int], float]) -> int:
    for side in (wanted, *(smaller for smaller in SMALLER_SIDES_PX if smaller < wanted)):
        if cost_ms(side) <= BACKBONE_SHARE * budget_ms:
            return side
    raise DetectorError(
        f"one image takes {cost_ms(SMALLER_SIDES_PX[-1]):.1f} ms in the backbone even at {SMALLER_SIDES_PX[-1]} px, "
        f"the line's budget is {budget_ms:g} ms",
        hint="raise it: halfsigma configure LINE --latency-budget-ms N, or use a faster machine",
    )


def _probe(paths: Sequence[Path]) -> tuple[list[tuple[int, int]], list[Path]]:
    sizes, deep = [], []
    for path in paths:
        try:
            with open_image(path) as image:
                sizes.append((image.height, image.width))
                if is_deep(image):
                    deep.append(path)
        except (OSError, SyntaxError, ValueError):  # an image that Pillow does not know is an OSError
            continue  # reading it in full will say what is wrong with it
    return sizes, deep


def _white_level(deep: Sequence[Path]) -> int:
    def probed() -> Iterator[Pixels]:
        for path in deep[:: max(1, len(deep) // PROBED_16_BIT_IMAGES)]:
            try:
                yield read_photograph(path).pixels
            except ImageError:
                continue

    return white_level_of(probed())
