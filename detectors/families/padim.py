"""PaDiM: one Gaussian a position of the part, and the distance to it (Defard et al., ICPR 2021, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import CanvasNetwork, CanvasSize, FeatureRuntime
from detectors.patches.aggregation import top_mean
from detectors.patches.gaussians import PositionMoments
from detectors.patches.patch_heads import gaussian_head, grid_head
from detectors.photographs.canvases import Chosen
from detectors.protocol import FitContext, Fitted, Grown, ImageScore, Known, Progress, common_size
from halfsigma import TooFewImages

BLOCK_IMAGES = 16
"""Whose features are held at a time."""


@dataclass(frozen=True, slots=True)
class PadimSettings:
    """What is chosen for a line.

    Attributes:
        dimensions: channels that are drawn at random (the paper's R_d); all of them where there are fewer.
        top_share: the image's score is the mean of this share of its most distant positions.
        n_channels: of the backbone; found while fitting.
        channels: which ones were drawn, ascending; found while fitting.
        grid: (rows, columns) of positions that every canvas is brought to; found while fitting.
        canvas_size: (height, width) of all canvases that were fitted on, None when they differ; found while fitting.
    """

    dimensions: int = 100
    top_share: float = 0.02
    n_channels: int = 0
    channels: tuple[int, ...] = ()
    grid: tuple[int, int] = (0, 0)
    canvas_size: CanvasSize | None = None


class Padim:
    """Mahalanobis distances to the Gaussians of a part's positions; the score is the mean over the most distant ones."""

    family: ClassVar[str] = "padim"

    def __init__(
        self, runtime: FeatureRuntime, arrays: Mapping[str, NDArray[np.float32]], settings: PadimSettings
    ) -> None:
        self._runtime = runtime
        self._arrays = dict(arrays)
        self._settings = settings
        self._distances: CanvasNetwork | None = None

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        context: FitContext,
        settings: PadimSettings | None = None,
    ) -> Fitted[Self]:
        """Gather the statistics of all canvases, and score each one by the Gaussians of the others.

        Features are computed twice instead of kept, so the memory does not grow with the number of images. A reference
        score is an exact leave-one-out (`LeftOut`): every image is in the Gaussians and in the reference.

        Args:
            canvases: (h, w, 3) uint8 each, sides multiples of the stride.
            runtime: the frozen backbone.
            context: its seed is that of the drawn channels.
            settings: by default `PadimSettings`.
        """
        settings = _settled(settings or PadimSettings(), canvases, runtime, seed=context.seed)
        features = _features(runtime, settings)
        moments = _moments(canvases, features, context.progress)
        index, (scores,) = _left_out_scores(enumerate(canvases), features, [moments], settings, context.progress)
        return Fitted(cls(runtime, moments.arrays(), settings), index, scores)

    def grow(
        self,
        fresh: Sequence[NDArray[np.uint8]],
        *,
        parts: Sequence[NDArray[np.int64]],
        known: Known,
        context: FitContext,
    ) -> list[Grown[Self]]:
        """Statistics of the old and the fresh images are those of all (Chan et al.); nothing old is learned again.

        Old distances change with the Gaussians, so the reference goes on with the old images that can be scored again,
        each of them, old or fresh, by the Gaussians without it: those that were held back were never in them. What the parts
        share, the features of the old images, is computed once.
        """
        features, progress = _features(self._runtime, self._settings), context.progress
        old = PositionMoments.restore(self._arrays)
        several = [old + _moments(Chosen(fresh, part), features, progress) for part in parts]
        index, of_known = _left_out_scores(
            known.canvases, features, several, self._settings, progress, learned=known.learned
        )
        grown = []
        for part, moments, scores in zip(parts, several, of_known, strict=True):
            own = ((i, fresh[i]) for i in part.tolist())
            _, (of_fresh,) = _left_out_scores(own, features, [moments], self._settings, progress)
            model = type(self)(self._runtime, moments.arrays(), self._settings)
            grown.append(Grown(model, index, scores, of_fresh))
        return grown

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        if self._distances is None:  # only now: a version that is fitted and saved never pays for its compilation
            # from the saved arrays, not from what the fit had in float64: a loaded version must score bit for bit alike
            gaussians = PositionMoments.restore(self._arrays).gaussians()
            mean, whitening = (each.astype(np.float32) for each in (gaussians.mean, gaussians.whitening))
            head = gaussian_head(
                np.array(self._settings.channels),
                self._settings.grid,
                mean,
                whitening,
                n_channels=self._settings.n_channels,
                runtime=self._runtime,
            )
            self._distances = self._runtime.network(head, fixed_size=self._settings.canvas_size)
        return top_mean(self._distances(canvas)[0], top_share=self._settings.top_share)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return dict(self._arrays)

    def settings_record(self) -> dict[str, object]:
        return asdict(self._settings)

    def save_network(self, folder: Path) -> None:
        """Nothing: the graph is made of the arrays."""

    @classmethod
    def restore(
        cls,
        *,
        arrays: Mapping[str, NDArray[np.float32]],
        settings: Mapping[str, object],
        runtime: FeatureRuntime,
        folder: Path,
    ) -> Self:
        given = cast("dict[str, Any]", dict(settings))
        tuples = ("channels", "grid", "canvas_size")  # JSON has none
        given |= {name: tuple(given[name]) for name in tuples if given[name] is not None}
        return cls(runtime, arrays, PadimSettings(**given))


def _settled(
    settings: PadimSettings, canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, *, seed: int
) -> PadimSettings:
    sizes = np.array([canvas.shape[:2] for canvas in canvases])
    rows, columns, n_channels = runtime.features(canvases[0]).shape
    # of a line whose parts differ, the middle of all heights and of all widths
    middle = np.median(sizes, axis=0) * (rows, columns) / sizes[0]
    drawn = np.random.default_rng(seed).choice(n_channels, min(settings.dimensions, n_channels), replace=False)
    return replace(
        settings,
        n_channels=n_channels,
        channels=tuple(sorted(drawn.tolist())),
        grid=(round(middle[0]), round(middle[1])),
        canvas_size=common_size(canvases),
    )


def _features(runtime: FeatureRuntime, settings: PadimSettings) -> CanvasNetwork:
    head = grid_head(np.array(settings.channels), settings.grid, n_channels=settings.n_channels, runtime=runtime)
    return runtime.network(head, fixed_size=settings.canvas_size)


def _moments(canvases: Sequence[NDArray[np.uint8]], features: CanvasNetwork, progress: Progress) -> PositionMoments:
    moments: PositionMoments | None = None
    for index, block in _blocks(enumerate(canvases), features):
        progress("features", index[0], len(canvases))
        of_block = PositionMoments.of(block)
        moments = of_block if moments is None else moments + of_block
    if moments is None:
        raise TooFewImages("no image to fit on", hint="give good images of the part")
    return moments


def _left_out_scores(
    canvases: Iterable[tuple[int, NDArray[np.uint8]]],
    features: CanvasNetwork,
    several: Sequence[PositionMoments],
    settings: PadimSettings,
    progress: Progress,
    *,
    learned: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """(n,) indices of images, and for each of several moments their (n,) scores by the Gaussians of the others.

    All moments are of all of these images, or of those of which ``learned`` says so.
    """
    left_out = [moments.left_out() for moments in several]
    everyone = [None if learned is None or learned.all() else moments.gaussians() for moments in several]
    places: list[int] = []
    scores: list[list[float]] = [[] for _ in several]
    for index, block in _blocks(canvases, features):
        progress("reference", len(places), several[0].n)
        places += index
        inside = np.ones(len(block), bool) if learned is None else learned[index]
        for without, gaussians, found in zip(left_out, everyone, scores, strict=True):
            distances = np.empty(block.shape[:2], np.float32)
            distances[inside] = without.distances(block[inside])
            if gaussians is not None:
                distances[~inside] = np.sqrt(gaussians.squared_distances(block[~inside]))
            found += [top_mean(each.reshape(settings.grid), top_share=settings.top_share).score for each in distances]
    return np.array(places, np.int64), [np.array(found, np.float64) for found in scores]


def _blocks(
    canvases: Iterable[tuple[int, NDArray[np.uint8]]], features: CanvasNetwork
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Indices and (n, positions, d) features of up to `BLOCK_IMAGES` canvases at a time."""
    waiting = iter(canvases)
    while block := list(islice(waiting, BLOCK_IMAGES)):
        maps = features.stream(canvas for _, canvas in block)
        yield [index for index, _ in block], np.stack([each.reshape(-1, each.shape[-1]) for (each,) in maps])
