"""PaDiM: one Gaussian a position of the part, and the distance to it (Defard et al., ICPR 2021, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.aggregation import TOP_SHARE, top_mean
from detectors.gaussians import PositionMoments
from detectors.heads import GaussianHead, GridHead
from detectors.protocol import Fitted, ImageScore, Progress, no_progress
from detectors.runtime import CanvasSize, FeatureRuntime, PatchFunction

BLOCK_IMAGES = 16
"""Whose features are held at a time."""


@dataclass(frozen=True, slots=True)
class PadimSettings:
    """What is chosen for a line.

    Attributes:
        dimensions: channels that are drawn at random (the paper's R_d); all of them where there are fewer.
        top_share: the image's score is the mean of this share of its most distant positions.
        channels: which ones were drawn, ascending; found while fitting.
        grid: (rows, columns) of positions that every canvas is brought to; found while fitting.
        canvas_size: (height, width) of all canvases that were fitted on, None when they differ; found while fitting.
    """

    dimensions: int = 100
    top_share: float = TOP_SHARE
    channels: tuple[int, ...] = ()
    grid: tuple[int, int] = (0, 0)
    canvas_size: CanvasSize | None = None

    @property
    def head(self) -> GridHead:
        """What the Gaussians are of."""
        return GridHead(np.array(self.channels, np.int64), self.grid)


class Padim:
    """Mahalanobis distances to the Gaussians of a part's positions; the score is the mean over the most distant ones."""

    family: ClassVar[str] = "padim"

    def __init__(
        self, runtime: FeatureRuntime, arrays: Mapping[str, NDArray[np.float32]], settings: PadimSettings
    ) -> None:
        self._runtime = runtime
        self._arrays = dict(arrays)
        self._settings = settings
        self._distances: PatchFunction | None = None

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        seed: int,
        settings: PadimSettings | None = None,
        progress: Progress = no_progress,
    ) -> Fitted[Self]:
        """Gather the statistics of all canvases, and score each one by the Gaussians of the others.

        Features are computed twice instead of kept, so the memory does not grow with the number of images. A reference
        score is an exact leave-one-out (`LeftOut`): every image is in the Gaussians and in the reference.

        Args:
            canvases: (h, w, 3) uint8 each, sides multiples of the stride.
            runtime: the frozen backbone.
            seed: of the drawn channels.
            settings: by default `PadimSettings`.
            progress: told of features and the reference.
        """
        settings = _settled(settings or PadimSettings(), canvases, runtime, seed=seed)
        features = runtime.with_head(settings.head, fixed_size=settings.canvas_size)
        moments: PositionMoments | None = None
        for start, block in _blocks(canvases, features):
            progress("features", start, len(canvases))
            of_block = PositionMoments.of(block)
            moments = of_block if moments is None else moments + of_block
        assert moments is not None, "there is no fit without a canvas"
        left_out = moments.left_out()
        scores = np.empty(len(canvases))
        for start, block in _blocks(canvases, features):
            progress("reference", start, len(canvases))
            for i, of_image in enumerate(left_out.distances(block).astype(np.float32), start):
                scores[i] = top_mean(of_image.reshape(settings.grid), top_share=settings.top_share).score
        return Fitted(cls(runtime, moments.arrays(), settings), np.arange(len(canvases), dtype=np.int64), scores)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        if self._distances is None:  # only now: a version that is fitted and saved never pays for its compilation
            # from the saved arrays, not from what the fit had in float64: a loaded version must score bit for bit alike
            gaussians = PositionMoments.restore(self._arrays).gaussians()
            mean, whitening = (each.astype(np.float32) for each in (gaussians.mean, gaussians.whitening))
            head = GaussianHead(self._settings.head, mean, whitening)
            self._distances = self._runtime.with_head(head, fixed_size=self._settings.canvas_size)
        return top_mean(self._distances(canvas), top_share=self._settings.top_share)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return dict(self._arrays)

    def settings_record(self) -> dict[str, object]:
        return asdict(self._settings)

    @classmethod
    def restore(
        cls, *, arrays: Mapping[str, NDArray[np.float32]], settings: Mapping[str, object], runtime: FeatureRuntime
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
        channels=tuple(sorted(drawn.tolist())),
        grid=(round(middle[0]), round(middle[1])),
        canvas_size=(int(sizes[0, 0]), int(sizes[0, 1])) if (sizes == sizes[0]).all() else None,
    )


def _blocks(
    canvases: Sequence[NDArray[np.uint8]], features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(index of the first, (n, positions, d) features) of up to `BLOCK_IMAGES` canvases at a time."""
    for start in range(0, len(canvases), BLOCK_IMAGES):
        maps = [features(canvas) for canvas in canvases[start : start + BLOCK_IMAGES]]
        yield start, np.stack([each.reshape(-1, each.shape[-1]) for each in maps])
