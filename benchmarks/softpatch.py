"""SoftPatch, for comparison: patches that are unlike others of their place are no part of the bank, or count more.

Jiang et al., "SoftPatch: Unsupervised Anomaly Detection with Noisy Data", NeurIPS 2022 (arXiv 2403.14233), written after the
authors' code (TencentYoutuResearch/AnomalyDetection-SoftPatch, `src/softpatch.py`): the local outlier factor among the
patches of one place, five neighbours; the 15 % with the largest are not sampled from; a distance is multiplied by the
factor of the patch that was found. Features, bank size and the score of an image are those of the others in the comparison.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor

from detectors.patches.coreset import greedy_coreset

NEIGHBOURS = 5
NOISE_SHARE = 0.15


class SoftPatch:
    """A bank whose patches carry weights."""

    def __init__(self, bank: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
        self._weights = weights
        self._index = faiss.IndexFlatL2(bank.shape[1])
        self._index.add(np.ascontiguousarray(bank))

    @classmethod
    def fit(cls, patches: NDArray[np.float32], grids: NDArray[np.int64], *, bank_size: int) -> SoftPatch:
        """Of (n, dimensions) float32 ``patches``, image by image, of (images, 2) ``grids``: rows and columns of each."""
        places, factors = _places(grids), np.ones(len(patches))
        for place in np.unique(places):
            members = np.flatnonzero(places == place)
            if members.size > NEIGHBOURS:
                found = LocalOutlierFactor(n_neighbors=NEIGHBOURS).fit(patches[members])
                factors[members] = -found.negative_outlier_factor_
        sampled = np.flatnonzero(factors <= np.quantile(factors, 1.0 - NOISE_SHARE))
        bank = sampled[greedy_coreset(patches[sampled], min(bank_size, sampled.size), seed=0)]
        return cls(patches[bank], factors[bank])

    def nearest(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dimensions) → (n,) weighted distances."""
        squared, found = self._index.search(np.ascontiguousarray(patches), 1)
        return np.asarray(np.sqrt(np.maximum(squared[:, 0], 0.0)) * self._weights[found[:, 0]], np.float32)


def _places(grids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the place of each patch: its own where all grids are alike, else the same share of height and width."""
    rows, columns = np.median(grids, axis=0).astype(int)
    return np.concatenate(
        [
            ((np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width).ravel()
            for height, width in grids
        ]
    )
