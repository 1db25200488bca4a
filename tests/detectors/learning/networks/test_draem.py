"""The published networks' parameters and shapes; SSIM against scikit-image; losses by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from detectors.learning.networks.draem import (
    PAPER,
    Discriminative,
    Draem,
    Reconstructive,
    Widths,
    draem_loss,
    focal_loss,
    ssim_loss,
)
from detectors.learning.networks.draem_features import FeatureDraem, feature_loss
from detectors.patches.whitening import PatchMoments


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_papers_networks_have_97_422_725_parameters() -> None:
    """97.42 M is the figure that comparisons quote for DRAEM: 69.05 M to rebuild and 28.37 M to tell apart."""
    with torch.device("meta"):
        network = Draem(PAPER)
    assert _parameters(network.reconstructive) == 69_048_579
    assert _parameters(network.discriminative) == 28_374_146


def test_the_papers_networks_narrow_and_widen_as_published() -> None:
    """Input channels → output channels of every convolution, in order, from figures 3 and 4."""

    def convolutions(module: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_channels, m.out_channels) for m in module.modules() if isinstance(m, nn.Conv2d)]

    b = 128
    down = [(3, b), (b, b), (b, 2 * b), (2 * b, 2 * b), (2 * b, 4 * b), (4 * b, 4 * b), (4 * b, 8 * b), (8 * b, 8 * b)]
    down += [(8 * b, 8 * b), (8 * b, 8 * b)]
    up = [(8, 8), (8, 8), (8, 4), (4, 4), (4, 4), (4, 2), (2, 2), (2, 2), (2, 1), (1, 1), (1, 1), (1, 1)]
    with torch.device("meta"):
        reconstructive, found = Reconstructive(PAPER.reconstructive), Discriminative(PAPER.discriminative)
    assert convolutions(reconstructive) == [*down, *((x * b, y * b) for x, y in up), (b, 3)]
    joined = [(level[0].in_channels // 64, level[0].out_channels // 64) for level in found.joining]
    assert joined == [(16, 8), (12, 4), (6, 2), (3, 1), (2, 1)]
    risen = [(level[1].in_channels // 64, level[1].out_channels // 64) for level in found.rising]
    assert risen == [(8, 8), (8, 4), (4, 2), (2, 1), (1, 1)]


def test_images_of_any_canvas_size_come_back_in_their_size() -> None:
    network = Draem(Widths((2, 4, 8, 8, 8), (2, 4, 8, 8, 8, 8))).eval()
    images = torch.rand(2, 3, 96, 160)
    with torch.inference_mode():
        rebuilt, logits = network(images)
    assert rebuilt.shape == images.shape
    assert logits.shape == (2, 2, *images.shape[-2:])


def test_ssim_is_scikit_images() -> None:
    """Wang's weights: an 11 px window of sd 1.5. Outside is black in the paper's loss, so it is drawn for scikit-image."""
    rng = np.random.default_rng(0)
    a = rng.random((48, 56))
    b = np.clip(0.7 * a + 0.3 * rng.random((48, 56)), 0, 1)
    _, expected = structural_similarity(
        np.pad(a, 10),
        np.pad(b, 10),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    both = torch.from_numpy(np.stack([a, b]))[:, None]
    found = 1 - float(ssim_loss(both[:1], both[1:]))
    assert found == pytest.approx(float(expected[10:-10, 10:-10].mean()), abs=1e-6)
    assert found < 0.95


def test_the_focal_loss_of_two_pixels_by_hand() -> None:
    """p(defective) = 0.8: a defective pixel costs -0.2² ln 0.8, a sound one -0.8² ln 0.2."""
    logits = torch.tensor([0.0, math.log(4.0)]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    mask = torch.tensor([[[1.0, 0.0]]])
    expected = (-(0.2**2) * math.log(0.8) - 0.8**2 * math.log(0.2)) / 2
    assert float(focal_loss(logits, mask)) == pytest.approx(expected, rel=1e-5)


def test_the_whole_loss_is_the_sum_of_its_three_parts() -> None:
    rng = torch.Generator().manual_seed(0)
    images, rebuilt = torch.rand(2, 3, 16, 16, generator=rng), torch.rand(2, 3, 16, 16, generator=rng)
    logits, mask = torch.randn(2, 2, 16, 16, generator=rng), (torch.rand(2, 16, 16, generator=rng) > 0.5).float()
    square = float(((images - rebuilt) ** 2).mean())
    expected = square + float(ssim_loss(images, rebuilt)) + float(focal_loss(logits, mask))
    assert float(draem_loss(images, rebuilt, mask, logits)) == pytest.approx(expected, rel=1e-5)
    certain = torch.stack([20 * (1 - mask), 20 * mask], dim=1)
    assert float(draem_loss(images, images, mask, certain)) == pytest.approx(0.0, abs=1e-3)


def test_behind_a_backbone_both_stages_meet_on_the_coarse_grid_and_the_map_is_fine() -> None:
    module = FeatureDraem(6, 10).eval()
    fine, coarse = torch.randn(1, 12, 20, 6), torch.randn(1, 6, 10, 10)
    module.standardise[0].learn(PatchMoments.described_by(np.full(6, 2.0), np.diag(np.full(6, 16.0))))
    features = module.features(fine, coarse)
    cell = features[0, :24, 2, 3].reshape(6, 2, 2)  # the four fine ones of one coarse cell
    torch.testing.assert_close(cell, ((fine[0, 4:6, 6:8] - 2.0) / 4.0).permute(2, 0, 1))
    with torch.inference_mode():
        rebuilt, logits = module.network(features)
        anomaly_map = module(fine, coarse)
    assert rebuilt.shape == features.shape == (1, 34, 6, 10)
    assert logits.shape == (1, 2, 12, 20)
    assert anomaly_map.shape == (1, 12, 20)
    p = torch.softmax(logits, dim=1)[0, 1]
    assert float(anomaly_map[0, 5, 5]) == pytest.approx(float(p[4:7, 4:7].mean()), abs=1e-6)


def test_the_loss_of_features_weighs_what_the_discriminator_says() -> None:
    rng = torch.Generator().manual_seed(0)
    good, rebuilt = torch.randn(2, 5, 4, 4, generator=rng), torch.randn(2, 5, 4, 4, generator=rng)
    logits, mask = torch.randn(2, 2, 4, 4, generator=rng), (torch.rand(2, 4, 4, generator=rng) > 0.5).float()
    expected = float(((good - rebuilt) ** 2).mean()) + 10 * float(focal_loss(logits, mask))
    assert float(feature_loss(good, rebuilt, mask, logits)) == pytest.approx(expected, rel=1e-5)
