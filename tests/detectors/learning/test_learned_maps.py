"""Maps of images of several sizes: drawn fairly, each once in a sweep; the moments that numpy finds."""

from __future__ import annotations

import numpy as np
import torch

from detectors.learning.learned_maps import StandardMaps, moments

SIZES = [(8, 8)] * 12 + [(8, 12)] * 3 + [(4, 16)]


def _maps() -> list[torch.Tensor]:
    """Each is filled with the number of its image."""
    return [torch.full((3, *size), float(number)) for number, size in enumerate(SIZES)]


def test_a_batch_is_of_one_size_and_every_image_weighs_alike() -> None:
    """An image's weight in the mean over batches: of 16 images each weighs a sixteenth."""
    maps, rng, draws = StandardMaps(_maps()), np.random.default_rng(1), 4000
    weight = np.zeros(len(SIZES))
    for _ in range(draws):
        members = maps.draw(rng, 8)[:, 0, 0, 0].long().tolist()
        assert len(set(members)) == len(members) <= 8
        assert len({SIZES[i] for i in members}) == 1
        weight[members] += 1 / len(members)
    # the rarest is drawn 250 times of 4000: 4 sd are 61
    np.testing.assert_allclose(weight, draws / len(SIZES), atol=61)


def test_a_sweep_gives_every_image_once() -> None:
    seen: list[int] = []
    for batch in StandardMaps(_maps()).batches(5):
        assert len(batch) <= 5
        seen += batch[:, 0, 0, 0].long().tolist()
    assert sorted(seen) == list(range(len(SIZES)))


def test_moments_are_those_of_all_positions_of_all_images() -> None:
    rng = np.random.default_rng(0)
    raw = [rng.normal([5.0, -1.0], [3.0, 0.01], (*size, 2)).astype(np.float32) for size in SIZES]
    found = moments(raw)
    pixels = np.concatenate([each.reshape(-1, 2) for each in raw]).astype(np.float64)
    np.testing.assert_allclose(found.mean(), pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance(), np.cov(pixels.T, bias=True), rtol=1e-4, atol=1e-7)
