"""DRAEM made small: both of its networks behind a frozen backbone's stages instead of on the pixels.

The paper's (`detectors.learning.networks.draem`) is Zavrtanik, Kristan and Skočaj, ICCV 2021 (arXiv 2108.07610). Here what is
rebuilt, and compared, is what the backbone says of the image at strides 8 and 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.learning.networks.draem import focal_loss
from detectors.learning.networks.maps import Standardise

WIDTH = 96
FINER = 2
"""Cells of stride 8 on a side of one of stride 16."""
SEGMENTATION_WEIGHT = 10.0
"""Of the focal loss, a few hundredths at the start, beside a square error of standardised features, about 0.7."""
WINDOW = 3
"""Cells of stride 8 over which probabilities are averaged before the largest is taken: 24 px, the paper's 21."""
_DROPOUT = 0.2


class FeatureDraem(nn.Module):  # type: ignore[misc]  # torch is not followed
    """(n, rows, columns, channels) of a fine stage and of one half as fine → averaged probabilities, (n, rows, columns).

    Attributes:
        standardise: of each stage; learned before training.
        network: what is trained.
    """

    def __init__(self, fine: int, coarse: int) -> None:
        """``fine``, ``coarse``: channels of the stages."""
        super().__init__()
        self.standardise = nn.ModuleList([Standardise(fine), Standardise(coarse)])
        self.network = RebuildAndTell(FINER**2 * fine + coarse)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        _, logits = self.network(self.features(fine, coarse))
        probability = torch.softmax(logits, dim=1)[:, 1:]
        return functional.avg_pool2d(probability, WINDOW, 1, WINDOW // 2)[:, 0]

    def features(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Both stages, standardised, on the coarse grid, where the fine one has four channels for each of its own:
        (n, 4 · fine + coarse, rows / 2, columns / 2). Convolutions cost a quarter of what they do on the fine grid.
        """
        first, second = self.standardise[0](fine), self.standardise[1](coarse)
        return torch.cat([functional.pixel_unshuffle(first, FINER), second], dim=1)


class RebuildAndTell(nn.Module):  # type: ignore[misc]
    """Features → the features as if the image were good, and logits of (sound, defective) on the fine grid,
    (n, 2, `FINER` · rows, `FINER` · columns).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_layer(channels, WIDTH, kernel=1),
            *_layer(WIDTH, WIDTH, stride=2),
            *_layer(WIDTH, WIDTH),
        )
        self.decoder = nn.Sequential(*_layer(WIDTH, WIDTH), nn.Conv2d(WIDTH, channels, 1))
        self.discriminative = nn.Sequential(
            *_layer(2 * channels, WIDTH, kernel=1),
            *_layer(WIDTH, WIDTH),
            *_layer(WIDTH, WIDTH),
            nn.Dropout2d(_DROPOUT),
            nn.Conv2d(WIDTH, 2 * FINER**2, 1),
            nn.PixelShuffle(FINER),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(features)
        wide = functional.interpolate(code, size=features.shape[-2:], mode="bilinear", align_corners=False)
        rebuilt = self.decoder(wide)
        return rebuilt, self.discriminative(torch.cat([features - rebuilt, features], dim=1))


def feature_loss(good: Tensor, rebuilt: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
    """The paper's equation 4 with features in the place of pixels, and so without SSIM.

    Args:
        good: (n, channels, rows, columns) of the images without simulated anomalies.
        rebuilt: of the images with them.
        mask: (n, `FINER` · rows, `FINER` · columns) float, 1 where an anomaly was simulated.
        logits: (n, 2, …) on the mask's grid.
    """
    return functional.mse_loss(rebuilt, good) + SEGMENTATION_WEIGHT * focal_loss(logits, mask)


def _layer(entering: int, leaving: int, *, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(entering, leaving, kernel, stride, padding=kernel // 2)
    return convolution, nn.BatchNorm2d(leaving), nn.ReLU(inplace=True)
