"""Standardisation and smoothing against numpy and scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from detectors.networks.maps import Standardise, channels_first, smoothed


def test_smoothing_is_scipys_gaussian_with_a_border_that_goes_on() -> None:
    maps = np.random.default_rng(0).random((2, 17, 23)).astype(np.float32)
    for sigma in (1.0, 2.5):
        expected = np.stack([gaussian_filter(each, sigma, mode="nearest", truncate=4.0) for each in maps])
        found = smoothed(torch.from_numpy(maps), sigma=sigma).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_standardised_channels_have_mean_0_and_sd_1_and_a_dead_channel_stays_finite() -> None:
    rng = np.random.default_rng(0)
    fine = torch.from_numpy(rng.normal(5.0, 3.0, (4, 3, 8, 8)).astype(np.float32))
    coarse = torch.from_numpy(rng.normal(-1.0, 0.01, (4, 2, 4, 4)).astype(np.float32))
    coarse[:, 1] = 7.0
    standardise = Standardise((3, 2))
    standardise.learn([(each.mean((0, 2, 3)), each.std((0, 2, 3), unbiased=False)) for each in (fine, coarse)])
    found = standardise([fine, coarse])
    np.testing.assert_allclose(found[0].mean((0, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[0].std((0, 2, 3), unbiased=False), 1.0, atol=1e-5)
    np.testing.assert_allclose(found[1][:, 0].std(unbiased=False), 1.0, atol=1e-4)
    np.testing.assert_array_equal(found[1][:, 1], 0.0)


def test_maps_come_channels_last_and_are_read_channels_first() -> None:
    (found,) = channels_first([torch.arange(24.0).view(1, 2, 3, 4)])
    assert found.shape == (1, 4, 2, 3)
    assert found[0, 1, 1, 2] == 21.0
