"""A frozen backbone's map of the images to fit, computed and standardised once, and the families that learn on it."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays, not_of
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import evenly, hold_out
from detectors.learning.memory import first_maps, learned_from, n_affordable, released
from detectors.learning.trained import TrainedDetector, TrainedSettings
from detectors.learning.training import Plan, held_out_loss, identity_of, seeded, train
from detectors.patches.whitening import PatchMoments
from detectors.protocol import Detector, FitContext, Fitted, common_size

if TYPE_CHECKING:
    import torch

BATCH = 8
FAR = 0.1
"""Of the champion's held-out loss. Where new goods lose more than that above it, its network has to learn them anew."""


@dataclass(frozen=True, slots=True)
class MapSettings(TrainedSettings):
    """What is chosen for a line, besides what every trained family chooses.

    Attributes:
        channels: of the map that is read; found while fitting.
        held_out_loss: of the network that was kept, on the goods that were held out; a retrain tells by it how far the
            station has moved. None in versions that did not keep it.
    """

    channels: int = 0
    held_out_loss: float | None = None


class StandardMaps:
    """Maps of several images, (channels, rows, columns) each, drawn in batches of one size."""

    def __init__(self, maps: Sequence[torch.Tensor]) -> None:
        self._maps = maps
        by_size = defaultdict(list)
        for index, each in enumerate(maps):
            by_size[tuple(each.shape[-2:])].append(index)
        self._of_size = [np.array(members) for _, members in sorted(by_size.items())]

    def draw(self, rng: np.random.Generator, n: int) -> torch.Tensor:
        """A batch of at most ``n`` images of one size, (batch, channels, rows, columns).

        A size is drawn as often as it has images. So each image weighs as much as any other in the mean of many
        batches, those of a rare size too, whose batches are small.
        """
        counts = np.array([len(members) for members in self._of_size], np.float64)
        members = self._of_size[int(rng.choice(len(counts), p=counts / counts.sum()))]
        return self._stacked(rng.choice(members, min(n, len(members)), replace=False))

    def batches(self, n: int) -> Iterator[torch.Tensor]:
        """All images once, in batches of at most ``n``."""
        for members in self._of_size:
            for start in range(0, len(members), n):
                yield self._stacked(members[start : start + n])

    def _stacked(self, members: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.stack([self._maps[i] for i in members])


class MapDetector(TrainedDetector):
    """A family whose network (`module.network`) reads one of the backbone's maps, standardised (`module.standardise`)."""

    inputs: ClassVar[tuple[str, ...]] = ("stride16",)
    settings_type: ClassVar[type[TrainedSettings]] = MapSettings
    from_scratch: ClassVar[Plan]
    warm: ClassVar[Plan]
    """From the champion's network."""
    warm_from_far: ClassVar[Plan | None] = None
    """From the network of a champion that no longer knows the images, where that asks for another plan."""

    @classmethod
    @abstractmethod
    def loss(cls, module: Any, maps: torch.Tensor) -> torch.Tensor:
        """Of a batch of standardised maps, (n, channels, rows, columns); a scalar."""

    @classmethod
    def fit(
        cls,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        context: FitContext,
        settings: MapSettings | None = None,
    ) -> Fitted[Self]:
        """Learn on the maps of the images; those of the held-out goods decide when to stop.

        A warm start takes over the champion's standardisation as well: its network knows no other.
        """
        held_out = hold_out(len(canvases), seed=context.seed, seen=context.seen, warm=context.warm_start is not None)
        (first,) = first_maps(canvases, runtime, cls.inputs)
        chosen = replace(settings or MapSettings(), canvas_size=common_size(canvases), channels=first.shape[-1])
        with seeded(context.seed):
            module: Any = cls.build(chosen)
        if context.warm_start is not None and not_of(module, context.warm_start.arrays()):
            # of an earlier halfsigma, whose networks were others
            return cls.fit(canvases, runtime=runtime, context=replace(context, warm_start=None), settings=settings)
        most = n_affordable([first])
        raw: list[list[NDArray[np.float32]]] = []
        for part in (
            learned_from(held_out.fitted, most=most, seed=context.seed),
            evenly(held_out.validation, most),
        ):
            raw.append([])
            for found, *_ in runtime.stream((canvases[index] for index in part), cls.inputs):
                context.progress("features", len(raw[-1]), len(part))
                raw[-1].append(found)
        if context.warm_start is None:
            module.standardise.learn(moments(raw[0]))
        else:
            load_arrays(module, context.warm_start.arrays())
        fitted, kept = (_standardised(module, released(part)) for part in raw)

        def validate() -> float:
            found = [(float(cls.loss(module, maps)), len(maps)) for maps in kept.batches(BATCH)]
            return sum(loss * n for loss, n in found) / sum(n for _, n in found)

        at_start = held_out_loss(module.network, validate)
        training = train(
            module.network,
            cls._plan(context.warm_start, at_start),
            loss=lambda rng: cls.loss(module, fitted.draw(rng, BATCH)),
            validate=validate,
            context=context,
            identity=identity_of(canvases, runtime, cls.family, chosen, held_out.reference.tolist()),
            at_start=at_start,
        )
        finished = replace(chosen, held_out_loss=training.best)
        return cls.finished(module, canvases, runtime=runtime, settings=finished, held_out=held_out)

    @classmethod
    def _plan(cls, champion: Detector | None, at_start: float) -> Plan:
        if champion is None:
            return cls.from_scratch
        known = cast("float | None", champion.settings_record().get("held_out_loss"))
        if cls.warm_from_far is None or known is None or at_start <= known + FAR * abs(known):
            return cls.warm
        return cls.warm_from_far


def moments(raw: Iterable[NDArray[np.float32]]) -> PatchMoments:
    """Of all positions of all images, (rows, columns, channels) each."""
    return reduce(operator.add, (PatchMoments.of(each.reshape(-1, each.shape[-1])) for each in raw))


def _standardised(module: Any, raw: Iterable[NDArray[np.float32]]) -> StandardMaps:
    import torch

    with torch.no_grad():
        return StandardMaps([module.standardise(torch.from_numpy(each)[None])[0].contiguous() for each in raw])
