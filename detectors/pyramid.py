"""A frozen backbone's maps of the images to fit, computed once, and the families that learn on them alone."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import hold_out
from detectors.head import load_arrays
from detectors.protocol import FitContext, Fitted, Progress, common_size
from detectors.runtime import FeatureRuntime
from detectors.trained import TrainedDetector, TrainedSettings
from detectors.training import Plan, identity_of, seeded, train

if TYPE_CHECKING:
    import torch

STAGES = ("stride4", "stride8", "stride16")
"""The stages that reverse distillation and FastFlow read: ``layer1`` to ``layer3`` of a ResNet."""
BATCH = 8
MOST_LEARNED = 1000
"""Images whose maps are kept in memory while a network learns, 0.7 MB each at 256 px; of more, a seeded draw."""


class Pyramids:
    """Maps of several images, (channels, rows, columns) each, drawn in batches of one size.

    Args:
        maps: one tuple of maps, finest first, for each image.
    """

    def __init__(self, maps: Sequence[tuple[torch.Tensor, ...]]) -> None:
        self._maps = maps
        by_size = defaultdict(list)
        for index, levels in enumerate(maps):
            by_size[tuple(levels[0].shape[-2:])].append(index)
        self._of_size = [np.array(members) for _, members in sorted(by_size.items())]

    @classmethod
    def of(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        names: tuple[str, ...],
        progress: Progress,
    ) -> Pyramids:
        """The runtime's maps ``names`` of each canvas."""
        import torch

        maps = []
        for index, canvas in enumerate(canvases):
            progress("features", index, len(canvases))
            levels = runtime.maps(canvas, names)
            maps.append(tuple(torch.from_numpy(level).permute(2, 0, 1).contiguous() for level in levels))
        return cls(maps)

    def draw(self, rng: np.random.Generator, n: int) -> list[torch.Tensor]:
        """A batch of at most ``n`` images of one size, each level (batch, channels, rows, columns).

        A size is drawn as often as it has images. So each image weighs as much as any other in the mean of many
        batches, those of a rare size too, whose batches are small.
        """
        counts = np.array([len(members) for members in self._of_size], np.float64)
        members = self._of_size[int(rng.choice(len(counts), p=counts / counts.sum()))]
        return self._stacked(rng.choice(members, min(n, len(members)), replace=False))

    def batches(self, n: int) -> Iterator[list[torch.Tensor]]:
        """All images once, in batches of at most ``n``."""
        for members in self._of_size:
            for start in range(0, len(members), n):
                yield self._stacked(members[start : start + n])

    def moments(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and standard deviation of each level's channels over all images and positions, (channels,) each."""
        import torch

        found = []
        for level in range(len(self._maps[0])):
            n, total, squares = 0, torch.zeros(()), torch.zeros(())
            for levels in self._maps:
                each = levels[level].double().flatten(1)
                n, total, squares = n + each.shape[1], total + each.sum(1), squares + each.square().sum(1)
            mean = total / n
            found.append((mean.float(), (squares / n - mean.square()).clamp(min=0).sqrt().float()))
        return found

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the levels, finest first."""
        return tuple(int(level.shape[0]) for level in self._maps[0])

    def _stacked(self, members: Sequence[int] | NDArray[np.int64]) -> list[torch.Tensor]:
        import torch

        return [torch.stack([self._maps[i][level] for i in members]) for level in range(len(self.channels))]


class PyramidDetector(TrainedDetector):
    """A family whose network reads the backbone's stages and standardises them (`module.standardise`)."""

    inputs: ClassVar[tuple[str, ...]] = STAGES
    from_scratch: ClassVar[Plan]
    warm: ClassVar[Plan]

    @classmethod
    @abstractmethod
    def loss(cls, module: Any, levels: list[torch.Tensor]) -> torch.Tensor:
        """Of a batch of pyramids, each level (n, channels, rows, columns); a scalar."""

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        context: FitContext,
        settings: TrainedSettings | None = None,
    ) -> Fitted[Self]:
        """Learn on the maps of the images; those of the held-out goods decide when to stop.

        A warm start takes over the champion's standardisation as well: its network knows no other.
        """
        held_out = hold_out(len(canvases), seed=context.seed, seen=context.seen)
        fitted, kept = (
            Pyramids.of([canvases[i] for i in part], runtime=runtime, names=cls.inputs, progress=context.progress)
            for part in (_learned(held_out.fitted, seed=context.seed), held_out.reference)
        )
        chosen = replace(settings or cls.settings_type(), canvas_size=common_size(canvases), channels=fitted.channels)
        with seeded(context.seed):
            module = cls.build(chosen)
        module.standardise.learn(fitted.moments())
        if context.warm_start is not None:
            load_arrays(module, context.warm_start.arrays())

        def validate() -> float:
            found = [(float(cls.loss(module, levels)), len(levels[0])) for levels in kept.batches(BATCH)]
            return sum(loss * n for loss, n in found) / sum(n for _, n in found)

        train(
            module,
            cls.warm if context.warm_start is not None else cls.from_scratch,
            loss=lambda rng: cls.loss(module, fitted.draw(rng, BATCH)),
            validate=validate,
            context=context,
            identity=identity_of(canvases, cls.family, chosen),
        )
        return cls.finished(module, canvases, runtime=runtime, settings=chosen, held_out=held_out)


def _learned(fitted: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """The images that are learned from: all that are fitted on, or a draw of `MOST_LEARNED`, in order."""
    if len(fitted) <= MOST_LEARNED:
        return fitted
    return np.sort(np.random.default_rng(seed).choice(fitted, MOST_LEARNED, replace=False))
