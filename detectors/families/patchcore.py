"""PatchCore: a coreset of normal patches, and the distance to it (Roth et al., CVPR 2022, arXiv 2106.08265)."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import CanvasNetwork, CanvasSize, FeatureRuntime
from detectors.backbones.tracing import PATCHES
from detectors.calibration import MIN_FOLDS, fold_of, n_folds_of
from detectors.patches.aggregation import TOP_SHARE, top_mean
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset, greedy_growths
from detectors.patches.patch_heads import nearest_head
from detectors.patches.streamed_bank import BuiltBank, stream_bank
from detectors.patches.whitening import MAX_FITTED_PATCHES, PatchMoments, PatchProjection, thinned
from detectors.protocol import FitContext, Fitted, Grown, ImageScore, Known, common_size
from halfsigma import DetectorError

HELD_FEATURES_BYTES = 400_000_000
"""Features of more bytes are streamed. Held, they need three times as much: 1,280 images of 256 px, 320 of 512 px."""
MAX_GROWTH = 2.0
"""Times its first size, to which a bank grows before it must be built again: it costs time on every image."""


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
    top_share: float = TOP_SHARE
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
        self._search: CanvasNetwork | None = None

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

        Features of more than `HELD_FEATURES_BYTES` are streamed (`detectors.patches.streamed_bank`): the memory is bounded, and
        the bank covers the patches within twice the distance that one coreset over everything guarantees.

        Args:
            canvases: (h, w, 3) uint8 each, sides multiples of the stride.
            runtime: the frozen backbone.
            context: its seed is that of the folds and of the coreset's first pick.
            settings: by default `PatchCoreSettings`.
        """
        settings = replace(settings or PatchCoreSettings(), canvas_size=common_size(canvases))
        n_folds = n_folds_of(len(canvases))
        folds = fold_of(len(canvases), n_folds=n_folds, rng=np.random.default_rng(context.seed))
        members = [np.flatnonzero(folds == fold) for fold in range(n_folds)]
        first = runtime.features(canvases[0])
        patches_per_pixel = first[..., 0].size / canvases[0][..., 0].size
        n_patches = round(patches_per_pixel * sum(canvas[..., 0].size for canvas in canvases))
        if n_patches * first.shape[-1] * first.itemsize <= HELD_FEATURES_BYTES:
            built = _build_at_once(canvases, members, runtime, settings, context)
        else:
            built = stream_bank(
                canvases,
                members,
                features=lambda several: (found for (found,) in runtime.stream(several, (PATCHES,))),
                n_patches=n_patches,
                bank_size=settings.bank_size,
                dimensions=settings.dimensions,
                top_share=settings.top_share,
                seed=context.seed,
                progress=context.progress,
            )
        model = cls(runtime, built.projection, built.patches, settings)
        return Fitted(model, np.arange(len(canvases), dtype=np.int64), built.scores)

    def grow(
        self,
        fresh: Sequence[NDArray[np.uint8]],
        *,
        parts: Sequence[NDArray[np.int64]],
        known: Known,
        context: FitContext,
    ) -> list[Grown[Self]]:
        """Add to the bank those patches of the fresh images that lie farthest from it, in proportion to their number.

        Projection and old bank stay, so scores stay on their scale, and no image can score higher than before: the old
        reference goes on as it is, at worst a trifle too high. Each fresh image is scored by the old bank grown from the
        other folds' fresh images.

        Raises:
            DetectorError: the bank has grown to `MAX_GROWTH` times its size.
        """
        most = round(MAX_GROWTH * self._settings.bank_size)
        share = len(self._bank) / known.n_fitted
        n_most = max(map(len, parts))
        if len(self._bank) + round(share * n_most) > most:
            raise DetectorError(
                f"the bank has {len(self._bank)} patches, {n_most} images more would take it beyond {most}",
                hint="fit the line again on all of its good images",
            )
        maps = []
        for index, (found,) in enumerate(self._runtime.stream(fresh, (PATCHES,))):
            context.progress("features", index, len(fresh))
            maps.append(self._projection.apply(found.reshape(-1, found.shape[-1])))
        folds = [_fold_members(part, seed=context.seed) for part in parts]
        several = []
        for part, members in zip(parts, folds, strict=True):
            several += [part, *(np.setdiff1d(part, own) for own in members)]
        banks = iter(self._grown_banks(maps, several, share))
        grown = []
        for part, members in zip(parts, folds, strict=True):
            model = type(self)(self._runtime, self._projection, next(banks), self._settings)
            scores = np.empty(len(fresh))
            for fold, own in enumerate(members):
                context.progress("reference", fold, len(members))
                bank = MemoryBank(next(banks))
                for i in own:
                    scores[i] = top_mean(bank.nearest(maps[i]), top_share=self._settings.top_share).score
            grown.append(Grown(model, np.arange(known.scores.size, dtype=np.int64), known.scores.copy(), scores[part]))
        return grown

    def _grown_banks(
        self, maps: Sequence[NDArray[np.float32]], parts: Sequence[NDArray[np.int64]], picks_an_image: float
    ) -> list[NDArray[np.float32]]:
        """The bank with what each part of the images adds to it."""
        image_of_patch = np.repeat(np.arange(len(maps)), [len(each) for each in maps])
        patches = np.concatenate(maps)
        wanted = []
        for part in parts:
            rows = np.flatnonzero(np.isin(image_of_patch, part))
            wanted.append((rows, min(max(1, round(picks_an_image * len(part))), len(rows))))
        return [
            np.concatenate([self._bank, patches[rows]]) for rows in greedy_growths(patches, wanted, start=self._bank)
        ]

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        return top_mean(self._searching()(canvas)[0], top_share=self._settings.top_share)

    def score_all(self, canvases: Iterable[NDArray[np.uint8]]) -> Iterator[ImageScore]:
        """`score` of each, in order, for whoever has many."""
        for (distances,) in self._searching().stream(canvases):
            yield top_mean(distances, top_share=self._settings.top_share)

    def _searching(self) -> CanvasNetwork:
        if self._search is None:  # only now: a version that is fitted and saved never pays for its compilation
            head = nearest_head(self._projection, self._bank, runtime=self._runtime)
            self._search = self._runtime.network(head, fixed_size=self._settings.canvas_size)
        return self._search

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


def _fold_members(part: NDArray[np.int64], *, seed: int) -> list[NDArray[np.int64]]:
    folds = fold_of(len(part), n_folds=min(MIN_FOLDS, len(part)), rng=np.random.default_rng(seed))
    return [part[folds == fold] for fold in range(folds.max() + 1)]


def _build_at_once(
    canvases: Sequence[NDArray[np.uint8]],
    members: Sequence[NDArray[np.int64]],
    runtime: FeatureRuntime,
    settings: PatchCoreSettings,
    context: FitContext,
) -> BuiltBank:
    """With all features in memory: one coreset over everything, and one for each fold over the others."""
    seed, progress = context.seed, context.progress
    raw, grids = [], []
    for index, (features,) in enumerate(runtime.stream(canvases, (PATCHES,))):
        progress("features", index, len(canvases))
        raw.append(features.reshape(-1, features.shape[-1]))
        grids.append(features.shape[:2])
    moments = _moments_of(raw, members)
    everything = reduce(operator.add, moments)
    lengths = [len(each) for each in raw]
    folds = np.empty(len(canvases), np.int64)
    for fold, own in enumerate(members):
        folds[own] = fold
    fold_of_patch = np.repeat(folds, lengths)
    patches = np.concatenate(raw)
    del raw  # as much again as `patches`
    scores = np.empty(len(canvases))
    for fold, own in enumerate(members):
        progress("reference", fold, len(members))
        # The projection must not know the fold either: its directions fit the noise of the patches they are made of,
        # which lifted the reference of 40 images by half a standard deviation.
        projection = PatchProjection.of(everything - moments[fold], dimensions=settings.dimensions)
        projected = projection.apply(patches)
        bank = MemoryBank(_build_bank(projected[fold_of_patch != fold], settings, seed=seed))
        distances = bank.nearest(projected[fold_of_patch == fold])
        ends = np.cumsum([lengths[i] for i in own])
        for i, of_image in zip(own, np.split(distances, ends[:-1]), strict=True):
            scores[i] = top_mean(of_image.reshape(grids[i]), top_share=settings.top_share).score
    progress("bank", 0, 1)
    projection = PatchProjection.of(everything, dimensions=settings.dimensions)
    return BuiltBank(projection, _build_bank(projection.apply(patches), settings, seed=seed), scores)


def _moments_of(raw: Sequence[NDArray[np.float32]], members: Sequence[NDArray[np.int64]]) -> list[PatchMoments]:
    step = max(1, sum(map(len, raw)) // MAX_FITTED_PATCHES)
    return [PatchMoments.of(thinned(np.concatenate([raw[i] for i in fold]), step)) for fold in members]


def _build_bank(patches: NDArray[np.float32], settings: PatchCoreSettings, *, seed: int) -> NDArray[np.float32]:
    return patches[greedy_coreset(patches, min(settings.bank_size, len(patches)), seed=seed)]
