"""How much is kept in memory while a network learns: maps of so many images, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import LEAST_FITTED

MOST_LEARNED = 1000
"""Images whose maps are kept while a network learns; of more, a seeded draw."""
LEARNED_BYTES = 2**31
"""Of their maps. 1,000 images of 256 px take less with the embedded backbone; 200 of 320 × 448 px with a Wide ResNet would
take 4.5 GB."""

T = TypeVar("T")


def first_maps(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, names: Sequence[str]
) -> tuple[NDArray[np.float32], ...]:
    """Of the first canvas, to know channels and bytes before the others are read."""
    return next(iter(runtime.stream(canvases[:1], names)))


def n_affordable(maps: Iterable[NDArray[np.float32]]) -> int:
    """Of how many images maps like these of one image are kept: as many as a training needs, whatever they take.

    >>> n_affordable([np.empty((40, 56, 256), np.float32)])
    936
    """
    return max(LEAST_FITTED, min(MOST_LEARNED, LEARNED_BYTES // sum(each.nbytes for each in maps)))


def learned_from(fitted: NDArray[np.int64], *, most: int, seed: int) -> NDArray[np.int64]:
    """The images that are learned from: all that are fitted on, or a draw of ``most``, in order."""
    if len(fitted) <= most:
        return fitted
    return np.sort(np.random.default_rng(seed).choice(fitted, most, replace=False))


def released(kept: list[T]) -> Iterator[T]:
    """Each in order, and the list forgets it: what is made of it takes its place in memory."""
    kept.reverse()
    while kept:
        yield kept.pop()
