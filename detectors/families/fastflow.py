"""FastFlow: a normalising flow that makes a backbone's maps of good images a standard normal; what is far from 0 is odd.

Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021 (arXiv 2111.07677).
What differs from the paper, and why, is in docs/decisions/trained-networks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from detectors.learning.learned_maps import MapDetector, MapSettings
from detectors.learning.training import Plan

if TYPE_CHECKING:
    import torch

    from detectors.learning.networks.flow import LikelyMap

_PERMUTATIONS = 0
"""Seeds the permutations; they are saved with the weights."""


class FastFlow(MapDetector):
    """How unlikely each position is, by a flow of the stage of stride 16."""

    family: ClassVar[str] = "fastflow"
    from_scratch: ClassVar[Plan] = Plan(
        steps=1200, learning_rate=1e-3, weight_decay=1e-5, validate_every=100, patience=4
    )
    """Rate and decay are the paper's; with a rate that falls, tens of epochs do instead of its 500."""
    warm: ClassVar[Plan] = Plan(steps=200, learning_rate=1e-3, weight_decay=1e-5, validate_every=25, patience=4)

    @classmethod
    def build(cls, settings: MapSettings) -> LikelyMap:
        import torch

        from detectors.learning.networks.flow import LikelyMap

        return LikelyMap(settings.channels, generator=torch.Generator().manual_seed(_PERMUTATIONS))

    @classmethod
    def loss(cls, module: Any, maps: torch.Tensor) -> torch.Tensor:
        from detectors.learning.networks.flow import negative_log_likelihood

        return negative_log_likelihood(module.network([maps]))
