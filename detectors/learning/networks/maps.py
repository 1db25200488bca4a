"""Around a network that reads a backbone's map: features on one scale before it, a smooth anomaly map behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SD = 1e-6
"""A channel that never moves stays at 0."""
_REACH_SD = 4
"""Where a Gaussian is cut off."""


class Standardise(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Each channel by its mean and standard deviation over good images, learned before training.

    Channels of a backbone differ in scale by orders of magnitude; untouched, the loudest would decide alone.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("sd", torch.ones(channels))

    def learn(self, mean: Tensor, sd: Tensor) -> None:
        """(channels,) each."""
        self.mean.copy_(mean)
        self.sd.copy_(sd.clamp(min=LEAST_SD))

    def forward(self, maps: Tensor) -> Tensor:
        """(n, rows, columns, channels), as runtimes give maps, → (n, channels, rows, columns)."""
        return ((maps - self.mean) / self.sd).permute(0, 3, 1, 2)


def smoothed(maps: Tensor, *, sigma: float) -> Tensor:
    """(n, rows, columns) convolved with a Gaussian of ``sigma`` cells; outside, the border goes on."""
    reach = max(1, round(_REACH_SD * sigma))
    x = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    bell = torch.exp(-(x**2) / (2 * sigma**2))
    bell = bell / bell.sum()
    padded = functional.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    across = functional.conv2d(padded, bell.view(1, 1, 1, -1))
    return functional.conv2d(across, bell.view(1, 1, -1, 1))[:, 0]
