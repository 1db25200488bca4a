"""RD4AD: a decoder that learned to rebuild a backbone's maps of good images from a narrow embedding of them.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022 (arXiv 2201.10703). What
differs from the paper, and why, is in docs/decisions/trained-networks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from detectors.pyramid import PyramidDetector
from detectors.trained import TrainedSettings
from detectors.training import Plan

if TYPE_CHECKING:
    import torch

    from detectors.networks.reverse_distillation import DistilledPyramid


@dataclass(frozen=True, slots=True)
class Rd4adSettings(TrainedSettings):
    """What is chosen for a line.

    Attributes:
        recipe: of the network: ``compact`` for CPUs, or the paper's for ``resnet18`` and ``wide_resnet50``.
    """

    recipe: Literal["compact", "resnet18", "wide_resnet50"] = "compact"


class Rd4ad(PyramidDetector):
    """What a decoder that knows good images only cannot rebuild, summed over three stages."""

    family: ClassVar[str] = "rd4ad"
    settings_type: ClassVar[type[TrainedSettings]] = Rd4adSettings
    from_scratch: ClassVar[Plan] = Plan(
        steps=400, learning_rate=5e-3, betas=(0.5, 0.999), validate_every=50, patience=4
    )
    """Rate and betas are the authors'; with a rate that falls, tens of epochs do instead of their 200."""
    warm: ClassVar[Plan] = Plan(steps=100, learning_rate=2e-3, betas=(0.5, 0.999), validate_every=25, patience=2)

    @classmethod
    def build(cls, settings: Rd4adSettings) -> DistilledPyramid:
        from detectors.networks import reverse_distillation as networks

        recipes = {
            "compact": networks.COMPACT,
            "resnet18": networks.RESNET18,
            "wide_resnet50": networks.WIDE_RESNET50,
        }
        return networks.DistilledPyramid(settings.channels, recipes[settings.recipe])

    @classmethod
    def loss(cls, module: Any, levels: list[torch.Tensor]) -> torch.Tensor:
        from detectors.networks.reverse_distillation import distillation_loss

        return distillation_loss(*module.both(levels))
