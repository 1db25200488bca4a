"""Drift transfer: known good photographs as a station that has changed would take them, and a detector fitted on those.

A line's verified goods are the only images of which nobody need doubt that they are good. With tonight's disturbance put
on them they show tonight's conditions as well, without one fresh image: what such a bank calls unusual is unusual for
another reason than the drift. A disturbance is estimated, so a transferred good is near a real one, and is not one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.families.patchcore import PatchCore
from detectors.fit import PreparedImage
from detectors.photographs.canvases import CanvasStore
from detectors.photographs.covariates import measure_appearance
from detectors.photographs.images import to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.photographs.position import small_gray
from detectors.protocol import FitContext, ImageScore, Progress, no_progress
from detectors.version import DetectorVersion


def transfer(
    goods: Mapping[str, Path],
    changes: Mapping[str, Sequence[Disturbance]],
    *,
    version: DetectorVersion,
    seed: int,
    progress: Progress = no_progress,
) -> tuple[PreparedImage, ...]:
    """The goods whose files are still what they were, each with its disturbances put on, in the order of `goods`.

    What is new in every exposure (noise, flicker) is drawn from `seed` and the image's hash: which other images are
    transferred does not change a pixel of it.

    Args:
        goods: SHA-256 → file.
        changes: SHA-256 → what happened since that image was taken.
        version: whose framing and white level are used.
        seed: of the draws.
        progress: told of each image.
    """
    by_path = {path: sha256 for sha256, path in goods.items()}
    store, prepared = CanvasStore(), []
    for index, item in enumerate(read_ahead(list(by_path))):
        progress("drift transfer", index, len(by_path))
        if isinstance(item, Unreadable) or item.sha256 != by_path[item.path]:
            continue
        rng = np.random.default_rng([seed, int(item.sha256[:12], 16)])
        white = version.white_level if item.pixels.dtype == np.uint16 else 255
        pixels = disturb(item.pixels, changes[item.sha256], rng, white_level=white)
        image = to_uint8_rgb(pixels, white_level=version.white_level)
        prepared.append(
            PreparedImage(
                path=item.path,
                sha256=item.sha256,
                stored=store.keep(version.framing.frame(image)),
                small=small_gray(image),
                appearance=measure_appearance(image, original_size=(pixels.shape[0], pixels.shape[1])),
            )
        )
    return tuple(prepared)


class Judge:
    """A bank on the champion's backbone that knows the new conditions; it judges the images of any family's line."""

    def __init__(self, model: PatchCore, usual: NDArray[np.float64]) -> None:
        self._model = model
        self.usual = usual
        """(n,) cross-fitted scores of the transferred goods themselves."""

    @classmethod
    def of(
        cls,
        transferred: Sequence[PreparedImage],
        *,
        version: DetectorVersion,
        seed: int,
        progress: Progress = no_progress,
    ) -> Judge:
        """Fitted on transferred goods; the same ones and seed give the same scores."""
        fitted = PatchCore.fit(
            [image.canvas for image in transferred],
            runtime=version.runtime,
            context=FitContext(seed=seed, progress=progress),
        )
        return cls(fitted.model, fitted.reference_scores)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        """How unusual a framed canvas is for tonight's conditions."""
        return self._model.score(canvas)
