"""Standardisation and smoothing against numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from detectors.learning.learned_maps import moments
from detectors.learning.networks.maps import Standardise, smoothed


def test_smoothing_is_scipys_gaussian_with_a_border_that_goes_on() -> None:
    maps = np.random.default_rng(0).random((2, 17, 23)).astype(np.float32)
    for sigma in (1.0, 2.5):
        expected = np.stack([gaussian_filter(each, sigma, mode="nearest", truncate=4.0) for each in maps])
        found = smoothed(torch.from_numpy(maps), sigma=sigma).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_standardised_channels_come_first_with_mean_0_and_sd_1_and_a_dead_one_stays_at_0() -> None:
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(5.0, 3.0, (4, 6, 8, 3)).astype(np.float32))
    maps[..., 2] = 7.0
    standardise = Standardise(3)
    standardise.learn(moments(list(maps.numpy())))
    found = standardise(maps).numpy()
    assert found.shape == (4, 3, 6, 8)
    np.testing.assert_allclose(found[:, :2].mean((0, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[:, :2].std((0, 2, 3)), 1.0, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0.0)


def test_a_channel_that_hardly_moved_on_good_images_does_not_decide_alone() -> None:
    """Behind a ReLU: 0 on every good image, 0.05 on another one."""
    rng = np.random.default_rng(4)
    maps = np.abs(rng.normal(0.0, 2.0, (6, 5, 5, 8))).astype(np.float32)
    maps[..., 3] = 0.0
    standardise = Standardise(8)
    standardise.learn(moments(list(maps)))
    new = torch.zeros(1, 1, 1, 8)
    new[..., 3] = 0.05
    moved = standardise(new) - standardise(torch.zeros(1, 1, 1, 8))
    assert 0.0 < float(moved[0, 3, 0, 0]) < 10.0


def test_principal_components_are_uncorrelated_and_of_mean_square_1() -> None:
    maps = _correlated(np.random.default_rng(0), 5.0)
    standardise = Standardise(4)
    standardise.learn_components(moments(maps))
    found = _behind(standardise, maps)
    covariance = np.cov(found.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert np.square(found).mean() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("how", ["learn", "learn_components"])
def test_after_a_drift_new_goods_lie_behind_it_where_the_former_ones_lay_twice_in_a_row(how: str) -> None:
    rng = np.random.default_rng(1)
    before = _correlated(rng, 5.0)
    standardise = Standardise(4)
    getattr(standardise, how)(moments(before))
    expected = _behind(standardise, before)
    for drift in (0.3, 0.6):
        mixing = np.eye(4) + drift * rng.normal(0.0, 0.3, (4, 4))
        after = [(each @ mixing + drift).astype(np.float32) for each in before]
        standardise.follow(moments(after))
        found = _behind(standardise, after)
        np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-3)
        np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), atol=0.01)


def test_where_nothing_has_changed_nothing_is_moved() -> None:
    maps = _correlated(np.random.default_rng(2), 1.0)
    standardise = Standardise(4)
    standardise.learn(moments(maps))
    expected = _behind(standardise, maps)
    standardise.follow(moments(maps))
    np.testing.assert_allclose(_behind(standardise, maps), expected, atol=1e-3)


def _correlated(rng: np.random.Generator, mean: float) -> list[np.ndarray]:
    mixing = rng.normal(size=(4, 4))
    return [(rng.normal(size=(9, 7, 4)) @ mixing + mean).astype(np.float32) for _ in range(12)]


def _behind(standardise: Standardise, maps: list[np.ndarray]) -> np.ndarray:
    """(n, channels)"""
    return standardise(torch.from_numpy(np.stack(maps))).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
