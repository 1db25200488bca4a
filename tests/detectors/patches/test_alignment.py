"""The distance between two sets of patches, against scipy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from detectors.patches.alignment import Alignment, FrechetDistance
from detectors.patches.whitening import PatchMoments


def _patches(rng: np.random.Generator, n: int, scale: float, shift: float) -> np.ndarray:
    mixing = rng.normal(size=(6, 6))
    return (scale * rng.normal(size=(n, 6)) @ mixing + shift).astype(np.float32)


def test_it_is_what_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    one, other = (PatchMoments.of(_patches(rng, 500, *how)) for how in ((1.0, 0.0), (2.0, 0.5)))
    root = scipy.linalg.sqrtm(one.covariance() @ other.covariance()).real
    step = one.mean() - other.mean()
    expected = step @ step + np.trace(one.covariance() + other.covariance() - 2.0 * root)
    assert FrechetDistance(other)(one) == pytest.approx(expected, rel=1e-5)
    assert FrechetDistance(other)(one) == pytest.approx(FrechetDistance(one)(other), rel=1e-5)


def test_it_is_nothing_between_the_same_and_what_the_cheapest_map_costs_else() -> None:
    rng = np.random.default_rng(1)
    patches = _patches(rng, 800, 1.0, 0.0)
    source, target = PatchMoments.of(patches), PatchMoments.of(_patches(rng, 800, 1.5, -1.0))
    assert FrechetDistance(source)(source) == pytest.approx(0.0, abs=1e-6)
    moved = Alignment.of(source, target).apply(patches)
    cost = ((moved.astype(np.float64) - patches) ** 2).sum(axis=1).mean()
    assert FrechetDistance(target)(source) == pytest.approx(cost, rel=1e-4)
    assert FrechetDistance(target)(PatchMoments.of(moved)) == pytest.approx(0.0, abs=1e-3)
