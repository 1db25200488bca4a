"""Around a network that reads a backbone's map: features on one scale before it, a smooth anomaly map behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_REACH_SD = 4
"""Where a Gaussian is cut off."""


class Project(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A fixed linear map of features to fewer dimensions on one scale, learned from good images before training.

    Channels of a backbone differ in scale by orders of magnitude and repeat one another; untouched, the loudest would
    decide alone.

    Args:
        channels: of the map.
        dimensions: of the projected one.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.zeros(channels, dimensions))

    def learn(self, mean: Tensor, matrix: Tensor) -> None:
        """(channels,), taken away first, and (channels, dimensions)."""
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, rows, columns, channels), as runtimes give maps, → (n, dimensions, rows, columns)."""
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
