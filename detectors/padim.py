"""PaDiM: one Gaussian a position of the part, and the distance to it (Defard et al., ICPR 2021, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.aggregation import TOP_SHARE, top_mean
from detectors.gaussians import PositionMoments
from detectors.patch_heads import gaussian_head, grid_head
from detectors.protocol import FitContext, Fitted, ImageScore, common_size
from detectors.runtime import CanvasNetwork, CanvasSize, FeatureRuntime

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
    top_share: float = TOP_SHARE
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
        progress = context.progress
        settings = _settled(settings or PadimSettings(), canvases, runtime, seed=context.seed)
        chosen = np.array(settings.channels)
        head = grid_head(chosen, settings.grid, n_channels=settings.n_channels, runtime=runtime)
        features = runtime.network(head, fixed_size=settings.canvas_size)
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


def _blocks(
    canvases: Sequence[NDArray[np.uint8]], features: CanvasNetwork
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(index of the first, (n, positions, d) features) of up to `BLOCK_IMAGES` canvases at a time."""
    for start in range(0, len(canvases), BLOCK_IMAGES):
        maps = [features(canvas)[0] for canvas in canvases[start : start + BLOCK_IMAGES]]
        yield start, np.stack([each.reshape(-1, each.shape[-1]) for each in maps])
