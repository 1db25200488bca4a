"""DRAEM: one network rebuilds what it is shown as if it were good, another has learned to see where it had to.

Zavrtanik, Kristan and Skočaj, ICCV 2021 (arXiv 2108.07610). The compact form: both read a frozen backbone's stages
instead of pixels. What differs from the paper, and why, is in docs/decisions/trained-networks.md; the paper's own
networks are `detectors.families.draem_paper`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays, not_of
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import evenly, hold_out
from detectors.defects.simulated import Float, spoil
from detectors.learning.learned_maps import moments
from detectors.learning.memory import first_maps, learned_from, n_affordable, released
from detectors.learning.trained import TrainedDetector, TrainedSettings
from detectors.learning.training import Plan, identity_of, seeded, train
from detectors.protocol import FitContext, Fitted, Progress, common_size

if TYPE_CHECKING:
    import torch

    from detectors.learning.networks.draem_features import FeatureDraem

BATCH = 8
FROM_SCRATCH = Plan(steps=2000, learning_rate=1e-3, weight_decay=1e-5, validate_every=200, patience=4)
WARM = Plan(steps=100, learning_rate=2e-4, weight_decay=1e-5, validate_every=25, patience=4)
SPOILT, SPOILT_WARM = 600, 300
"""Simulated anomalies to learn from, made before the training: the backbone reads them at its own speed, and in the
training nothing but the training runs. A fresh one for each step's images was no better (trained-networks.md)."""
_SPOILT_TO_VALIDATE = 24
_MASKED_SHARE = 0.25
"""Of a cell, from which on it counts as anomalous."""


@dataclass(frozen=True, slots=True)
class DraemSettings(TrainedSettings):
    """What is chosen for a line.

    Attributes:
        top_share: 0, the largest value of the map alone, as in the paper.
        channels: of the two stages, found while fitting.
    """

    top_share: float = 0.0
    channels: tuple[int, int] = (0, 0)


class Draem(TrainedDetector):
    """Where the networks see an anomaly, as a probability, averaged over a window; the image's score is its maximum."""

    family: ClassVar[str] = "draem"
    inputs: ClassVar[tuple[str, ...]] = ("stride8", "stride16")
    settings_type: ClassVar[type[TrainedSettings]] = DraemSettings

    @classmethod
    def build(cls, settings: DraemSettings) -> FeatureDraem:
        from detectors.learning.networks.draem_features import FeatureDraem

        return FeatureDraem(*settings.channels)

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext
    ) -> Fitted[Self]:
        """Learn on the images with simulated anomalies; the held-out ones, with others, decide when to stop.

        A warm start brings the new stages to where the champion's lay, since its network knows no others.
        """
        from detectors.learning.networks.draem_features import feature_loss

        parts = hold_out(len(canvases), seed=context.seed, seen=context.seen, warm=context.warm_start is not None)
        fine, coarse = first_maps(canvases, runtime, cls.inputs)
        settings = DraemSettings(common_size(canvases), channels=(fine.shape[-1], coarse.shape[-1]))
        with seeded(context.seed):
            module = cls.build(settings)
        if context.warm_start is not None and not_of(module, context.warm_start.arrays()):
            # of an earlier halfsigma, whose networks were others
            return cls.fit(canvases, runtime=runtime, context=replace(context, warm_start=None))
        most = n_affordable([fine, coarse])
        learned = learned_from(parts.fitted, most=most, seed=context.seed)
        raw: list[Sequence[NDArray[np.float32]]] = []
        for found in runtime.stream((canvases[index] for index in learned), cls.inputs):
            context.progress("features", len(raw), len(learned))
            raw.append(found)
        good = [moments(each[number] for each in raw) for number in range(len(cls.inputs))]
        if context.warm_start is not None:
            load_arrays(module, context.warm_start.arrays())
        for standardise, of_stage in zip(module.standardise, good, strict=True):
            if context.warm_start is None:
                standardise.learn(of_stage)
            else:
                standardise.follow(of_stage)
        rng = np.random.default_rng([context.seed, len(canvases)])
        examples = Examples(module, canvases, learned, released(raw), runtime)
        examples.spoil(min(most, SPOILT if context.warm_start is None else SPOILT_WARM), rng, context.progress)
        kept = evenly(parts.validation, most)
        of_kept = runtime.stream((canvases[i] for i in kept), cls.inputs)
        held_out = Examples(module, canvases, kept, of_kept, runtime)
        held_out.spoil(_SPOILT_TO_VALIDATE, rng, context.progress)
        looked_at = [held_out.draw(rng) for _ in range(2 * _SPOILT_TO_VALIDATE // BATCH)]

        def loss(batch: Batch) -> torch.Tensor:
            rebuilt, logits = module.network(batch.given)
            return feature_loss(batch.good, rebuilt, batch.mask, logits)

        train(
            module.network,
            FROM_SCRATCH if context.warm_start is None else WARM,
            loss=lambda rng: loss(examples.draw(rng)),
            validate=lambda: float(np.mean([float(loss(batch)) for batch in looked_at])),
            context=context,
            identity=identity_of(canvases, runtime, cls.family, settings, parts.reference.tolist()),
        )
        return cls.finished(module, canvases, runtime=runtime, settings=settings, held_out=parts)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Features of good images, and of the same with simulated anomalies, (n, channels, rows, columns) float32 each, and
    masks, (n, `FINER` · rows, `FINER` · columns) float32.
    """

    good: torch.Tensor
    given: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Spoilt:
    """A good image's number, the features of it with an anomaly, and the anomaly's mask by cell."""

    of: int
    given: torch.Tensor
    mask: torch.Tensor


class Examples:
    """Good images with their features, and some of them with simulated anomalies, from which batches are drawn.

    Canvases are read when one of them is spoilt, and not kept.
    """

    def __init__(
        self,
        module: FeatureDraem,
        canvases: Sequence[NDArray[np.uint8]],
        of: NDArray[np.int64],
        maps: Iterable[Sequence[NDArray[np.float32]]],
        runtime: FeatureRuntime,
    ) -> None:
        """``maps`` are those of ``canvases[i]`` for each i in ``of``, as `Draem.inputs` names them."""
        self._module, self._canvases, self._of, self._runtime = module, canvases, of, runtime
        self._good = [self._features(each) for each in maps]
        by_size = defaultdict(list)
        for index, features in enumerate(self._good):
            by_size[tuple(features.shape)].append(index)
        self._of_size = [np.array(members) for _, members in sorted(by_size.items())]
        self._spoilt: list[list[Spoilt]] = []

    def spoil(self, n: int, rng: np.random.Generator, progress: Progress) -> None:
        """Make ``n`` simulated anomalies, or a few more: as many of a size as it has images, and one at least."""
        done = 0
        for members in self._of_size:
            self._spoilt.append([])
            drawn: deque[tuple[int, Float]] = deque()
            images = self._anomalies(members, math.ceil(n * len(members) / len(self._good)), rng, drawn)
            for maps in self._runtime.stream(images, Draem.inputs):
                progress("simulated anomalies", done, max(n, done))
                self._spoilt[-1].append(self._spoilt_of(maps, *drawn.popleft()))
                done += 1

    def draw(self, rng: np.random.Generator) -> Batch:
        """Of a size, drawn as often as it has images: `BATCH` examples, every other one spoilt."""
        import torch

        counts = np.array([len(members) for members in self._of_size], np.float64)
        size = int(rng.choice(len(counts), p=counts / counts.sum()))
        good = [self._good[i] for i in rng.choice(self._of_size[size], BATCH // 2)]
        spoilt = [self._spoilt[size][i] for i in rng.choice(len(self._spoilt[size]), BATCH // 2)]
        sound = torch.zeros_like(spoilt[0].mask)
        return Batch(
            torch.stack([*good, *(self._good[each.of] for each in spoilt)]),
            torch.stack([*good, *(each.given for each in spoilt)]),
            torch.stack([*[sound] * len(good), *(each.mask for each in spoilt)]),
        )

    def _anomalies(
        self, members: NDArray[np.int64], n: int, rng: np.random.Generator, drawn: deque[tuple[int, Float]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Canvases with an anomaly; the number of the image and the mask of each are appended to ``drawn``."""
        for _ in range(n):
            index, other = (int(i) for i in rng.choice(members, 2))
            image, texture = (self._canvases[self._of[i]].astype(np.float32) / np.float32(255) for i in (index, other))
            found = spoil(image, [texture], rng)
            drawn.append((index, found.mask))
            yield _as_canvas(found.image)

    def _spoilt_of(self, maps: Sequence[NDArray[np.float32]], index: int, mask: Float) -> Spoilt:
        import torch
        from torch.nn import functional

        from detectors.learning.networks.draem_features import FINER

        given = self._features(maps)
        cells = [FINER * side for side in given.shape[-2:]]
        share = functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None], cells)[0]
        return Spoilt(index, given, (share > _MASKED_SHARE).to(torch.float32))

    def _features(self, maps: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            found: torch.Tensor = self._module.features(*(torch.from_numpy(each)[None] for each in maps))[0]
        return found.clone()


def _as_canvas(image: Float) -> NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(image, 0.0, 1.0) * 255), np.uint8)
