"""Streaming statistics against numpy's covariance of everything at once, and leaving out against really leaving out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.patches.gaussians import LEAST_RIDGE, RIDGE_SHARE, PositionMoments


def _features(n: int, *, seed: int = 0, n_positions: int = 3, d: int = 4) -> NDArray[np.float32]:
    """Far from zero, so that a textbook's sum of squares would lose its digits."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_positions, d, d))
    centre = rng.normal(1e3, 10.0, (n_positions, d))
    return (np.einsum("npd,pde->npe", rng.normal(size=(n, n_positions, d)), mixing) + centre).astype(np.float32)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_statistics_of_parts_add_up_to_those_of_the_whole(sizes: list[int], seed: int) -> None:
    features = _features(sum(sizes), seed=seed)
    parts = np.split(features, np.cumsum(sizes)[:-1])
    total = PositionMoments.of(parts[0])
    for part in parts[1:]:
        total = total + PositionMoments.of(part)
    assert total.n == len(features)
    for position in range(features.shape[1]):
        own = features[:, position].astype(np.float64)
        np.testing.assert_allclose(total.mean[position], own.mean(axis=0), rtol=1e-12)
        scatter = np.cov(own.T, bias=True) * len(own) if len(own) > 1 else np.zeros((4, 4))
        np.testing.assert_allclose(total.scatter[position], scatter, rtol=1e-6, atol=1e-6)


def test_champion_plus_fresh_images_are_all_images_in_either_order() -> None:
    features = _features(50, seed=1)
    champion, fresh = PositionMoments.of(features[:40]), PositionMoments.of(features[40:])
    restored = PositionMoments.restore(champion.arrays())
    expected = PositionMoments.of(features)
    for grown in (champion + fresh, fresh + champion, restored + fresh):
        np.testing.assert_allclose(grown.mean, expected.mean, rtol=1e-6)
        np.testing.assert_allclose(grown.scatter, expected.scatter, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose((champion + fresh).scatter, expected.scatter, rtol=1e-9, atol=1e-9)


def test_distances_are_those_of_an_inverted_covariance() -> None:
    features, fresh = _features(30), _features(7, seed=2)
    found = PositionMoments.of(features).gaussians().squared_distances(fresh)
    covariances = np.stack([np.cov(features[:, p].astype(np.float64).T) for p in range(3)])
    ridge = RIDGE_SHARE * np.mean([np.trace(each) / 4 for each in covariances])
    for position, covariance in enumerate(covariances):
        inverse = np.linalg.inv(covariance + ridge * np.eye(4))
        deviation = fresh[:, position] - features[:, position].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found[:, position], np.einsum("nd,de,ne->n", deviation, inverse, deviation))


@pytest.mark.parametrize(("n", "d"), [(3, 4), (10, 4), (20, 30), (60, 30)])
def test_leaving_an_image_out_by_formula_is_leaving_it_out_in_truth(n: int, d: int) -> None:
    """To float64's digits, ridge and all; also where images are fewer than channels."""
    features = _features(n, seed=4, d=d)
    left_out = PositionMoments.of(features).left_out()
    found = np.concatenate([left_out.distances(part) for part in np.array_split(features, 2)])
    for i in range(n):
        others = PositionMoments.of(np.delete(features, i, axis=0)).gaussians()
        np.testing.assert_allclose(found[i], np.sqrt(others.squared_distances(features[i : i + 1])[0]), rtol=1e-6)


def test_images_that_do_not_vary_still_have_a_distance() -> None:
    still = np.full((20, 2, 3), 5.0, np.float32)
    moved = still[:1] + np.float32(1.0)
    squared = PositionMoments.of(still).gaussians().squared_distances(np.concatenate([still[:1], moved]))
    np.testing.assert_allclose(squared, [[0.0, 0.0], [3 / LEAST_RIDGE, 3 / LEAST_RIDGE]], rtol=1e-6)


def test_a_state_takes_half_of_a_square_matrix_a_position() -> None:
    moments = PositionMoments.of(_features(5, n_positions=6, d=10))
    n_bytes = sum(array.nbytes for array in moments.arrays().values())
    assert n_bytes == 4 * (1 + 6 * (10 + 10 * 11 // 2))
