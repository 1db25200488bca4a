"""How covariates and scores answer to known disturbances, measured on disturbed copies of the line's good images.

A night whose covariates moved as those of a known disturbance do can then be told what happened to it, and how much of
the scores' shift that explains (`drift.causes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detectors.disturbances.disturbance import KINDS, Disturbance, disturb
from detectors.disturbances.responses import Response
from detectors.photographs.images import Pixels
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion, ScoredImage

MOST_IMAGES = 10
"""Copies are compared with their own originals, so ten say as much as hundreds of other images would."""
LEAST_IMAGES = 4
PIXELS_IN_ALL = 10 * 1_000_000
"""Of larger photographs fewer are taken: the time for disturbing them grows with their pixels."""
USUAL_SIDE_PX = 256
"""Blur is given in pixels of a picture of this size; a larger photograph is blurred by proportionally more."""

_SIDEWAYS = (0.0, 90.0, 180.0, 270.0)
_LINES = (0.0, 45.0, 90.0, 135.0)


def measure_responses(
    version: DetectorVersion, photographs: Sequence[Pixels], *, seed: int, progress: Progress = no_progress
) -> tuple[Response, ...]:
    """The responses of `version` to every disturbance of `probes`, on some of `photographs`, (h, w[, 3]), uint8/16."""
    n = min(len(photographs), images_worth(photographs[0].shape[:2])) if photographs else 0
    chosen = photographs[:n]
    if not n:
        return ()
    rng = np.random.default_rng(seed)
    side = math.sqrt(float(np.mean([image.shape[0] * image.shape[1] for image in chosen])))
    kinds = probes(side_px=side, colour=any(_is_coloured(image) for image in chosen))
    usual = [version.score(image) for image in chosen]
    responses = []
    for index, disturbance in enumerate(kinds):
        progress("responses", index, len(kinds))
        copies = [
            version.score(disturb(image, [disturbance], rng, white_level=_white(image, version))) for image in chosen
        ]
        responses.append(
            Response(
                disturbance=disturbance,
                usual=_covariates(usual),
                disturbed=_covariates(copies),
                score_changes=tuple(
                    _rounded(copy.score - each.score) for copy, each in zip(copies, usual, strict=True)
                ),
            )
        )
    return tuple(responses)


def images_worth(shape: tuple[int, int]) -> int:
    """How many photographs of (height, width) are disturbed."""
    return int(np.clip(PIXELS_IN_ALL // (shape[0] * shape[1]), LEAST_IMAGES, MOST_IMAGES))


def probes(*, side_px: float, colour: bool) -> tuple[Disturbance, ...]:
    """The known disturbances, each at rising strength, for photographs of about `side_px` a side."""
    blur, defocus = max(side_px / USUAL_SIDE_PX, 1.0), KINDS["defocus"].within
    found = [Disturbance("gain", gain) for gain in (0.85, 0.65, 1.15, 1.4)]
    found += [Disturbance("gamma", gamma) for gamma in (0.8, 0.6, 1.25, 1.6)]
    found += [Disturbance("gradient", 0.25, direction_deg=angle) for angle in _SIDEWAYS]
    found += [Disturbance("warmth", share) for share in (0.1, -0.1)] if colour else []
    found += [Disturbance("defocus", defocus(blur * sigma)) for sigma in (0.6, 1.2, 2.4)]
    found += [Disturbance("motion", blur * px, direction_deg=angle) for angle in _LINES for px in (2.0, 4.0, 8.0)]
    found += [Disturbance("noise", sd) for sd in (0.01, 0.04)]
    found += [Disturbance("dead_pixels", share) for share in (0.001, 0.006)]
    found += [Disturbance("jpeg", quality) for quality in (60, 25)]
    found += [
        Disturbance("shift", share * side_px, direction_deg=angle) for angle in _SIDEWAYS for share in (0.02, 0.06)
    ]
    found += [Disturbance("rotation", angle) for angle in (1.0, 4.0, -1.0, -4.0)]
    found += [Disturbance("scale", factor) for factor in (1.03, 1.08, 0.97, 0.92)]
    return tuple(found)


def _covariates(scored: Sequence[ScoredImage]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(_rounded(each.covariates[name]) for each in scored) for name in scored[0].covariates}


def _rounded(value: float) -> float:
    """To six digits, more than ten images can tell: the check of a thousand lines reads their responses."""
    return float(f"{value:.6g}")


def _is_coloured(image: Pixels) -> bool:
    return image.ndim == 3 and bool((image[..., 0] != image[..., 2]).any())


def _white(image: Pixels, version: DetectorVersion) -> int:
    return version.white_level if image.dtype == np.uint16 else 255
