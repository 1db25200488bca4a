"""EfficientAD's own networks, layer by layer (Batzner, Heckler, König, WACV 2024, arXiv 2303.14535, tables 5, 6 and 7).

All see (n, 3, 256, 256) and give (n, channels, 56, 56): without padding, so that a description is of the 33 × 33 pixels
around it and of nothing else.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE_PX = 256
GRID = 56
"""Rows and columns of a description of a canvas of `SIDE_PX`."""
TEACHER_CHANNELS = 384
Size = Literal["small", "medium"]

HARD_QUANTILE = 0.999
"""q_hard: the student's loss is the mean of the elements above it."""
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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


class PaperNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed
    """The whole detector: a canvas, (1, h, w, 3) uint8 of any size → the combined map, (1, 56, 56).

    Attributes:
        teacher: frozen; its channels are normalised by `mean` and `sd` over the good images.
        student: twice the channels: the first half imitates the teacher, the second the autoencoder.
        autoencoder: gives the teacher's maps again.
        scale: (2, 2), the values of the two maps that become 0 and 0.1 (q_a and q_b).
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.teacher = description_network(size).requires_grad_(False)
        self.student = description_network(size, channels=2 * TEACHER_CHANNELS)
        self.autoencoder = Autoencoder()
        for name, start in (("mean", torch.zeros), ("sd", torch.ones)):
            self.register_buffer(name, start(TEACHER_CHANNELS))
        self.register_buffer("scale", torch.tensor([[0.0, 0.1], [0.0, 0.1]]))

    def forward(self, canvas: Tensor) -> Tensor:
        pixels = self.pixels(canvas)
        maps = self.maps(self.described(pixels), pixels)
        local, whole = (0.1 * (each - low) / (high - low) for each, (low, high) in zip(maps, self.scale, strict=True))
        return 0.5 * local + 0.5 * whole

    def pixels(self, canvas: Tensor) -> Tensor:
        """(n, h, w, 3) uint8 → (n, 3, 256, 256), 0…1."""
        size = (SIDE_PX, SIDE_PX)
        given = canvas.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        return functional.interpolate(given, size=size, mode="bilinear", align_corners=False)

    def described(self, pixels: Tensor) -> Tensor:
        """What the teacher says, normalised: (n, channels, 56, 56)."""
        found: Tensor = self.teacher(standardised(pixels))
        return (found - self.mean.view(1, -1, 1, 1)) / self.sd.view(1, -1, 1, 1)

    def maps(self, described: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Student against teacher and student against autoencoder, (n, 56, 56) each, not yet normalised."""
        given = standardised(pixels)
        imitated, second = self.student(given).chunk(2, dim=1)
        local, whole = (described - imitated).square(), (self.autoencoder(given) - second).square()
        return local.mean(dim=1), whole.mean(dim=1)

    def loss(self, pixels: Tensor, augmented: Tensor, stranger: Tensor) -> Tensor:
        """Algorithm 1: L_hard, the penalty on an image that is no part, L_AE and L_STAE on an augmented image."""
        imitated = self.student(standardised(pixels))[:, :TEACHER_CHANNELS]
        squares = (self.described(pixels) - imitated).square().flatten()
        n_hard = max(1, round((1.0 - HARD_QUANTILE) * squares.numel()))
        l_hard = squares.topk(n_hard).values.mean()  # those at or above the quantile q_hard
        penalty = self.student(standardised(stranger))[:, :TEACHER_CHANNELS].square().mean()
        second = self.student(standardised(augmented))[:, TEACHER_CHANNELS:]
        coded = self.autoencoder(standardised(augmented))
        l_ae = (self.described(augmented) - coded).square().mean()
        found: Tensor = l_hard + penalty + l_ae + (coded - second).square().mean()
        return found


def standardised(pixels: Tensor) -> Tensor:
    """Pixels of 0…1 by ImageNet's mean and deviation, as the paper normalises its inputs."""
    mean, sd = (pixels.new_tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_SD))
    return (pixels - mean) / sd
