"""The memory bank: exact nearest neighbours among the normal patches, in FAISS."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import usable_threads


class MemoryBank:
    """Distances to the nearest of the bank's patches, found by exhaustive search.

    Exhaustive is what the paper does, and at the sizes of a coreset it is fast: one matrix product.
    """

    def __init__(self, patches: NDArray[np.float32]) -> None:
        """Hold ``patches``, (n, d) float32."""
        self.patches = np.ascontiguousarray(patches, np.float32)
        self._index = faiss.IndexFlatL2(self.patches.shape[1])
        self._index.add(self.patches)
        faiss.omp_set_num_threads(usable_threads())

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Euclidean distance of each query, (m, d) float32, to the nearest patch of the bank; (m,) float32."""
        squared, _ = self._index.search(np.ascontiguousarray(queries, np.float32), 1)
        return np.asarray(np.sqrt(np.maximum(squared[:, 0], 0.0)), np.float32)
