"""EfficientAD's networks against the published tables: every layer, every count, and what one output sees."""

from __future__ import annotations

import pytest
import torch

from detectors.learning.networks.pdn import GRID, SIDE_PX, Autoencoder, description_network

# channels in and out, kernel, of each convolution: tables 5 and 6 of arXiv 2303.14535
SMALL = [(3, 128, 4), (128, 256, 4), (256, 256, 3), (256, 384, 4)]
MEDIUM = [(3, 256, 4), (256, 512, 4), (512, 512, 1), (512, 512, 3), (512, 384, 4), (384, 384, 1)]


def _convolutions(network: torch.nn.Module) -> list[tuple[int, int, int]]:
    return [
        (each.in_channels, each.out_channels, each.kernel_size[0])
        for each in network.modules()
        if isinstance(each, torch.nn.Conv2d)
    ]


def _weights(network: torch.nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize(("size", "layers", "weights"), [("small", SMALL, 2_694_144), ("medium", MEDIUM, 8_026_624)])
def test_the_teachers_layers_and_weights_are_the_papers(size: str, layers: list, weights: int) -> None:
    network = description_network(size)
    assert _convolutions(network) == layers
    by_hand = sum(given * kernel**2 * out + out for given, out, kernel in layers)
    assert _weights(network) == by_hand == weights


@pytest.mark.parametrize(("size", "weights"), [("small", 8_057_856), ("medium", 20_738_432)])
def test_teacher_student_and_autoencoder_together_are_the_papers_8_and_21_million(size: str, weights: int) -> None:
    student = description_network(size, channels=768)
    assert _weights(description_network(size)) + _weights(student) + _weights(Autoencoder()) == weights


@pytest.mark.parametrize("size", ["small", "medium"])
def test_256_pixels_give_56_by_56_descriptions(size: str) -> None:
    with torch.inference_mode():
        assert description_network(size)(torch.zeros(1, 3, SIDE_PX, SIDE_PX)).shape == (1, 384, GRID, GRID)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_a_description_sees_33_by_33_pixels_and_nothing_else(size: str) -> None:
    """By the gradient of one output: zero wherever a pixel does not reach it."""
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, SIDE_PX, SIDE_PX, requires_grad=True)
    network = description_network(size)
    for layer in network:
        if isinstance(layer, torch.nn.ReLU):
            layer.forward = lambda maps: maps  # no unit may hide a pixel
    network(pixels)[0, 0, 20, 30].backward()
    seen = pixels.grad[0].abs().sum(dim=0) > 0
    rows, columns = torch.nonzero(seen.any(dim=1)).flatten(), torch.nonzero(seen.any(dim=0)).flatten()
    assert (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1) == (33, 33)


def test_the_autoencoder_is_the_papers_and_goes_through_64_numbers() -> None:
    network = Autoencoder()
    encoder = [(3, 32, 4), (32, 32, 4), (32, 64, 4), (64, 64, 4), (64, 64, 4), (64, 64, 8)]
    decoder = [(64, 64, 4)] * 6 + [(64, 64, 3), (64, 384, 3)]
    assert _convolutions(network) == encoder + decoder
    assert _weights(network) == 1_096_320
    pixels = torch.zeros(2, 3, SIDE_PX, SIDE_PX)
    with torch.inference_mode():
        assert network.encoder(pixels).shape == (2, 64, 1, 1)
        assert network(pixels).shape == (2, 384, GRID, GRID)
