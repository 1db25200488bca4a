"""What every detector family obeys: fit on canvases, score a canvas, give and take its arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import CanvasSize, FeatureRuntime

ModelT = TypeVar("ModelT")

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many there are)."""


def no_progress(what: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class FitContext:
    """What a fit is given besides its images; a family takes what it needs.

    Attributes:
        seed: of all that is random: the same seed and images fit the same model, bit for bit on one machine.
        progress: told of each step.
        warm_start: a model of the same family to go on from, or None; families that learn in one pass ignore it.
        seen: (n,) bool, the canvases that must not stand in the reference: ``warm_start`` may have learned from them, or
            they are no photographs of these conditions.
        checkpoint: a folder in which an unfinished training is kept, so that one that was killed goes on; or None.
    """

    seed: int = 0
    progress: Progress = no_progress
    warm_start: Detector | None = None
    seen: NDArray[np.bool_] | None = None
    checkpoint: Path | None = None

    def from_scratch(self) -> FitContext:
        """The same without a warm start."""
        return replace(self, warm_start=None, seen=None)


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The anomaly score of one image and where it comes from."""

    score: float
    anomaly_map: NDArray[np.float32]
    """(rows, columns), one value a patch, on the scale of the score."""


@dataclass(frozen=True, slots=True)
class Fitted(Generic[ModelT]):
    """A fitted model, with scores of good images that it, or its twin without them, was not fitted on."""

    model: ModelT
    reference_index: NDArray[np.int64]
    """(n,), which of the given canvases the scores belong to."""
    reference_scores: NDArray[np.float64]
    """(n,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is left of the images that a model was fitted on, when it grows.

    Attributes:
        n_fitted: images that the model was fitted on.
        scores: (n,), the model's reference.
        learned: (n,) bool, which of its images the model learned from; the others were held back.
        canvases: (which of the scores, canvas) of the reference's images, as far as their files are still there; read
            while they are gone through, so a family that does not ask for them does not pay for them.
    """

    n_fitted: int
    scores: NDArray[np.float64]
    learned: NDArray[np.bool_]
    canvases: Iterable[tuple[int, NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True, eq=False)
class Grown(Generic[ModelT]):
    """A model that has learned from some more images, and its reference.

    Attributes:
        model: the grown one.
        known_index: which of `Known.scores` go on, in their order.
        known_scores: what those images score now.
        fresh_scores: (n,) of the added images, each by the grown model's twin without it.
    """

    model: ModelT
    known_index: NDArray[np.int64]
    known_scores: NDArray[np.float64]
    fresh_scores: NDArray[np.float64]


class Detector(Protocol):
    """One fitted model of one family, without the frame around it (images, threshold, reference)."""

    family: ClassVar[str]

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext
    ) -> Fitted[Self]:
        """Learn what good canvases, each (h, w, 3) uint8, look like, and score them by a model without them."""
        ...

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        """Score one (height, width, 3) uint8 canvas; the same canvas always gets the same score."""
        ...

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What was learned, by name, for safetensors."""
        ...

    def settings_record(self) -> dict[str, object]:
        """What was chosen, JSON-able."""
        ...

    def save_network(self, folder: Path) -> None:
        """Write what `restore` needs besides arrays and settings: a trained network as its runtime runs it."""
        ...

    @classmethod
    def restore(
        cls,
        *,
        arrays: Mapping[str, NDArray[np.float32]],
        settings: Mapping[str, object],
        runtime: FeatureRuntime,
        folder: Path,
    ) -> Self:
        """The model that `arrays`, `settings_record` and what `save_network` wrote into ``folder`` describe."""
        ...


@runtime_checkable
class Growing(Detector, Protocol):
    """A family that learns from some more images without learning the old ones again."""

    def grow(
        self,
        fresh: Sequence[NDArray[np.uint8]],
        *,
        parts: Sequence[NDArray[np.int64]],
        known: Known,
        context: FitContext,
    ) -> list[Grown[Self]]:
        """For each part of the ``fresh`` canvases the model with it added, as if the others were not there.

        A part is the indices of its canvases, in their order. This model stays as it is.
        """
        ...


def common_size(canvases: Sequence[NDArray[np.uint8]]) -> CanvasSize | None:
    """(height, width) of all canvases, None when they differ."""
    sizes = {(canvas.shape[0], canvas.shape[1]) for canvas in canvases}
    return sizes.pop() if len(sizes) == 1 else None
