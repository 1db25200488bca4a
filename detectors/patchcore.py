"""PatchCore: a coreset of normal patches, and the distance to it (Roth et al., CVPR 2022, arXiv 2106.08265)."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.bank import MemoryBank
from detectors.calibration import fold_of
from detectors.coreset import greedy_coreset
from detectors.protocol import FitContext, Fitted, ImageScore, common_size
from detectors.runtime import CanvasSize, FeatureRuntime, PatchSearch
from detectors.whitening import MAX_FITTED_PATCHES, PatchMoments, PatchProjection

MIN_FOLDS, MAX_FOLDS = 10, 30
IMAGES_TIMES_FOLDS = 3000
"""A fold's bank lacks 1/K of the images, which lifts its scores; the fewer the images, the cheaper a bank, so the more
folds. benchmarks/closed_loop_on_tiles.py measures what remains: 0.00 SD with 300 images, +0.01 to +0.06 with 100."""
NEIGHBOURHOOD = 3
"""Side of the square of patches that are averaged (the paper's p)."""


@dataclass(frozen=True, slots=True)
class PatchCoreSettings:
    """What is chosen for a line.

    Attributes:
        bank_size: patches kept by the coreset.
        dimensions: of a patch feature after projection.
        top_share: the image's score is the mean of this share of its most distant patches.
        canvas_size: (height, width) of all canvases that were fitted on, None when they differ; found while fitting.
    """

    bank_size: int = 2048
    dimensions: int = 128
    top_share: float = 0.05
    canvas_size: CanvasSize | None = None


class PatchCore:
    """Distances to the nearest normal patches; the image's score is the mean over its most distant ones."""

    family: ClassVar[str] = "patchcore"

    def __init__(
        self,
        runtime: FeatureRuntime,
        projection: PatchProjection,
        bank: NDArray[np.float32],
        settings: PatchCoreSettings,
    ) -> None:
        self._runtime = runtime
        self._projection = projection
        self._bank = bank
        self._settings = settings
        self._search: PatchSearch | None = None

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        context: FitContext,
        settings: PatchCoreSettings | None = None,
    ) -> Fitted[Self]:
        """Build the bank from all canvases, and score each one by a bank that never saw it.

        Cross-fitting (K folds) keeps every image in the deployed bank and every image in the reference: holding a part
        out would cost detection where images are few. Its scores are those of banks smaller by 1/K, so the reference
        lies a trifle above what new images get; the decision page on calibration gives the measured bias.

        Args:
            canvases: (h, w, 3) uint8 each, sides multiples of the stride.
            runtime: the frozen backbone.
            context: its seed is that of the folds and of the coreset's first pick.
            settings: by default `PatchCoreSettings`.
        """
        seed, progress = context.seed, context.progress
        settings = replace(settings or PatchCoreSettings(), canvas_size=common_size(canvases))
        raw, grids = [], []
        for index, canvas in enumerate(canvases):
            progress("features", index, len(canvases))
            features = runtime.features(canvas)
            raw.append(features.reshape(-1, features.shape[-1]))
            grids.append(features.shape[:2])
        n_folds = int(np.clip(IMAGES_TIMES_FOLDS // len(canvases), MIN_FOLDS, min(MAX_FOLDS, len(canvases))))
        folds = fold_of(len(canvases), n_folds=n_folds, rng=np.random.default_rng(seed))
        members = [np.flatnonzero(folds == fold) for fold in range(n_folds)]
        moments = _moments_of(raw, members)
        everything = reduce(operator.add, moments)
        fold_of_patch = np.repeat(folds, [len(each) for each in raw])
        patches = np.concatenate(raw)
        lengths = [len(each) for each in raw]
        del raw  # as much again as `patches`
        scores = np.empty(len(canvases))
        for fold, own in enumerate(members):
            progress("reference", fold, n_folds)
            # The projection must not know the fold either: its directions fit the noise of the patches they are made of,
            # which lifted the reference of 40 images by half a standard deviation.
            projection = PatchProjection.of(everything - moments[fold], dimensions=settings.dimensions)
            projected = projection.apply(patches)
            bank = MemoryBank(_build_bank(projected[fold_of_patch != fold], settings, seed=seed))
            distances = bank.nearest(projected[fold_of_patch == fold])
            ends = np.cumsum([lengths[i] for i in own])
            for i, of_image in zip(own, np.split(distances, ends[:-1]), strict=True):
                scores[i] = _score_distances(of_image.reshape(grids[i]), settings).score
        progress("bank", 0, 1)
        projection = PatchProjection.of(everything, dimensions=settings.dimensions)
        bank_patches = _build_bank(projection.apply(patches), settings, seed=seed)
        model = cls(runtime, projection, bank_patches, settings)
        return Fitted(model, np.arange(len(canvases), dtype=np.int64), scores)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        if self._search is None:  # only now: a version that is fitted and saved never pays for its compilation
            self._search = self._runtime.searcher(self._projection, self._bank, fixed_size=self._settings.canvas_size)
        return _score_distances(self._search(canvas), self._settings)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"bank": self._bank, **self._projection.arrays()}

    def settings_record(self) -> dict[str, object]:
        return asdict(self._settings)

    def save_network(self, folder: Path) -> None:
        """Nothing: the search is made of the arrays."""

    @classmethod
    def restore(
        cls,
        *,
        arrays: Mapping[str, NDArray[np.float32]],
        settings: Mapping[str, object],
        runtime: FeatureRuntime,
        folder: Path,
    ) -> Self:
        chosen = PatchCoreSettings(**cast("dict[str, Any]", dict(settings)))
        if chosen.canvas_size is not None:  # JSON has no tuples
            chosen = replace(chosen, canvas_size=(chosen.canvas_size[0], chosen.canvas_size[1]))
        return cls(runtime, PatchProjection.restore(arrays), arrays["bank"], chosen)


def _moments_of(raw: Sequence[NDArray[np.float32]], members: Sequence[NDArray[np.int64]]) -> list[PatchMoments]:
    step = max(1, sum(map(len, raw)) // MAX_FITTED_PATCHES)
    return [PatchMoments.of(np.concatenate([raw[i] for i in fold])[::step]) for fold in members]


def _build_bank(patches: NDArray[np.float32], settings: PatchCoreSettings, *, seed: int) -> NDArray[np.float32]:
    return patches[greedy_coreset(patches, min(settings.bank_size, len(patches)), seed=seed)]


def _score_distances(anomaly_map: NDArray[np.float32], settings: PatchCoreSettings) -> ImageScore:
    distances = anomaly_map.ravel()
    n_top = max(1, round(settings.top_share * distances.size))
    top = np.partition(distances, distances.size - n_top)[distances.size - n_top :]
    return ImageScore(float(np.sort(top).mean(dtype=np.float64)), anomaly_map)
