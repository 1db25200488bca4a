"""Bringing patches of one condition to where those of another lie, without knowing what changed.

Both sets are described by mean and covariance. Between two normal distributions the map that moves patches the least is
affine and known in closed form (Monge's map: Olkin and Pukelsheim, "The distance between two random vectors with given
dispersion matrices", 1982). It keeps what distinguishes one patch from another of its set, which is what a detector reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.patches.whitening import PatchMoments

_LEAST_VARIANCE = 1e-6
"""Of the largest; a direction that hardly varies is divided by no less."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """x → (x − source) · matrix + target."""

    source: NDArray[np.float64]
    """(dimensions,)"""
    target: NDArray[np.float64]
    """(dimensions,)"""
    matrix: NDArray[np.float64]
    """(dimensions, dimensions), symmetric."""

    @classmethod
    def of(cls, source: PatchMoments, target: PatchMoments) -> Alignment:
        """The cheapest map that gives patches with moments ``source`` the mean and the covariance of ``target``."""
        root, inverse = _roots(source.covariance())
        middle, _ = _roots(root @ target.covariance() @ root)
        return cls(source.mean(), target.mean(), inverse @ middle @ inverse)

    def apply(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dimensions) → (n, dimensions) float32."""
        return np.asarray((patches - self.source) @ self.matrix + self.target, np.float32)


class FrechetDistance:
    """What Monge's map to a target costs: mean squared way of a patch, in squared units of the patches.

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982.
    """

    def __init__(self, target: PatchMoments) -> None:
        self._mean = target.mean()
        self._covariance = target.covariance()
        self._root, _ = _roots(self._covariance)

    def __call__(self, source: PatchMoments) -> float:
        """From patches with moments ``source``."""
        covariance = source.covariance()
        shared = np.sqrt(np.maximum(np.linalg.eigvalsh(self._root @ covariance @ self._root), 0.0)).sum()
        step = source.mean() - self._mean
        return max(0.0, float(step @ step + np.trace(covariance) + np.trace(self._covariance) - 2.0 * shared))


def _roots(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The symmetric square root of a covariance, and its inverse."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.sqrt(np.maximum(values, _LEAST_VARIANCE * values.max()))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
