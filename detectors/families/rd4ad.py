"""RD4AD: a decoder that learned to rebuild a backbone's maps of good images from a narrow embedding of them.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022 (arXiv 2201.10703). What
differs from the paper, and why, is in docs/decisions/trained-networks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from detectors.learning.learned_maps import MapDetector, MapSettings
from detectors.learning.training import Plan

if TYPE_CHECKING:
    import torch

    from detectors.learning.networks.reverse_distillation import DistilledMap


class Rd4ad(MapDetector):
    """What a decoder that knows good images only cannot rebuild of the stage of stride 16."""

    family: ClassVar[str] = "rd4ad"
    from_scratch: ClassVar[Plan] = Plan(
        steps=400, learning_rate=5e-3, betas=(0.5, 0.999), validate_every=50, patience=4
    )
    """Rate and betas are the authors'; with a rate that falls, tens of epochs do instead of their 200."""
    warm: ClassVar[Plan] = Plan(steps=25, learning_rate=5e-4, betas=(0.5, 0.999), validate_every=25, patience=1)
    """Gentle: at a higher rate it forgets more of the champion's than it learns."""
    warm_from_far: ClassVar[Plan] = Plan(
        steps=100, learning_rate=5e-3, betas=(0.5, 0.999), validate_every=25, patience=4
    )
    """At such a rate the loss rises before it falls, so nothing ends it early."""

    @classmethod
    def build(cls, settings: MapSettings) -> DistilledMap:
        from detectors.learning.networks.reverse_distillation import COMPACT, DistilledMap

        return DistilledMap(settings.channels, COMPACT)

    @classmethod
    def loss(cls, module: Any, maps: torch.Tensor) -> torch.Tensor:
        from detectors.learning.networks.reverse_distillation import distillation_loss

        return distillation_loss([maps], module.network([maps]))
