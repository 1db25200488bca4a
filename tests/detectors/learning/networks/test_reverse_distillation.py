"""The paper's shapes and parameter counts for its encoders, its equations by hand, and any other pyramid."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from detectors.learning.networks.reverse_distillation import (
    COMPACT,
    RESNET18,
    WIDE_RESNET50,
    Recipe,
    ReverseDistillation,
    anomaly_map,
    distances,
    distillation_loss,
)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in module.parameters()]


def _pyramid(channels: tuple[int, ...], finest: tuple[int, int], n: int = 2) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    sizes = [(math.ceil(finest[0] / 2**k), math.ceil(finest[1] / 2**k)) for k in range(len(channels))]
    return [
        torch.from_numpy(rng.normal(size=(n, c, *size)).astype(np.float32))
        for c, size in zip(channels, sizes, strict=True)
    ]


@pytest.mark.parametrize(
    ("encoder", "recipe", "fusion", "embedding", "decoder"),
    [
        # By hand, from table 1 of He et al. and figure 4 of the paper. ResNet-18: fusion 9·64·128 + 9·128·256 twice with
        # two numbers a channel for each batch norm; the embedding is ResNet's layer4 with 768 channels entering.
        ("resnet18", RESNET18, 664_832, 11_015_168, 3_703_168),
        ("wide_resnet50_2", WIDE_RESNET50, 10_621_952, 48_263_168, 24_917_504),
    ],
)
def test_with_a_resnets_channels_the_parameters_are_the_papers(
    encoder: str, recipe: Recipe, fusion: int, embedding: int, decoder: int
) -> None:
    with torch.device("meta"):
        stages = timm.create_model(encoder, pretrained=False, features_only=True, out_indices=(1, 2, 3))
        network = ReverseDistillation(stages.feature_info.channels(), recipe)
    assert _parameters(network.fusion) == fusion
    assert _parameters(network.embedding) == embedding
    assert _parameters(network.decoder) == decoder


def test_for_a_wide_resnet_the_embedding_is_its_fourth_stage_and_the_decoder_its_mirror_image() -> None:
    """256 × 256 pixels: φ is 2048 × 8 × 8, and the decoder gives what layer1 to layer3 gave, shape by shape."""
    with torch.device("meta"):
        encoder = timm.create_model("wide_resnet50_2", pretrained=False)
        stages = timm.create_model("wide_resnet50_2", pretrained=False, features_only=True, out_indices=(1, 2, 3))
        network = ReverseDistillation(stages.feature_info.channels(), WIDE_RESNET50)
        pyramid = stages(torch.zeros(1, 3, 256, 256))
        embedded = network.embed(pyramid)
        decoded = network(pyramid)
    assert embedded.shape == (1, 2048, 8, 8)
    assert [tuple(each.shape) for each in decoded] == [(1, 256, 64, 64), (1, 512, 32, 32), (1, 1024, 16, 16)]
    # but for their entrances, the embedding's blocks are layer4's, the decoder's layer3's, layer2's and layer1's
    ours = [network.embedding, *network.decoder]
    theirs = [encoder.layer4, encoder.layer3, encoder.layer2, encoder.layer1]
    for mirrored, original, n_blocks in zip(ours, theirs, (3, 3, 4, 6), strict=True):
        assert len(mirrored) == n_blocks
        for block in mirrored[1:]:
            assert _shapes(block) == _shapes(original[1])


@pytest.mark.parametrize("finest", [(64, 64), (40, 104), (24, 56)])
def test_any_pyramid_is_decoded_to_its_own_shapes(finest: tuple[int, int]) -> None:
    """Sides that are odd at the coarsest map as well: 24 / 4 = 6 rows are embedded in 3, 56 / 4 = 14 columns in 7."""
    pyramid = _pyramid((24, 40, 112), finest)
    decoded = ReverseDistillation((24, 40, 112), RESNET18).eval()(pyramid)
    assert [each.shape for each in decoded] == [each.shape for each in pyramid]


def test_only_a_signed_decoder_says_negative_numbers() -> None:
    pyramid = _pyramid((8, 16, 32), (32, 32))
    torch.manual_seed(0)
    with torch.no_grad():
        unsigned = ReverseDistillation((8, 16, 32), Recipe())(pyramid)
        signed = ReverseDistillation((8, 16, 32), Recipe(signed=True))(pyramid)
    assert all(float(each.min()) >= 0 for each in unsigned)
    assert all(float(each.min()) < 0 for each in signed)


def test_the_distance_of_a_position_is_one_minus_the_cosine_of_its_two_vectors() -> None:
    """(1, 0) against (1, 0), (0, 2), (-3, 0) and (1, 1): 0, 1, 2 and 1 - 1/√2."""
    encoded = torch.tensor([[1.0, 0.0]]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    decoded = torch.tensor([[[1.0, 0.0], [-3.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]]])[None]
    (found,) = distances([encoded], [decoded])
    expected = torch.tensor([[[0.0, 1.0], [2.0, 1 - 1 / math.sqrt(2)]]])
    torch.testing.assert_close(found, expected)
    assert float(distillation_loss([encoded, encoded], [decoded, encoded])) == pytest.approx(float(expected.mean()))


def test_the_anomaly_map_adds_the_scales_after_enlarging_them() -> None:
    """A uniform distance of 1 at one scale and 2 at another is 3 everywhere; an error lies where its patch lies."""
    one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    turned, reversed_ = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), -one
    fine, coarse = one.expand(1, 2, 4, 4), one.expand(1, 2, 2, 2)
    found = anomaly_map([fine, coarse], [turned.expand(1, 2, 4, 4), reversed_.expand(1, 2, 2, 2)], size=(8, 8))
    torch.testing.assert_close(found, torch.full((1, 8, 8), 3.0))
    patch = fine.clone()
    patch[:, :, 0, 3] = turned[:, :, 0, 0]
    local = anomaly_map([fine, coarse], [patch, coarse], size=(8, 8))[0]
    assert float(local[0, 7]) == pytest.approx(1.0)
    assert float(local[4:].abs().max()) == pytest.approx(0.0, abs=1e-6)
    assert float(local[:, :4].abs().max()) == pytest.approx(0.0, abs=1e-6)


def test_what_the_decoder_learned_on_one_texture_it_cannot_rebuild_of_another() -> None:
    """Fitted on maps of two smooth patterns, errors on a third one of the same statistics are several times as large."""
    torch.manual_seed(0)
    known, unknown = _pyramid((4, 6, 8), (16, 16)), _pyramid((4, 6, 8), (16, 16), n=3)
    unknown = [each[2:] for each in unknown]
    network = ReverseDistillation((4, 6, 8), replace(COMPACT, signed=True, decoder_blocks=(1, 1, 1)))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        loss = distillation_loss(known, network(known))
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        fresh = distillation_loss(unknown, network(unknown))
    assert loss.item() < 0.5 * float(fresh)
