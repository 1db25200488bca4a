"""Projection and smoothing against numpy and scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from detectors.networks.maps import Project, smoothed


def test_smoothing_is_scipys_gaussian_with_a_border_that_goes_on() -> None:
    maps = np.random.default_rng(0).random((2, 17, 23)).astype(np.float32)
    for sigma in (1.0, 2.5):
        expected = np.stack([gaussian_filter(each, sigma, mode="nearest", truncate=4.0) for each in maps])
        found = smoothed(torch.from_numpy(maps), sigma=sigma).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_projection_is_the_matrix_product_of_each_position_and_puts_channels_first() -> None:
    rng = np.random.default_rng(0)
    maps, mean = rng.normal(size=(2, 4, 5, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    matrix = rng.normal(size=(6, 3)).astype(np.float32)
    project = Project(6, 3)
    project.learn(torch.from_numpy(mean), torch.from_numpy(matrix))
    found = project(torch.from_numpy(maps)).numpy()
    assert found.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(found[1, :, 2, 4], (maps[1, 2, 4] - mean) @ matrix, rtol=1e-5, atol=1e-5)
