"""One Gaussian a position, by statistics that are gathered in a stream and added to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

RIDGE_SHARE = 0.03
"""Added to every variance, as a share of the mean variance over all positions and channels (the paper's ε = 0.01,
free of the backbone's scale). docs/decisions/padim.md compares it with Oracle and pooled shrinkage."""
LEAST_RIDGE = 1e-6
"""Where images do not vary at all a distance is still defined."""


@dataclass(frozen=True, slots=True, eq=False)
class PositionMoments:
    """Count, means and scatter matrices; those of two sets of images add up to those of their union.

    Attributes:
        n: images.
        mean: (positions, d) float64.
        scatter: (positions, d, d) float64, sums of outer products of deviations from the mean.
    """

    n: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> PositionMoments:
        """Of (n, positions, d) features, n at least 1."""
        by_position = features.astype(np.float64).transpose(1, 0, 2)
        mean = by_position.mean(axis=1)
        deviations = by_position - mean[:, None, :]
        return cls(len(features), mean, deviations.transpose(0, 2, 1) @ deviations)

    def __add__(self, other: PositionMoments) -> PositionMoments:
        """Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979."""
        n = self.n + other.n
        step = other.mean - self.mean
        between = step[:, :, None] * step[:, None, :]
        between *= self.n * other.n / n
        between += self.scatter
        between += other.scatter
        return PositionMoments(n, self.mean + step * (other.n / n), between)

    def gaussians(self) -> Gaussians:
        """The Gaussians that these moments estimate; of n at least 2."""
        d = self.mean.shape[1]
        degrees = self.n - 1
        covariance = self.scatter / degrees
        covariance[:, np.arange(d), np.arange(d)] += _ridge(np.einsum("pdd->", self.scatter), degrees, self.mean.size)
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        return Gaussians(self.mean, factor.transpose(0, 2, 1))

    def left_out(self) -> LeftOut:
        """What gives each of these images its distance to the Gaussians of the others; of n at least 3."""
        variances, directions = np.linalg.eigh(self.scatter / (self.n - 2))
        return LeftOut(self.n, self.mean, variances, directions)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """float32, the scatter's upper triangles alone: half the bytes."""
        rows, columns = np.triu_indices(self.mean.shape[1])
        return {
            "moments.n": np.array([self.n], np.float32),
            "moments.mean": self.mean.astype(np.float32),
            "moments.scatter": self.scatter[:, rows, columns].astype(np.float32),
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[np.float32]]) -> Self:
        mean = arrays["moments.mean"].astype(np.float64)
        n_positions, d = mean.shape
        rows, columns = np.triu_indices(d)
        scatter = np.empty((n_positions, d, d))
        scatter[:, rows, columns] = scatter[:, columns, rows] = arrays["moments.scatter"]
        return cls(int(arrays["moments.n"][0]), mean, scatter)


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """A mean and a whitening matrix a position."""

    mean: NDArray[np.float64]
    """(positions, d)"""
    whitening: NDArray[np.float64]
    """(positions, d, d), upper triangular; a whitened row vector is ``x @ whitening``."""

    def squared_distances(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of (n, positions, d) features: (n, positions)."""
        centred = (features - self.mean).transpose(1, 0, 2)
        return np.asarray(np.square(centred @ self.whitening).sum(axis=2).T)


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Leave-one-out distances, exact, without a covariance for every image that is left out.

    Attributes:
        n: images that the moments are of.
        mean: (positions, d), theirs.
        variances: (positions, d), eigenvalues of the scatter over n - 2.
        directions: (positions, d, d), eigenvectors in columns.
    """

    n: int
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    directions: NDArray[np.float64]

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mahalanobis distance of (m, positions, d) features, of m of the n images: (m, positions).

        With S the scatter of all n and δ the image's deviation from their mean, the others' scatter is
        S - n/(n - 1) δδᵀ, the deviation from their mean n/(n - 1) δ, and their ridge follows from the trace of their
        scatter. By Sherman and Morrison, q = δᵀ(S/(n - 2) + ridge)⁻¹δ becomes (n/(n - 1))² q / (1 - c q), with
        c = n / ((n - 1)(n - 2)).
        """
        n = self.n
        centred = features - self.mean
        degrees = n - 2
        traces = degrees * self.variances.sum() - n / (n - 1) * np.square(centred).sum(axis=(1, 2))
        squares = np.square(centred.transpose(1, 0, 2) @ self.directions)  # (positions, m, d)
        ridges = np.array([_ridge(trace, degrees, self.mean.size) for trace in traces])
        q = (squares / (np.maximum(self.variances, 0.0)[:, None, :] + ridges[None, :, None])).sum(axis=2).T
        return np.asarray(np.sqrt(q / (1.0 - n / ((n - 1) * (n - 2)) * q)) * (n / (n - 1)))


def _ridge(trace: float, degrees: int, size: int) -> float:
    """`RIDGE_SHARE` of the mean variance, from the trace of all scatter matrices, ``size`` positions times channels."""
    return max(LEAST_RIDGE, RIDGE_SHARE * float(trace) / (degrees * size))
