"""Simulated anomalies: exact masks, Perlin's noise, the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.defects.simulated import ANOMALY_SHARE, OPACITY, perlin_mask, perlin_noise, simulate


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((64, 96, 3), np.float32)


def test_outside_its_mask_an_image_is_untouched_and_half_of_them_have_none() -> None:
    rng = np.random.default_rng(0)
    good, other = _image(1), _image(2)
    masked = 0
    for _ in range(100):
        found = simulate(good, [good, other], rng)
        assert found.image.shape == good.shape and found.image.dtype == np.float32
        assert float(found.image.min()) >= 0.0 and float(found.image.max()) <= 1.0
        np.testing.assert_array_equal(found.image[found.mask == 0], good[found.mask == 0])
        assert set(np.unique(found.mask)) <= {0.0, 1.0}
        if found.mask.any():
            masked += 1
            changed = np.abs(found.image - good).max(axis=2) > 0
            assert (changed & (found.mask == 1)).sum() > 0.5 * found.mask.sum()
    # binomial: 4 sd of 100 tries
    assert masked == pytest.approx(100 * ANOMALY_SHARE, abs=4 * np.sqrt(100 * 0.25))


def test_the_texture_replaces_at_least_a_tenth_and_at_most_all_of_the_image() -> None:
    """On a white image under a black texture what is left is 1 - β."""
    rng = np.random.default_rng(0)
    white, black = np.ones((32, 32, 3), np.float32), np.zeros((32, 32, 3), np.float32)
    left = []
    for _ in range(300):
        found = simulate(white, [black], rng)
        values = np.unique(found.image[found.mask == 1])
        if values.size == 1 and found.mask.sum() > 20:  # a texture made on the spot is nowhere that uniform
            left.append(float(values[0]))
    assert len(left) > 20
    assert min(left) >= 1 - OPACITY[1] - 1e-6
    assert max(left) <= 1 - OPACITY[0] * 0.7 + 1e-6  # a black texture may be lightened by 0.3
    assert max(left) - min(left) > 0.5


def test_perlin_noise_is_zero_on_its_lattice_and_between_minus_one_and_one() -> None:
    noise = perlin_noise((64, 96), (4, 3), np.random.default_rng(0))
    np.testing.assert_allclose(noise[::16, ::32], 0.0, atol=1e-6)
    assert 0.3 < float(np.abs(noise).max()) <= 1.0
    assert abs(float(noise.mean())) < 0.2


def test_perlin_noise_of_one_cell_by_hand() -> None:
    """Between four gradients, in the middle: every fade is ½, so it is the mean of the corners' dot products."""
    seed = 5
    angles = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, (2, 2))
    y, x = np.sin(angles), np.cos(angles)
    expected = np.sqrt(2.0) * sum((y[i, j] * (0.5 - i) + x[i, j] * (0.5 - j)) / 4 for i in (0, 1) for j in (0, 1))
    assert float(perlin_noise((2, 2), (1, 1), np.random.default_rng(seed))[1, 1]) == pytest.approx(expected, abs=1e-6)


def test_masks_are_never_empty_and_come_in_all_sizes() -> None:
    rng = np.random.default_rng(0)
    shares = [float(perlin_mask((64, 80), rng).mean()) for _ in range(100)]
    assert min(shares) > 0
    assert min(shares) < 0.03 and max(shares) > 0.1


def test_the_same_seed_simulates_the_same() -> None:
    first, second = (simulate(_image(1), [_image(2)], np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
