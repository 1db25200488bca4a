"""Maps of images of several sizes: drawn fairly, each once in a sweep; the projection as numpy finds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detectors.learned_maps import ProjectedMaps, _learn_projection
from detectors.networks.maps import Project

SIZES = [(8, 8)] * 12 + [(8, 12)] * 3 + [(4, 16)]


class _Projecting(torch.nn.Module):
    """Nothing but a projection."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.project = Project(channels, dimensions)


def _maps() -> list[torch.Tensor]:
    """Each is filled with the number of its image."""
    return [torch.full((3, *size), float(number)) for number, size in enumerate(SIZES)]


def test_a_batch_is_of_one_size_and_every_image_weighs_alike() -> None:
    """An image's weight in the mean over batches: of 16 images each weighs a sixteenth."""
    maps, rng, draws = ProjectedMaps(_maps()), np.random.default_rng(1), 4000
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
    for batch in ProjectedMaps(_maps()).batches(5):
        assert len(batch) <= 5
        seen += batch[:, 0, 0, 0].long().tolist()
    assert sorted(seen) == list(range(len(SIZES)))


@pytest.mark.parametrize("whiten", [False, True])
def test_projected_components_are_uncorrelated_and_of_variance_one_or_of_mean_variance_one(whiten: bool) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * np.array([5.0, 3.0, 1.0, 0.5, 0.1, 0.0])[:, None]
    raw = [(rng.normal(size=(*size, 6)) @ mixing + 7.0).astype(np.float32) for size in SIZES]
    module = _Projecting(6, 4)
    _learn_projection(module, raw, dimensions=4, whiten=whiten)
    found = np.concatenate([module.project(torch.from_numpy(each)[None])[0].numpy().reshape(4, -1) for each in raw], 1)
    np.testing.assert_allclose(found.mean(axis=1), 0.0, atol=1e-3)
    covariance = np.cov(found, bias=True)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-3)
    pixels = np.concatenate([each.reshape(-1, 6) for each in raw]).astype(np.float64)
    leading = np.sort(np.linalg.eigvalsh(np.cov(pixels.T, bias=True)))[::-1][:4]
    expected = np.ones(4) if whiten else leading / leading.mean()
    np.testing.assert_allclose(np.diag(covariance), expected, rtol=1e-3)
