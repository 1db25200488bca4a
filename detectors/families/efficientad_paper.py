"""EfficientAD with the paper's own networks (Batzner et al., WACV 2024): small and medium, on 256 × 256 pixels.

They are here to be compared with, and for machines that have the time: one image takes a hundred times the compact form's
arithmetic, and the paper trains 70,000 steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays
from detectors.backbones.runtime import CANVAS, FeatureRuntime
from detectors.calibration import hold_out
from detectors.learning import distillation
from detectors.learning.trained import TrainedDetector, TrainedSettings
from detectors.learning.training import Plan, identity_of, seeded, train
from detectors.photographs.canvases import Chosen
from detectors.protocol import FitContext, Fitted, common_size

if TYPE_CHECKING:
    import torch

    from detectors.learning.networks.pdn import PaperNetwork, Size

FROM_SCRATCH = Plan(steps=70_000, learning_rate=1e-4, decay="late", weight_decay=1e-5, validate_every=500, patience=10)
"""The paper's; early stopping is ours."""
WARM = Plan(steps=2_000, learning_rate=1e-4, decay="late", weight_decay=1e-5, validate_every=100, patience=5)
MOST_VALIDATED = 20
"""Held-out images that say when to stop: each costs a forward pass of three networks."""
AUGMENTED = (0.8, 1.2)
"""Factor of brightness, contrast or saturation, one of them, of what the autoencoder learns from."""
LOW_QUANTILE, HIGH_QUANTILE = 0.9, 0.995


@dataclass(frozen=True, slots=True)
class PaperSettings(TrainedSettings):
    """Nothing but the canvas size is chosen; the image's score is the largest value of the map alone, as in the paper."""

    top_share: float = 0.0


class EfficientAdSmall(TrainedDetector):
    """EfficientAD-S."""

    family: ClassVar[str] = "efficientad-small"
    inputs: ClassVar[tuple[str, ...]] = (CANVAS,)
    settings_type: ClassVar[type[TrainedSettings]] = PaperSettings
    size: ClassVar[Size] = "small"

    @classmethod
    def build(cls, settings: Any) -> PaperNetwork:
        from detectors.learning.networks.pdn import PaperNetwork

        return PaperNetwork(cls.size)

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext
    ) -> Fitted[Self]:
        """Algorithm 1 of the paper, with coloured noise in the place of ImageNet and a teacher from `distillation`.

        Raises:
            TooFewImages: nothing would be left to learn from.
            ArtifactError: the user's teacher is not one.
        """
        import torch

        from detectors.learning.imitation import strangers
        from detectors.learning.networks.pdn import SIDE_PX, standardised

        parts = hold_out(len(canvases), seed=context.seed, seen=context.seen, warm=context.warm_start is not None)
        learned, reference = (Chosen(canvases, part) for part in (parts.fitted, parts.reference))
        strange = strangers((SIDE_PX, SIDE_PX), seed=context.seed)
        with seeded(context.seed):
            module = cls.build(PaperSettings()).to(memory_format=torch.channels_last)

        def pixels(canvas: NDArray[np.uint8]) -> torch.Tensor:
            return module.pixels(torch.from_numpy(canvas)[None])

        file = distillation.teacher_file()
        if isinstance(context.warm_start, cls):
            load_arrays(module, context.warm_start.arrays())
        else:
            if file is not None:
                distillation.load_teacher(module.teacher, file)
            else:
                distillation.distil_teacher(
                    module.teacher,
                    learned,
                    reference[:MOST_VALIDATED],
                    prepared=lambda canvas: standardised(pixels(canvas)),
                    runtime=runtime,
                    context=context,
                    strangers=strange,
                )
            _normalise_teacher(module, (pixels(canvas) for canvas in learned))

        def loss(rng: np.random.Generator) -> torch.Tensor:
            image, other, stranger = (
                pixels(images[int(rng.integers(len(images)))]) for images in (learned, learned, strange)
            )
            return module.loss(image, _augmented(other, rng), stranger)

        def validate() -> float:
            few = [pixels(canvas) for canvas in reference[:MOST_VALIDATED]]
            return float(np.mean([sum(each.mean().item() for each in _maps(module, one)) for one in few]))

        train(
            module,
            WARM if isinstance(context.warm_start, cls) else FROM_SCRATCH,
            loss=loss,
            validate=validate,
            context=context,
            identity=identity_of(canvases, runtime, cls.family, parts.reference.tolist()),
        )
        with torch.inference_mode():
            maps = zip(*(_maps(module, pixels(canvas)) for canvas in reference), strict=True)
            for row, kind in enumerate(maps):
                quantiles = np.quantile(torch.stack(kind).numpy(), (LOW_QUANTILE, HIGH_QUANTILE))
                module.scale[row] = torch.tensor(quantiles)
        return cls.finished(
            module, canvases, runtime=runtime, settings=PaperSettings(common_size(canvases)), held_out=parts
        )


class EfficientAdMedium(EfficientAdSmall):
    """EfficientAD-M."""

    family: ClassVar[str] = "efficientad-medium"
    size: ClassVar[Size] = "medium"


def _maps(module: PaperNetwork, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return module.maps(module.described(pixels), pixels)


def _normalise_teacher(module: PaperNetwork, images: Iterable[torch.Tensor]) -> None:
    """Mean and deviation of each of the teacher's channels over the good images."""
    import torch

    from detectors.learning.networks.pdn import standardised

    with torch.inference_mode():
        moments = [
            torch.stack([said.mean(dim=(0, 2, 3)), said.square().mean(dim=(0, 2, 3))]).double()
            for image in images
            for said in (module.teacher(standardised(image)),)
        ]
        mean, square = torch.stack(moments).mean(dim=0)
        module.mean.copy_(mean)
        module.sd.copy_((square - mean.square()).clamp_min(1e-12).sqrt())


def _augmented(pixels: Any, rng: np.random.Generator) -> torch.Tensor:
    """Brighter, of more contrast or more colour, or less: one of the three, as torchvision defines them."""
    factor = float(rng.uniform(*AUGMENTED))
    gray = (pixels * pixels.new_tensor((0.2989, 0.587, 0.114)).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    towards = (0.0, gray.mean(), gray)[int(rng.integers(3))]
    found: torch.Tensor = (factor * pixels + (1.0 - factor) * towards).clamp(0.0, 1.0)
    return found
