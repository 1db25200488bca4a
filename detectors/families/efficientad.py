"""EfficientAD: a student that learned to imitate a teacher on good images alone (Batzner et al., WACV 2024).

The compact form: the frozen backbone is the teacher, and what it computes on the way is what student and autoencoder
read. docs/decisions/efficientad.md has the measurements behind what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import not_of
from detectors.backbones.runtime import FeatureRuntime
from detectors.backbones.tracing import PATCHES
from detectors.calibration import evenly, hold_out
from detectors.defects.synthetic import random_defect
from detectors.learning.memory import first_maps, learned_from, n_affordable, released
from detectors.learning.trained import TrainedDetector, TrainedSettings
from detectors.learning.training import Plan, held_out_loss, identity_of, train
from detectors.patches.aggregation import TOP_SHARE, top_mean
from detectors.protocol import FitContext, Fitted, common_size

if TYPE_CHECKING:
    import torch

    from detectors.learning.imitation import Features
    from detectors.learning.networks.compact import CompactNetwork

    Image = tuple[torch.Tensor, torch.Tensor]

FROM_SCRATCH = Plan(steps=1200, learning_rate=1e-3, weight_decay=1e-5, validate_every=200, patience=4)
WARM = Plan(steps=25, learning_rate=5e-4, weight_decay=1e-5, validate_every=25, patience=1)
FAR = 0.25
"""Of the champion's held-out loss. Where new goods, brought to where the former ones lay, lose more than that above it, the student
learns them; below, training gains nothing (docs/decisions/efficientad.md)."""
WHOLE_SHARES = (0.0, 0.25, 0.5)
"""What is tried of the autoencoder's map; the paper takes the last."""
LEAST_GAIN = 0.01
"""AUROC on synthetic defects that the autoencoder must add to be used: it costs time, and on textures detection."""


@dataclass(frozen=True, slots=True)
class EfficientAdSettings(TrainedSettings):
    """What is chosen for a line.

    Attributes:
        stage: the backbone's map that student and autoencoder read.
        ratio: how many times finer it is than the patches.
        whole: the autoencoder's share of the map.
        channels: of the patches and of the stage's map, found while fitting.
        held_out_loss: of the student, on the goods that were held out when it learned last. None in versions that did not keep it.
    """

    stage: str = ""
    ratio: int = 1
    whole: float = 0.0
    channels: tuple[int, int] = (0, 0)
    held_out_loss: float | None = None


class EfficientAd(TrainedDetector):
    """Where the student, or the autoencoder, fails to say what the teacher says, something is new."""

    family: ClassVar[str] = "efficientad"
    settings_type: ClassVar[type[TrainedSettings]] = EfficientAdSettings

    @classmethod
    def inputs_of(cls, settings: EfficientAdSettings) -> tuple[str, ...]:
        return (PATCHES, settings.stage)

    @classmethod
    def build(cls, settings: EfficientAdSettings) -> CompactNetwork:
        from detectors.learning.networks.compact import CompactNetwork

        patch_channels, stage_channels = settings.channels
        return CompactNetwork(
            patch_channels=patch_channels, stage_channels=stage_channels, ratio=settings.ratio, whole=settings.whole
        )

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext
    ) -> Fitted[Self]:
        """Train student and autoencoder on all canvases but the reference's, from the warm start if there is one.

        The held-out canvases decide when to stop and how much the autoencoder counts, scale the two maps, and are the
        reference. Where the warm start's student still knows them, nothing is trained, and the reference is cross-fitted
        (`detectors.learning.following`).

        Raises:
            TooFewImages: nothing would be left to learn from.
        """
        from detectors.learning import imitation

        # as many also where a warm start has to learn: of 101 images instead of 201 its maps are rougher (docs/decisions/efficientad.md)
        parts = hold_out(len(canvases), seed=context.seed, seen=context.seen)
        stage, ratio = _stage_behind(runtime, canvases[0])
        first = imitation.Features(*first_maps(canvases, runtime, (PATCHES, stage)))
        warm = _usable(context.warm_start, first, ratio)
        if warm is None and context.warm_start is not None:
            return cls.fit(canvases, runtime=runtime, context=replace(context, warm_start=None))
        most = n_affordable([first.patches, first.stage])
        learned = learned_from(parts.fitted, most=most, seed=context.seed)
        validation = evenly(parts.validation, most)

        def read(n_images: int, images: Iterable[NDArray[np.uint8]]) -> Iterator[Features]:
            for done, features in enumerate(imitation.read(images, runtime, stage)):
                context.progress("features", done, n_images)
                yield features

        fitted, kept = (list(read(len(part), (canvases[i] for i in part))) for part in (learned, validation))
        module = imitation.build(imitation.moments_of(fitted), ratio=ratio, seed=context.seed, warm=warm)
        held_out = imitation.Batches(module, released(kept) if warm is None else kept)

        def validate() -> float:
            return float(sum(module.loss(*each) * len(each[0]) for each in held_out.all())) / held_out.n_images

        at_start = held_out_loss(module, validate)
        if warm is not None and _still_knows(cast("EfficientAd", context.warm_start), at_start):
            index = np.concatenate([learned, validation])
            return cls._followed([*fitted, *kept], index, canvases, warm=warm, runtime=runtime, context=context)
        del kept
        batches = imitation.Batches(module, released(fitted))
        strangers = imitation.strangers((canvases[0].shape[0], canvases[0].shape[1]), seed=context.seed)
        strange = imitation.Batches(module, read(len(strangers), strangers))

        def loss(rng: np.random.Generator) -> torch.Tensor:
            return module.loss(*batches.draw(rng)) + module.penalty(strange.draw(rng)[1][:1])

        training = train(
            module,
            FROM_SCRATCH if warm is None else WARM,
            loss=loss,
            validate=validate,
            context=context,
            identity=identity_of(canvases, runtime, cls.family, parts.reference.tolist()),
            at_start=at_start,
        )
        imitation.set_scales(module, batches, held_out)
        rng = np.random.default_rng(context.seed)
        spoilt = (np.asarray(random_defect(canvases[i], rng).image, np.uint8) for i in validation)
        defective = imitation.prepared(module, read(len(validation), spoilt))
        module.whole = _best_share(module, held_out.one_by_one(), defective)
        settings = EfficientAdSettings(
            canvas_size=common_size(canvases),
            channels=(first.patches.shape[-1], first.stage.shape[-1]),
            top_share=TOP_SHARE,
            stage=stage,
            ratio=ratio,
            whole=module.whole,
            held_out_loss=training.best,
        )
        return cls.finished(module, canvases, runtime=runtime, settings=settings, held_out=parts)

    @classmethod
    def _followed(
        cls,
        features: Sequence[Features],
        index: NDArray[np.int64],
        canvases: Sequence[NDArray[np.uint8]],
        *,
        warm: Mapping[str, NDArray[np.float32]],
        runtime: FeatureRuntime,
        context: FitContext,
    ) -> Fitted[Self]:
        """The champion's student as it is; ``features`` are those of ``canvases[index]``."""
        from detectors.learning import following

        champion = cast("EfficientAd", context.warm_start)
        settings = replace(cast(EfficientAdSettings, champion._settings), canvas_size=common_size(canvases))
        seen = np.zeros(len(canvases), bool) if context.seen is None else context.seen
        module, scores = following.cross_fitted(
            features, ~seen[index], ratio=settings.ratio, seed=context.seed, warm=warm, whole=settings.whole
        )
        return Fitted(cls.trained(module, runtime=runtime, settings=settings), index[~seen[index]], scores)


def _still_knows(champion: EfficientAd, at_start: float) -> bool:
    known = cast(EfficientAdSettings, champion._settings).held_out_loss
    return known is not None and at_start <= known + FAR * abs(known)


def _stage_behind(runtime: FeatureRuntime, canvas: NDArray[np.uint8]) -> tuple[str, int]:
    """The name of the stage that is twice as fine as the patches, else as fine, and how much finer it is."""
    stride = canvas.shape[0] // runtime.features(canvas).shape[0]
    finer = f"stride{stride // 2}"
    return (finer, 2) if finer in runtime.map_names else (f"stride{stride}", 1)


def _usable(warm: object, features: Features, ratio: int) -> dict[str, NDArray[np.float32]] | None:
    """The warm start's arrays, if they are this network's: not of another backbone, nor as an earlier halfsigma built it."""
    if not isinstance(warm, EfficientAd):
        return None
    import torch

    from detectors.learning.networks.compact import CompactNetwork

    channels, stage_channels = features.patches.shape[-1], features.stage.shape[-1]
    with torch.device("meta"):  # for its shapes alone
        network = CompactNetwork(patch_channels=channels, stage_channels=stage_channels, ratio=ratio)
    arrays = warm.arrays()
    return None if not_of(network, arrays) else arrays


def _best_share(module: CompactNetwork, good: Iterable[Image], defective: Iterable[Image]) -> float:
    """The autoencoder's share that tells good images best from their copies with a synthetic defect, or none.

    Real defects may not be looked at. The choice among three leaves the reference as honest as it was.

    Args:
        module: as it was trained.
        good, defective: images as `imitation.prepared` gives them.
    """
    import torch

    def maps(target: torch.Tensor, stage: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            described = module.student(stage)
            local = module.normalised(module.local_map(target, described), 0)
            whole = module.normalised(module.whole_map(stage, described), 1)
        return local[0].numpy(), whole[0].numpy()

    kinds = [[maps(*each) for each in images] for images in (good, defective)]
    found = {}
    for share in WHOLE_SHARES:
        low, high = (
            np.array(
                [top_mean((1 - share) * local + share * whole, top_share=TOP_SHARE).score for local, whole in kind]
            )
            for kind in kinds
        )
        found[share] = float((high[:, None] > low[None, :]).mean())
    best = max(found, key=lambda share: (found[share], -share))
    return best if found[best] >= found[0.0] + LEAST_GAIN else 0.0
