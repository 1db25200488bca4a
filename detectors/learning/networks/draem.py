"""DRAEM: one U-shaped network rebuilds the image without its defects, another compares both and marks the difference.

Zavrtanik, Kristan and Skočaj, "DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly
Detection", ICCV 2021 (arXiv 2108.07610). Numbers of equations are the paper's. Widths are given level by level: with
`PAPER` the networks are the published ones, layer by layer. What a CPU trains in a minute is in
`detectors.learning.networks.draem_features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
"""Of Wang et al. 2004, as the paper's loss has them."""
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
FOCAL_GAMMA = 2.0
"""Lin et al. 2017, as the paper's segmentation loss has it."""
_LEAST_PROBABILITY = 1e-5
"""Keeps the logarithm of a wrongly certain pixel finite."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of both networks.

    Attributes:
        reconstructive: of its encoder's levels, finest first; the rest of the network follows.
        discriminative: likewise.
    """

    reconstructive: tuple[int, ...]
    discriminative: tuple[int, ...]


PAPER = Widths((128, 256, 512, 1024, 1024), (64, 128, 256, 512, 512, 512))
WINDOW_PX = 21
"""Side of the square over which probabilities are averaged before the largest is taken (section 3.4)."""


class Draem(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Both networks: images (n, 3, h, w) in 0…1 → the rebuilt images, and logits of (sound, defective), (n, 2, h, w).

    h and w are multiples of 2 ** (levels - 1).
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.reconstructive = Reconstructive(widths.reconstructive)
        self.discriminative = Discriminative(widths.discriminative)
        # the published program's initial weights
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        rebuilt = self.reconstructive(images)
        return rebuilt, self.discriminative(torch.cat([rebuilt, images], dim=1))


class CanvasDraem(nn.Module):  # type: ignore[misc]
    """What is trained, and afterwards scores: (n, h, w, 3) uint8 canvases → averaged probabilities of an anomaly."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.network = Draem(widths)

    def forward(self, canvas: Tensor) -> Tensor:
        """(n, h, w)."""
        _, logits = self.network(canvas.permute(0, 3, 1, 2).to(torch.float32) / 255.0)
        probability = torch.softmax(logits, dim=1)[:, 1:]
        return functional.avg_pool2d(probability, WINDOW_PX, 1, WINDOW_PX // 2)[:, 0]


class Reconstructive(nn.Module):  # type: ignore[misc]
    """An autoencoder without skips: what it rebuilds must pass its narrowest level.

    Args:
        widths: channels of the encoder's levels, finest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_pair(a, b, b) for a, b in pairwise((3, *widths)))
        self.pool = nn.MaxPool2d(2)
        self.rising = nn.ModuleList()
        entering = widths[-1]
        for leaving in _rising(widths):
            self.rising.append(nn.Sequential(*_rise(entering, entering), _pair(entering, entering, leaving)))
            entering = leaving
        self.head = nn.Conv2d(entering, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        state = self.encoder[0](images)
        for level in self.encoder[1:]:
            state = level(self.pool(state))
        for level in self.rising:
            state = level(state)
        return self.head(state)


class Discriminative(nn.Module):  # type: ignore[misc]
    """A U-net over the rebuilt and the given image, six channels, to logits of sound and defective.

    Args:
        widths: channels of the encoder's levels, finest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_pair(a, b, b) for a, b in pairwise((6, *widths)))
        self.pool = nn.MaxPool2d(2)
        self.rising, self.joining = nn.ModuleList(), nn.ModuleList()
        entering = widths[-1]
        for leaving, skipped in zip(_rising(widths), reversed(widths[:-1]), strict=True):
            self.rising.append(nn.Sequential(*_rise(entering, leaving)))
            self.joining.append(_pair(leaving + skipped, leaving, leaving))
            entering = leaving
        self.head = nn.Conv2d(entering, 2, 3, padding=1)

    def forward(self, both: Tensor) -> Tensor:
        levels = [self.encoder[0](both)]
        for level in self.encoder[1:]:
            levels.append(level(self.pool(levels[-1])))
        state = levels.pop()
        for rise, join in zip(self.rising, self.joining, strict=True):
            state = join(torch.cat([rise(state), levels.pop()], dim=1))
        return self.head(state)


def draem_loss(images: Tensor, rebuilt: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
    """Equation 4: L = L_rec(I, I_r) + L_seg(M_a, M), with L_rec = L_SSIM + l_2 (equation 2, its λ being 1).

    Args:
        images: (n, 3, h, w) the images without simulated defects.
        rebuilt: of the images with them.
        mask: (n, h, w) float, 1 where a defect was simulated.
        logits: (n, 2, h, w)
    """
    return functional.mse_loss(rebuilt, images) + ssim_loss(rebuilt, images) + focal_loss(logits, mask)


def ssim_loss(a: Tensor, b: Tensor) -> Tensor:
    """Equation 1: 1 - SSIM, averaged over all positions, channels and images, for images in 0…1."""
    channels = a.shape[1]
    x = torch.arange(SSIM_WINDOW_PX, dtype=a.dtype, device=a.device) - SSIM_WINDOW_PX // 2
    bell = torch.exp(-(x**2) / (2 * SSIM_SIGMA_PX**2))
    bell = bell / bell.sum()

    def blurred(image: Tensor) -> Tensor:
        rows = bell.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        across = functional.conv2d(image, rows, padding=(SSIM_WINDOW_PX // 2, 0), groups=channels)
        columns = bell.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        return functional.conv2d(across, columns, padding=(0, SSIM_WINDOW_PX // 2), groups=channels)

    mean_a, mean_b = blurred(a), blurred(b)
    variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (variance_a + variance_b + _SSIM_C2)
    return 1 - (light * structure).mean()


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """L_seg (Lin et al. 2017): - (1 - p_t)^γ log p_t, p_t the probability of what is true of the pixel, averaged."""
    p = torch.softmax(logits, dim=1)[:, 1]
    true = (mask * p + (1 - mask) * (1 - p)).clamp(min=_LEAST_PROBABILITY)
    return (-((1 - true) ** FOCAL_GAMMA) * true.log()).mean()


def _rising(widths: Sequence[int]) -> tuple[int, ...]:
    """Channels on the way up, coarsest first: each level leaves as wide as the next finer one, the finest as itself.

    >>> _rising((64, 128, 256, 512, 512, 512))
    (512, 256, 128, 64, 64)
    """
    return (*reversed(widths[:-2]), widths[0])


def _pair(entering: int, between: int, leaving: int) -> nn.Sequential:
    return nn.Sequential(*_layer(entering, between), *_layer(between, leaving))


def _rise(entering: int, leaving: int) -> tuple[nn.Module, ...]:
    return (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), *_layer(entering, leaving))


def _layer(entering: int, leaving: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(entering, leaving, 3, padding=1), nn.BatchNorm2d(leaving), nn.ReLU(inplace=True)
