"""FastFlow: a 2D normalising flow from a frozen backbone's features to a standard normal, position by position.

Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021 (arXiv 2111.07677).
Numbers of equations are the paper's. Its affine coupling is RealNVP's (Dinh et al. 2017) with the subnet of figure 2:
two convolutions that keep rows and columns, 3 × 3 and 1 × 1 in turn from step to step.

What the paper leaves open follows the implementations that reach its figures: scales are softly clamped by tanh, and each
step ends with a learned scale and offset per channel and a fixed permutation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detectors.learning.networks.maps import Standardise

STEPS = 8
"""Steps of a flow behind a convolutional backbone (section 4.3 of the paper)."""
HIDDEN_RATIO = 1.0
"""Channels between a subnet's convolutions, over those that enter it, for convolutional backbones."""
CLAMP = 2.0
"""A step stretches a channel by at most e^2, so that no step can drown the others."""
_GENTLE = 0.1
"""Subnets start this much weaker: a flow starts near the identity."""


class FlowStep(nn.Module):  # type: ignore[misc]  # torch is not followed
    """One invertible step: affine coupling, scale and offset per channel, permutation.

    Args:
        channels: of the map.
        kernel: of the subnet's convolutions, odd.
        order: (channels,) the permutation.
    """

    def __init__(self, channels: int, *, kernel: int, order: Tensor) -> None:
        super().__init__()
        self.kept = channels - channels // 2
        self.changed = channels // 2
        hidden = max(1, round(HIDDEN_RATIO * self.kept))
        self.subnet = nn.Sequential(
            nn.Conv2d(self.kept, hidden, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * self.changed, kernel, padding=kernel // 2),
        )
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        # as floats, since a version's arrays are floats; channels are few enough to be exact
        self.register_buffer("order", order.to(torch.float32))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, rows, columns) → the next state, and log |det J|, (n,)."""
        kept, changed = state.split([self.kept, self.changed], dim=1)
        log_stretch, move = self._coefficients(kept)
        # equation 2: y_a = x_a, y_b = s(x_a) ⊙ x_b + b(x_a)
        coupled = torch.cat([kept, changed * log_stretch.exp() + move], dim=1)
        scaled = coupled * self.log_scale.exp() + self.offset
        positions = state.shape[-2] * state.shape[-1]
        log_determinant = log_stretch.sum(dim=(1, 2, 3)) + positions * self.log_scale.sum()
        return scaled.index_select(1, self.order.long()), log_determinant

    def invert(self, state: Tensor) -> Tensor:
        """The state before the step."""
        scaled = state.index_select(1, torch.argsort(self.order))
        kept, coupled = ((scaled - self.offset) * (-self.log_scale).exp()).split([self.kept, self.changed], dim=1)
        log_stretch, move = self._coefficients(kept)
        return torch.cat([kept, (coupled - move) * (-log_stretch).exp()], dim=1)

    def _coefficients(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        stretch, move = (_GENTLE * self.subnet(kept)).chunk(2, dim=1)
        return CLAMP * torch.tanh(stretch), move


class Flow(nn.Module):  # type: ignore[misc]
    """f: steps for one map, from its features to z ~ N(0, 1).

    Args:
        channels: of the map.
        generator: of the permutations.
        steps: how many; kernels of 3 and 1 take turns, as the paper has it for convolutional backbones.
    """

    def __init__(self, channels: int, *, generator: torch.Generator, steps: int = STEPS) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            FlowStep(
                channels,
                kernel=1 if i % 2 else 3,
                order=torch.randperm(channels, generator=generator, device="cpu"),  # where the generator is
            )
            for i in range(steps)
        )

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, rows, columns) → z, alike in shape, and Σ log |det J|, (n,)."""
        total = torch.zeros(len(state), dtype=state.dtype, device=state.device)
        for step in self.steps:
            state, log_determinant = step(state)
            total = total + log_determinant
        return state, total

    def invert(self, state: Tensor) -> Tensor:
        """x = f⁻¹(z)."""
        for step in reversed(self.steps):
            state = step.invert(state)
        return state


class FastFlow(nn.Module):  # type: ignore[misc]
    """A flow for each map of a pyramid.

    Args:
        channels: of the pyramid's maps.
        generator: of the permutations.
    """

    def __init__(self, channels: Sequence[int], *, generator: torch.Generator) -> None:
        super().__init__()
        self.flows = nn.ModuleList(Flow(each, generator=generator) for each in channels)

    def forward(self, pyramid: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Maps of (n, channels, rows, columns) → z and log |det J| of each."""
        return [flow(level) for flow, level in zip(self.flows, pyramid, strict=True)]


class LikelyMap(nn.Module):  # type: ignore[misc]
    """What is trained, and afterwards scores: a flow of the standardised map, and the map of what is unlikely.

    Args:
        channels: of the backbone's map.
        generator: of the permutations.
    """

    def __init__(self, channels: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.standardise = Standardise(channels)
        self.network = FastFlow((channels,), generator=generator)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, rows, columns, channels) → (n, rows, columns)."""
        return unlikelihood_maps(self.network([self.standardise(maps)]))[0]


def negative_log_likelihood(flowed: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Equation 1, negated, without its constant: Σ ½ z² - log |det J|, per feature, averaged over batch and maps.

    Per feature, so that the rate of learning does not depend on the image's size; the optimum is the same.
    """
    each = [(0.5 * z.square().sum(dim=(1, 2, 3)) - log_det) / z[0].numel() for z, log_det in flowed]
    return torch.stack([level.mean() for level in each]).mean()


def unlikelihood_maps(flowed: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """-log p(z) of each position up to a constant, averaged over its channels: ½ mean z², each (n, rows, columns)."""
    return [0.5 * z.square().mean(dim=1) for z, _ in flowed]
