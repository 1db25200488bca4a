"""What every detector family obeys: fit on canvases, score a canvas, give and take its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.runtime import FeatureRuntime

ModelT = TypeVar("ModelT")

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many there are)."""


def no_progress(what: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


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


class Detector(Protocol):
    """One fitted model of one family, without the frame around it (images, threshold, reference)."""

    family: ClassVar[str]

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, seed: int, progress: Progress
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

    @classmethod
    def restore(
        cls, *, arrays: Mapping[str, NDArray[np.float32]], settings: Mapping[str, object], runtime: FeatureRuntime
    ) -> Self:
        """The model that `arrays` and `settings_record` describe."""
        ...
