"""Drift transfer: known good photographs as a station that has changed would take them, and a detector fitted on those.

A line's verified goods are the only images of which nobody need doubt that they are good. With tonight's disturbance put
on them they show tonight's conditions as well, without one fresh image: what such a bank calls unusual is unusual for
another reason than the drift. A disturbance is estimated, so a transferred good is near a real one, and is not one; where
none was found it is only itself. What is left of the change is taken away from the judge's patches by their moments
(`detectors.patches.alignment`), which needs no name for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.tracing import PATCHES
from detectors.calibration import fold_of
from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.families.patchcore import PatchCore, PatchCoreSettings
from detectors.fit import PreparedImage
from detectors.patches.aggregation import top_mean
from detectors.patches.alignment import Alignment
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import PatchMoments, PatchProjection
from detectors.photographs.canvases import CanvasStore
from detectors.photographs.covariates import measure_appearance
from detectors.photographs.images import to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.photographs.position import small_gray
from detectors.protocol import ImageScore, Progress, common_size, no_progress
from detectors.version import DetectorVersion

MOST_ALIGNED = 300
"""Images tell a covariance of 128 dimensions as well as all of a night do: each has some two hundred patches."""
N_FOLDS = 15
"""For the scores of the goods themselves."""


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


def moments_of(
    canvases: Sequence[NDArray[np.uint8]], *, version: DetectorVersion, seed: int, progress: Progress = no_progress
) -> PatchMoments:
    """Of the patches of a draw of at most `MOST_ALIGNED` canvases, (h, w, 3) uint8, at least one."""
    some = np.random.default_rng(seed).permutation(len(canvases))[:MOST_ALIGNED]
    streamed = version.runtime.stream((canvases[i] for i in some), (PATCHES,))
    moments = None
    for index, (found,) in enumerate(streamed):
        progress("tonight's patches", index, len(some))
        of_image = PatchMoments.of(found.reshape(-1, found.shape[-1]))
        moments = of_image if moments is None else moments + of_image
    assert moments is not None, "there is at least one canvas"
    return moments


class Judge:
    """A bank on the champion's backbone, of verified goods brought to the new conditions; it judges any family's line."""

    def __init__(self, model: PatchCore, usual: NDArray[np.float64]) -> None:
        self._model = model
        self.usual = usual
        """(n,) cross-fitted scores of the transferred goods themselves."""

    @classmethod
    def of(
        cls,
        transferred: Sequence[PreparedImage],
        tonight: PatchMoments,
        ordinary: Collection[str],
        *,
        version: DetectorVersion,
        seed: int,
        progress: Progress = no_progress,
    ) -> Judge:
        """Of transferred goods, moved as their ordinary patches have to be moved to lie where tonight's ordinary ones do.

        Gross defects would bend that, so both sides are asked without what the champion scores highest. The same images and
        seed give the same scores.

        Args:
            transferred: verified goods.
            tonight: of the patches of the night's ordinary images, as `moments_of` gives them.
            ordinary: SHA-256 of the goods that are ordinary in the same sense.
            version: the champion, whose backbone it shares.
            seed: of the draws.
            progress: told of each step.
        """
        canvases = [image.canvas for image in transferred]
        raw = []
        for index, (found,) in enumerate(version.runtime.stream(canvases, (PATCHES,))):
            progress("judge", index, len(canvases))
            raw.append(found)
        patches = np.concatenate([each.reshape(-1, each.shape[-1]) for each in raw])
        settings = replace(PatchCoreSettings(), canvas_size=common_size(canvases))
        projection = PatchProjection.of(PatchMoments.of(patches) + tonight, dimensions=settings.dimensions)
        projected = projection.apply(patches)
        is_ordinary = np.repeat(
            [image.sha256 in ordinary for image in transferred],
            [rows * columns for rows, columns, _ in map(np.shape, raw)],
        )
        aligned = Alignment.of(PatchMoments.of(projected[is_ordinary]), tonight.projected(projection)).apply(projected)
        usual = _cross_fitted(aligned, [each.shape[:2] for each in raw], settings, seed=seed, progress=progress)
        bank = aligned[greedy_coreset(aligned, min(settings.bank_size, len(aligned)), seed=seed)]
        return cls(PatchCore(version.runtime, projection, bank, settings), usual)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        """How unusual a framed canvas is for tonight's conditions."""
        return self._model.score(canvas)

    def scores(self, canvases: Iterable[NDArray[np.uint8]]) -> list[float]:
        """Of many canvases, in their order."""
        return [found.score for found in self._model.score_all(canvases)]


def _cross_fitted(
    patches: NDArray[np.float32],
    grids: Sequence[tuple[int, ...]],
    settings: PatchCoreSettings,
    *,
    seed: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """(n,) a score of each image, whose patches lie one below the other, by a bank of the others."""
    image_of = np.repeat(np.arange(len(grids)), [rows * columns for rows, columns in grids])
    folds = fold_of(len(grids), n_folds=min(N_FOLDS, len(grids)), rng=np.random.default_rng(seed))
    scores = np.empty(len(grids))
    for fold in range(folds.max() + 1):
        progress("usual", fold, int(folds.max()) + 1)
        others = patches[folds[image_of] != fold]
        bank = MemoryBank(others[greedy_coreset(others, min(settings.bank_size, len(others)), seed=seed)])
        for i in np.flatnonzero(folds == fold).tolist():
            scores[i] = top_mean(
                bank.nearest(patches[image_of == i]).reshape(grids[i]), top_share=settings.top_share
            ).score
    return scores
