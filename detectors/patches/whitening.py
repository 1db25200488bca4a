"""A linear map of patch features to fewer, comparable dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_FITTED_PATCHES = 200_000
"""Covariances of 400 channels are known to a fraction of a per cent from this many patches."""
_GOLDEN = (5**0.5 - 1) / 2


def thinned(patches: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """One patch of each ``step`` consecutive ones, (n, channels).

    A stride would read the same columns of every image's grid where the two have a divisor. So the place within a step
    changes, by the golden ratio, which is near no fraction; it needs neither the grids, which may differ, nor a seed.
    """
    if step == 1:
        return patches
    starts = np.arange(0, len(patches), step)
    places = starts + (step * (np.arange(len(starts)) * _GOLDEN % 1.0)).astype(np.int64)
    return patches[places[places < len(patches)]]


@dataclass(frozen=True, slots=True)
class PatchMoments:
    """Count, sum and products of patches: those of a part can be taken away from those of the whole."""

    n: int
    total: NDArray[np.float64]
    """(channels,)"""
    products: NDArray[np.float64]
    """(channels, channels)"""

    @classmethod
    def of(cls, patches: NDArray[np.float32]) -> PatchMoments:
        """Of (n, channels) float32 ``patches``."""
        wide = patches.astype(np.float64)
        return cls(len(wide), wide.sum(axis=0), wide.T @ wide)

    @classmethod
    def described_by(cls, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> PatchMoments:
        """Of patches of which only these, (channels,) and (channels, channels), are known: they count as one."""
        return cls(1, mean, covariance + np.outer(mean, mean))

    def mean(self) -> NDArray[np.float64]:
        """(channels,)"""
        return self.total / self.n

    def covariance(self) -> NDArray[np.float64]:
        """(channels, channels)"""
        return self.products / self.n - np.outer(self.mean(), self.mean())

    def projected(self, projection: PatchProjection) -> PatchMoments:
        """Of the same patches after ``projection``."""
        matrix = projection.matrix.astype(np.float64)
        mean = (self.mean() - projection.mean) @ matrix
        products = matrix.T @ self.covariance() @ matrix + np.outer(mean, mean)
        return PatchMoments(self.n, self.n * mean, self.n * products)

    def __add__(self, other: PatchMoments) -> PatchMoments:
        return PatchMoments(self.n + other.n, self.total + other.total, self.products + other.products)

    def __sub__(self, other: PatchMoments) -> PatchMoments:
        return PatchMoments(self.n - other.n, self.total - other.total, self.products - other.products)


@dataclass(frozen=True, slots=True)
class PatchProjection:
    """Principal components of the normal patches."""

    mean: NDArray[np.float32]
    """(channels,)"""
    matrix: NDArray[np.float32]
    """(channels, dimensions)"""

    @classmethod
    def of(cls, moments: PatchMoments, *, dimensions: int) -> PatchProjection:
        """The leading components of patches with these moments; signs fixed so that a fit can be repeated."""
        mean = moments.mean()
        variances, directions = np.linalg.eigh(moments.covariance())
        order = np.argsort(variances)[::-1][:dimensions]
        chosen = directions[:, order]
        chosen *= np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
        return cls(mean.astype(np.float32), chosen.astype(np.float32))

    @classmethod
    def fit(cls, patches: NDArray[np.float32], *, dimensions: int) -> PatchProjection:
        """Principal components of (n, channels) float32 ``patches``, of at most `MAX_FITTED_PATCHES` of them."""
        step = max(1, len(patches) // MAX_FITTED_PATCHES)
        return cls.of(PatchMoments.of(thinned(patches, step)), dimensions=dimensions)

    def apply(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, channels) → (n, dimensions) float32."""
        return np.asarray((patches - self.mean) @ self.matrix, np.float32)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"projection.mean": self.mean, "projection.matrix": self.matrix}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[np.float32]]) -> PatchProjection:
        return cls(arrays["projection.mean"], arrays["projection.matrix"])
