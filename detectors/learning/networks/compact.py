"""EfficientAD made small: teacher, student and autoencoder behind a frozen backbone's own stages.

The paper (Batzner, Heckler, König, WACV 2024) distils a small teacher from a large network, and runs teacher, student
and autoencoder on the pixels. Here the backbone is the teacher, and its finer stage, which is computed anyway, is what
student and autoencoder read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.learning.networks.maps import Standardise

STUDENT_CHANNELS = 96
CODE = 64
"""Numbers that the autoencoder has for an image, as in the paper."""
HARDEST = 0.1
"""Of the places, they count twice in the student's loss. The paper takes the hardest 0.001 of the elements alone, for 70,000
steps; docs/decisions/efficientad.md has what that does in some hundred."""
AUTOENCODED = 0.25
"""Of a batch, the autoencoder learns from: it takes as long as the student, and is seldom used."""

_CODED_SIDE = 16
"""The autoencoder sees every canvas with this many rows and columns, so that one code serves every size."""
_DROPOUT = 0.2


class CompactNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed
    """(1, rows, columns, c) patches and the finer stage's map → normalised anomaly map, (1, rows, columns).

    Attributes:
        teacher: linear, fixed: principal components of the good patches on one common scale.
        student: imitates the teacher with its first half of channels, the autoencoder with its second.
        autoencoder: gives the teacher's maps again through `CODE` numbers.
        weight: (c,), of a component's squared error: one over its mean on good images.
        scale: (2, 2), the values of the two maps that become 0 and 0.1 (the paper's q_a and q_b).
        whole: the autoencoder's share of the combined map, 0 or more; with 0 it is not computed.
    """

    def __init__(self, *, patch_channels: int, stage_channels: int, ratio: int, whole: float = 0.0) -> None:
        """``ratio``: how many times finer the stage is than the patches, 1 or 2."""
        super().__init__()
        self.teacher = Standardise(patch_channels)
        self.inputs = Standardise(stage_channels)
        self.student = nn.Sequential(
            nn.Conv2d(stage_channels, STUDENT_CHANNELS, 3, stride=ratio, padding=1),
            nn.ReLU(),
            nn.Conv2d(STUDENT_CHANNELS, STUDENT_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(STUDENT_CHANNELS, STUDENT_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(STUDENT_CHANNELS, STUDENT_CHANNELS, 1),
            nn.ReLU(),
        )
        self.imitation = nn.Conv2d(STUDENT_CHANNELS, patch_channels, 1)
        self.second = nn.Conv2d(STUDENT_CHANNELS, patch_channels, 1)
        self.autoencoder = CompactAutoencoder(stage_channels, patch_channels)
        self.register_buffer("weight", torch.ones(patch_channels))
        self.register_buffer("scale", torch.tensor([[0.0, 0.1], [0.0, 0.1]]))
        self.whole = whole

    def forward(self, patches: Tensor, stage: Tensor) -> Tensor:
        """(1 - whole) of the student's normalised map and ``whole`` of the autoencoder's; the paper takes half of each."""
        target, stage = self.target(patches), self.prepared(stage)
        described = self.student(stage)
        local = self.normalised(self.local_map(target, described), 0)
        if not self.whole:
            return local
        whole = self.normalised(self.whole_map(stage, described), 1)
        return (1.0 - self.whole) * local + self.whole * whole

    def target(self, patches: Tensor) -> Tensor:
        """(n, rows, columns, c) as the backbone gives it → (n, c, rows, columns), what the student imitates."""
        found: Tensor = self.teacher(patches)
        return found

    def prepared(self, stage: Tensor) -> Tensor:
        """(n, rows, columns, channels) as the backbone gives it → what student and autoencoder read."""
        found: Tensor = self.inputs(stage)
        return found

    def local_map(self, target: Tensor, described: Tensor) -> Tensor:
        """Student against teacher: (n, rows, columns)."""
        squares: Tensor = self.weight.view(1, -1, 1, 1) * (target - self.imitation(described)).square()
        return squares.mean(dim=1)

    def whole_map(self, stage: Tensor, described: Tensor) -> Tensor:
        """Student against autoencoder: (n, rows, columns)."""
        second = self.second(described)
        coded = self.autoencoder(stage, (second.shape[-2], second.shape[-1]))
        squares: Tensor = (coded - second).square()
        return squares.mean(dim=1)

    def normalised(self, anomaly_map: Tensor, row: int) -> Tensor:
        low, high = self.scale[row]
        return 0.1 * (anomaly_map - low) / (high - low)

    def loss(self, target: Tensor, stage: Tensor) -> Tensor:
        """L_ST + L_AE + L_STAE of the paper's algorithm 1, without its penalty."""
        described = self.student(stage)
        few = max(1, round(AUTOENCODED * len(target)))
        coded = self.autoencoder(stage[:few], (target.shape[-2], target.shape[-1]))
        errors = (target - self.imitation(described)).square().mean(dim=1).flatten()
        l_st = errors.mean() + errors.topk(max(1, round(HARDEST * len(errors)))).values.mean()
        l_ae = (target[:few] - coded).square().mean()
        l_stae = (coded - self.second(described[:few])).square().mean()
        found: Tensor = l_st + l_ae + l_stae
        return found

    def penalty(self, stage: Tensor) -> Tensor:
        """The student must not imitate the teacher on images that are no part: (CWH)⁻¹ Σ ‖S(P)‖²."""
        found: Tensor = self.imitation(self.student(stage)).square().mean()
        return found


class CompactAutoencoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Through `CODE` numbers for the whole image, so that it cannot copy what lies in one place."""

    def __init__(self, stage_channels: int, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(stage_channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, CODE, _CODED_SIDE // 4),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(CODE, 64, 4),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Upsample(size=(8, 8), mode="bilinear"),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Upsample(size=(_CODED_SIDE, _CODED_SIDE), mode="bilinear"),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(64, channels, 1)

    def forward(self, stage: Tensor, grid: tuple[int, int]) -> Tensor:
        """(n, stage_channels, h, w) → (n, channels, *grid)."""
        small = functional.interpolate(stage, size=(_CODED_SIDE, _CODED_SIDE), mode="bilinear", align_corners=False)
        decoded = self.decoder(self.encoder(small))
        found: Tensor = self.last(functional.interpolate(decoded, size=grid, mode="bilinear", align_corners=False))
        return found
