"""EfficientAD's own networks, layer by layer (Batzner, Heckler, König, WACV 2024, arXiv 2303.14535, tables 5, 6 and 7).

All see (n, 3, 256, 256) and give (n, channels, 56, 56): without padding, so that a description is of the 33 × 33 pixels
around it and of nothing else.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

SIDE_PX = 256
GRID = 56
"""Rows and columns of a description of a canvas of `SIDE_PX`."""
TEACHER_CHANNELS = 384
Size = Literal["small", "medium"]

_DROPOUT = 0.2
_LATENT = 64


def description_network(size: Size, *, channels: int = TEACHER_CHANNELS) -> nn.Sequential:
    """The patch description network: a teacher, or with twice its channels a student.

    ``small`` is table 5 (2.7 million weights with 384 channels), ``medium`` table 6 (8.0 million).
    """
    if size == "small":
        return nn.Sequential(
            nn.Conv2d(3, 128, 4),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(128, 256, 4),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(256, 256, 3),
            nn.ReLU(),
            nn.Conv2d(256, channels, 4),
        )
    return nn.Sequential(
        nn.Conv2d(3, 256, 4),
        nn.ReLU(),
        nn.AvgPool2d(2, 2),
        nn.Conv2d(256, 512, 4),
        nn.ReLU(),
        nn.AvgPool2d(2, 2),
        nn.Conv2d(512, 512, 1),
        nn.ReLU(),
        nn.Conv2d(512, 512, 3),
        nn.ReLU(),
        nn.Conv2d(512, channels, 4),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
    )


class Autoencoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Table 7: through a code of 64 numbers, so that it learns what an image of the part looks like as a whole."""

    def __init__(self, channels: int = TEACHER_CHANNELS) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, _LATENT, 8),
        )
        stages: list[nn.Module] = []
        for side in (3, 8, 15, 32, 63, 127):
            stages += [Resize(side), nn.Conv2d(64, 64, 4, padding=2), nn.ReLU(), nn.Dropout(_DROPOUT)]
        self.decoder = nn.Sequential(
            *stages,
            Resize(GRID),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, channels, 3, padding=1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, 256, 256) → (n, channels, 56, 56)."""
        found: Tensor = self.decoder(self.encoder(pixels))
        return found


class Resize(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Bilinear, to a square."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, channels, side, side)."""
        return functional.interpolate(maps, size=(self.side, self.side), mode="bilinear", align_corners=False)
