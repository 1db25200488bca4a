"""A bank over any number of images in bounded memory: coresets of parts, then a coreset of their union.

Greedy k-center picks k points within twice the best covering radius that any k centres reach (Gonzalez, 1985), and a part
is never harder to cover than the whole. So each part's picks lie within 2 r of its patches, the picks among those within
another 2 r, and the bank covers every patch within 4 r, where greedy over everything at once guarantees 2 r. Parts are
covered in the backbone's own space, whose distances no projection lengthens: the bound holds with r of that space.

Nothing of a fold is in what its images are scored by: a part lies in one fold, and its picks are made from it alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from detectors.patches.aggregation import top_mean
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import MAX_FITTED_PATCHES, PatchMoments, PatchProjection, thinned
from detectors.protocol import Progress

PART_PATCHES = 100_000
"""Of 304 channels 122 MB, which the selection needs twice more; a bank of 2,048 is a coreset of one in 49."""

Features = Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, eq=False)
class BuiltBank:
    """What a fit is made of, and the reference."""

    projection: PatchProjection
    patches: NDArray[np.float32]
    """(bank_size, dimensions), projected."""
    scores: NDArray[np.float64]
    """(n,), of every image by a bank and a projection without its fold."""


def stream_bank(
    canvases: Sequence[NDArray[np.uint8]],
    members: Sequence[NDArray[np.int64]],
    *,
    features: Features,
    n_patches: int,
    bank_size: int,
    dimensions: int,
    top_share: float,
    seed: int,
    progress: Progress,
) -> BuiltBank:
    """Build the bank and cross-fit the reference with the features of one part, and the picks of all, in memory.

    Features are computed twice: for the picks, and for the scores, whose banks need the picks of all other folds. A
    scratch file of them would take 0.6 MB an image of 512 px, in half precision.

    Args:
        canvases: (h, w, 3) uint8 each.
        members: the canvases of each fold.
        features: of several canvases, (h, w, 3) → (rows, columns, channels) each, in their order.
        n_patches: of all canvases together.
        bank_size, dimensions, top_share: as `PatchCoreSettings` has them.
        seed: of each coreset's first pick.
        progress: told of features and reference.
    """
    step = max(1, n_patches // MAX_FITTED_PATCHES)
    moments: list[PatchMoments] = []
    picks: list[NDArray[np.float32]] = []
    done = 0
    for fold in members:
        n_parts = math.ceil(n_patches * len(fold) / len(canvases) / PART_PATCHES)
        of_fold: list[PatchMoments] = []
        kept: list[NDArray[np.float32]] = []
        for part in np.array_split(fold, n_parts):
            patches = np.concatenate(list(_flat(canvases, part, features)))
            done += len(part)
            progress("features", done, len(canvases))
            of_fold.append(PatchMoments.of(thinned(patches, step)))
            kept.append(patches[greedy_coreset(patches, min(bank_size, len(patches)), seed=seed)])
        moments.append(reduce(operator.add, of_fold))
        picks.append(np.concatenate(kept))
    everything = reduce(operator.add, moments)
    scores = np.empty(len(canvases))
    done = 0
    for number, fold in enumerate(members):
        projection = PatchProjection.of(everything - moments[number], dimensions=dimensions)
        others = projection.apply(np.concatenate([each for k, each in enumerate(picks) if k != number]))
        bank = MemoryBank(others[greedy_coreset(others, min(bank_size, len(others)), seed=seed)])
        for i, patches in zip(fold, _flat(canvases, fold, features), strict=True):
            progress("reference", done, len(canvases))
            done += 1
            scores[i] = top_mean(bank.nearest(projection.apply(patches)), top_share=top_share).score
    progress("bank", 0, 1)
    projection = PatchProjection.of(everything, dimensions=dimensions)
    union = projection.apply(np.concatenate(picks))
    return BuiltBank(projection, union[greedy_coreset(union, min(bank_size, len(union)), seed=seed)], scores)


def _flat(
    canvases: Sequence[NDArray[np.uint8]], indices: NDArray[np.int64], features: Features
) -> Iterator[NDArray[np.float32]]:
    """(patches, channels) of each."""
    for found in features(canvases[i] for i in indices.tolist()):
        yield found.reshape(-1, found.shape[-1])
