"""Around a network that reads a backbone's map: features on one scale before it, a smooth anomaly map behind it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detectors.patches.alignment import Alignment
from detectors.patches.whitening import PatchMoments, PatchProjection

LEAST_SHARE = 1e-4
"""Of the mean variance behind the map: directions in which good images vary less than that are not stretched."""
LEAST_SD, LEAST_SD_SHARE = 1e-6, 0.01
"""A channel that moves less than that share of what channels usually do (behind a ReLU some are 0 on every good image) is not
stretched any further: it would decide alone."""
_REACH_SD = 4
"""Where a Gaussian is cut off."""


class Standardise(nn.Module):  # type: ignore[misc]  # torch is not followed
    """What a backbone gives of good images on one scale, by a linear map that is found before training.

    Channels of a backbone differ in scale by orders of magnitude; untouched, the loudest would decide alone. After a drift
    the map is found anew (`follow`): it then gives of the new good images what it gave of those before, so that a network that
    learned behind it still knows them.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))
        self.register_buffer("covariance", torch.eye(channels))
        """Of what good images give behind it."""

    def learn(self, good: PatchMoments) -> None:
        """Each channel by its mean and standard deviation over good images."""
        sd = np.sqrt(np.diagonal(good.covariance()).clip(min=0.0))
        least = max(LEAST_SD, LEAST_SD_SHARE * float(np.median(sd)))
        self._set(good, np.diag(1.0 / sd.clip(min=least)))

    def learn_components(self, good: PatchMoments) -> None:
        """Principal components of good images, all on one scale: of mean square 1."""
        matrix = PatchProjection.of(good, dimensions=len(self.mean)).matrix.astype(np.float64)
        scale = np.sqrt(np.trace(matrix.T @ good.covariance() @ matrix) / len(self.mean))
        self._set(good, matrix / scale)

    def follow(self, good: PatchMoments) -> None:
        """Put the cheapest map before it that brings the new good images to where the former ones lay (Monge's)."""
        matrix = self.matrix.numpy().astype(np.float64)
        here, there = matrix.T @ good.covariance() @ matrix, self.covariance.numpy().astype(np.float64)
        ridge = LEAST_SHARE * np.trace(there) / len(there) * np.eye(len(there))
        moved = Alignment.of(
            PatchMoments.described_by(np.zeros(len(here)), here + ridge),
            PatchMoments.described_by(np.zeros(len(there)), there + ridge),
        )
        self._copy(good.mean(), matrix @ moved.matrix, there)

    def _set(self, good: PatchMoments, matrix: NDArray[np.float64]) -> None:
        self._copy(good.mean(), matrix, matrix.T @ good.covariance() @ matrix)

    def _copy(self, *arrays: NDArray[np.float64]) -> None:
        for buffer, array in zip((self.mean, self.matrix, self.covariance), arrays, strict=True):
            buffer.copy_(torch.from_numpy(array.astype(np.float32)))

    def forward(self, maps: Tensor) -> Tensor:
        """(n, rows, columns, channels), as runtimes give maps, → (n, channels, rows, columns)."""
        return ((maps - self.mean) @ self.matrix).permute(0, 3, 1, 2)


def smoothed(maps: Tensor, *, sigma: float) -> Tensor:
    """(n, rows, columns) convolved with a Gaussian of ``sigma`` cells; outside, the border goes on."""
    reach = max(1, round(_REACH_SD * sigma))
    x = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    bell = torch.exp(-(x**2) / (2 * sigma**2))
    bell = bell / bell.sum()
    padded = functional.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    across = functional.conv2d(padded, bell.view(1, 1, 1, -1))
    return functional.conv2d(across, bell.view(1, 1, -1, 1))[:, 0]
