"""Around a network that reads a pyramid: maps on one scale before it, a smooth anomaly map behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SD = 1e-6
"""A channel that never changes stays at 0."""
_REACH_SD = 4
"""Where a Gaussian is cut off."""


class Standardise(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Each channel by its mean and standard deviation over good images.

    Channels of a backbone differ in scale by orders of magnitude; untouched, the loudest would decide alone.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        for level, width in enumerate(channels):
            self.register_buffer(f"mean{level}", torch.zeros(width, 1, 1))
            self.register_buffer(f"sd{level}", torch.ones(width, 1, 1))
        self._n_levels = len(channels)

    def learn(self, moments: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take (mean, sd), (channels,) each, of every level."""
        for level, (mean, sd) in enumerate(moments):
            getattr(self, f"mean{level}").copy_(mean.view(-1, 1, 1))
            getattr(self, f"sd{level}").copy_(sd.clamp(min=LEAST_SD).view(-1, 1, 1))

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        return [(level - getattr(self, f"mean{i}")) / getattr(self, f"sd{i}") for i, level in enumerate(pyramid)]


def smoothed(maps: Tensor, *, sigma: float) -> Tensor:
    """(n, rows, columns) convolved with a Gaussian of ``sigma`` cells; outside, the border goes on."""
    reach = max(1, round(_REACH_SD * sigma))
    x = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    bell = torch.exp(-(x**2) / (2 * sigma**2))
    bell = bell / bell.sum()
    padded = functional.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    across = functional.conv2d(padded, bell.view(1, 1, 1, -1))
    return functional.conv2d(across, bell.view(1, 1, -1, 1))[:, 0]


def channels_first(maps: Sequence[Tensor]) -> list[Tensor]:
    """(n, rows, columns, channels), as runtimes give maps, → (n, channels, rows, columns)."""
    return [each.permute(0, 3, 1, 2) for each in maps]
