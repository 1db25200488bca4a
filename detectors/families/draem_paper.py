"""DRAEM with the paper's own networks (Zavrtanik et al., ICCV 2021), on the pixels, without a backbone.

They are here to be compared with, and for machines that have the time: 97 million weights at full resolution, 700 epochs.
The compact form is `detectors.families.draem`. What differs from the paper is in docs/decisions/trained-networks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays
from detectors.backbones.runtime import CANVAS, FeatureRuntime
from detectors.calibration import hold_out
from detectors.defects.simulated import Float, simulate
from detectors.learning.trained import TrainedDetector, TrainedSettings
from detectors.learning.training import Plan, identity_of, seeded, train
from detectors.photographs.canvases import Chosen
from detectors.protocol import FitContext, Fitted, common_size

if TYPE_CHECKING:
    import torch

    from detectors.learning.networks.draem import CanvasDraem

BATCH = 8
CROP_PX = 256
"""Networks learn on square parts of the canvases: all of one size."""
FROM_SCRATCH = Plan(steps=26_000, learning_rate=1e-4, decay="late", validate_every=500, patience=10)
"""The paper's rate and 700 epochs of 300 images; early stopping is ours."""
WARM = Plan(steps=2_000, learning_rate=1e-4, decay="late", validate_every=100, patience=5)
_VALIDATED = 4
"""Batches of held-out goods with simulated anomalies, the same at each look."""


@dataclass(frozen=True, slots=True)
class DraemSettings(TrainedSettings):
    """Nothing but the canvas size is chosen; the image's score is the largest value of the map alone, as in the paper."""

    top_share: float = 0.0


class DraemPaper(TrainedDetector):
    """Where the networks see an anomaly, as a probability, averaged over a window; the image's score is its maximum."""

    family: ClassVar[str] = "draem-paper"
    inputs: ClassVar[tuple[str, ...]] = (CANVAS,)
    settings_type: ClassVar[type[TrainedSettings]] = DraemSettings

    @classmethod
    def build(cls, settings: DraemSettings) -> CanvasDraem:
        from detectors.learning.networks.draem import PAPER, CanvasDraem

        return CanvasDraem(PAPER)

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        context: FitContext,
    ) -> Fitted[Self]:
        """Learn on parts of the images with simulated anomalies; those of the held-out goods decide when to stop."""
        from detectors.learning.networks.draem import draem_loss

        held_out = hold_out(len(canvases), seed=context.seed, seen=context.seen, warm=context.warm_start is not None)
        settings = DraemSettings(common_size(canvases))
        with seeded(context.seed):
            module = cls.build(settings)
        if context.warm_start is not None:
            load_arrays(module, context.warm_start.arrays())
        side = min(CROP_PX, *(min(canvas.shape[:2]) for canvas in canvases))

        def loss_of(examples: _Examples) -> torch.Tensor:
            good, given, mask = examples.tensors()
            rebuilt, logits = module.network(given)
            return draem_loss(good, rebuilt, mask[:, 0], logits)

        rng = np.random.default_rng([context.seed, len(canvases)])
        kept = Chosen(canvases, held_out.validation)
        looked_at = [_draw(kept, side=side, rng=rng) for _ in range(_VALIDATED)]
        fitted = Chosen(canvases, held_out.fitted)
        train(
            module,
            WARM if context.warm_start is not None else FROM_SCRATCH,
            loss=lambda rng: loss_of(_draw(fitted, side=side, rng=rng)),
            validate=lambda: float(np.mean([float(loss_of(each)) for each in looked_at])),
            context=context,
            identity=identity_of(canvases, runtime, cls.family, settings, held_out.reference.tolist()),
        )
        return cls.finished(module, canvases, runtime=runtime, settings=settings, held_out=held_out)


@dataclass(frozen=True, slots=True)
class _Examples:
    """A batch: good parts of images, the same with simulated anomalies, and their masks."""

    good: list[Float]
    given: list[Float]
    masks: list[Float]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(n, 3, side, side) twice, and (n, 1, side, side)."""
        import torch

        good, given = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) for each in (self.good, self.given))
        return good, given, torch.from_numpy(np.stack(self.masks))[:, None]


def _draw(canvases: Sequence[NDArray[np.uint8]], *, side: int, rng: np.random.Generator) -> _Examples:
    chosen = rng.choice(len(canvases), BATCH, replace=len(canvases) < BATCH)
    good = [_part(canvases[i], side, rng) for i in chosen]
    simulated = [simulate(each, good, rng) for each in good]
    return _Examples(good, [each.image for each in simulated], [each.mask for each in simulated])


def _part(canvas: NDArray[np.uint8], side: int, rng: np.random.Generator) -> Float:
    top, left = (int(rng.integers(length - side + 1)) for length in canvas.shape[:2])
    return np.asarray(canvas[top : top + side, left : left + side], np.float32) / np.float32(255)
