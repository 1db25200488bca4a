"""Standardisation and smoothing against numpy and scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

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
    standardise.learn(maps.mean((0, 1, 2)), maps.std((0, 1, 2), unbiased=False))
    found = standardise(maps).numpy()
    assert found.shape == (4, 3, 6, 8)
    np.testing.assert_allclose(found[:, :2].mean((0, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[:, :2].std((0, 2, 3)), 1.0, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0.0)
