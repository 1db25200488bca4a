"""What compact EfficientAD learns from, and how: cached features of good images, and images of no part at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays
from detectors.backbones.runtime import CanvasSize, FeatureRuntime
from detectors.backbones.tracing import PATCHES
from detectors.learning.networks.compact import CompactNetwork
from detectors.learning.training import seeded
from detectors.patches.whitening import PatchMoments

if TYPE_CHECKING:
    import torch

BATCH = 8
LOW_QUANTILE, HIGH_QUANTILE = 0.9, 0.995
"""Of a map over held-out goods; they become 0 and 0.1: the paper's q_a and q_b."""
N_STRANGERS = 32
_STRANGERS_SLOPE = (0.5, 2.5)
"""Amplitudes fall with frequency to the power of minus this: photographs have about 1."""
_STRANGERS_CONTRAST = (20.0, 70.0)
_LEAST_SQUARE = 1e-6
"""A component that is always imitated is divided by this."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the backbone says of one canvas: patches and the finer stage, (rows, columns, channels) float32."""

    patches: NDArray[np.float32]
    stage: NDArray[np.float32]


def read(canvases: Iterable[NDArray[np.uint8]], runtime: FeatureRuntime, stage: str) -> Iterator[Features]:
    return (Features(*found) for found in runtime.stream(canvases, (PATCHES, stage)))


def strangers(size: CanvasSize, *, seed: int) -> list[NDArray[np.uint8]]:
    """Images of no part, which stand in for the paper's ImageNet: coloured noise of many slopes and contrasts."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None, :])
    radius[0, 0] = 1.0 / max(size)
    found = []
    for _ in range(N_STRANGERS):
        falling = radius ** -rng.uniform(*_STRANGERS_SLOPE)
        noise = rng.normal(size=(2, 3, *size))
        planes = np.fft.ifft2((noise[0] + 1j * noise[1]) * falling).real
        planes /= planes.std()
        coloured = np.einsum("chw,cd->hwd", planes, rng.normal(size=(3, 3)))
        found.append(np.clip(128.0 + rng.uniform(*_STRANGERS_CONTRAST) * coloured, 0, 255).astype(np.uint8))
    return found


def prepared(module: CompactNetwork, features: Iterable[Features]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Of each image what the teacher says, and what the student reads, (1, channels, rows, columns)."""
    import torch

    for each in features:
        target, stage = (torch.from_numpy(array)[None] for array in (each.patches, each.stage))
        with torch.inference_mode():
            pair = module.target(target), module.prepared(stage)
        yield pair


class Batches:
    """Images of one size together, as `prepared` gives them."""

    def __init__(self, module: CompactNetwork, features: Iterable[Features]) -> None:
        self._of_size: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for target, stage in prepared(module, features):
            self._of_size.setdefault(tuple(target.shape), []).append((target[0].clone(), stage[0].clone()))
        self.n_images = sum(map(len, self._of_size.values()))
        self._sizes = list(self._of_size)
        self._shares = np.array([len(self._of_size[size]) for size in self._sizes]) / self.n_images

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, channels, rows, columns) targets and inputs of up to `BATCH` images of a size drawn by its frequency."""
        images = self._of_size[self._sizes[rng.choice(len(self._sizes), p=self._shares)]]
        return _stacked([images[i] for i in rng.choice(len(images), min(BATCH, len(images)), replace=False)])

    def all(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, of one size together, at most `BATCH` at a time."""
        for images in self._of_size.values():
            for start in range(0, len(images), BATCH):
                yield _stacked(images[start : start + BATCH])

    def one_by_one(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, as `prepared` gives it."""
        for images in self._of_size.values():
            for target, stage in images:
                yield target[None], stage[None]


def moments_of(features: Iterable[Features]) -> tuple[PatchMoments, PatchMoments]:
    """Of all patches, and of all positions of the stage's maps."""
    return joined(_moments_of_one(each) for each in features)


def joined(parts: Iterable[tuple[PatchMoments, PatchMoments]]) -> tuple[PatchMoments, PatchMoments]:
    """Of the images of all parts."""
    return reduce(lambda one, other: (one[0] + other[0], one[1] + other[1]), parts)


def build(
    good: tuple[PatchMoments, PatchMoments], *, ratio: int, seed: int, warm: Mapping[str, NDArray[np.float32]] | None
) -> CompactNetwork:
    """The network before its training: the teacher's components, or all that the warm start has learned.

    The teacher of a warm start stays, as does what the student reads, with the new images brought to where the former ones lay:
    of another one the student would have to learn everything anew.

    Args:
        good: of the images that are learned from, as `moments_of` gives them.
        ratio: how many times finer the stage is than the patches.
        seed: of what is drawn.
        warm: the arrays of another network of these channels.
    """
    import torch

    patches, stages = good
    with seeded(seed):
        module = CompactNetwork(patch_channels=len(patches.total), stage_channels=len(stages.total), ratio=ratio)
    module.to(memory_format=torch.channels_last)  # as the CPU's convolutions want it
    if warm is None:
        module.teacher.learn_components(patches)
        module.inputs.learn(stages)
    else:
        load_arrays(module, warm)
        module.teacher.follow(patches)
        module.inputs.follow(stages)
    return module


def set_scales(module: CompactNetwork, learned: Batches, held_out: Batches) -> None:
    """Set the components' weights on the images that were learned, and the maps' scale on those that were not.

    A component that the student imitates badly on good images says little when it is off on another one. Were the
    weights taken from held-out images, those would score lower than any new image does.
    """
    import torch

    with torch.inference_mode():
        squares = torch.zeros_like(module.weight)
        for target, stage in learned.all():
            squares += squared_errors(module, target, stage).sum(dim=0) / learned.n_images
        set_weight(module, squares)
    set_map_scales(module, held_out.all())


def squared_errors(module: CompactNetwork, target: torch.Tensor, stage: torch.Tensor) -> torch.Tensor:
    """Of each component, the mean over an image of what the student gets wrong: (n, channels)."""
    found: torch.Tensor = (target - module.imitation(module.student(stage))).square().mean(dim=(2, 3))
    return found


def set_weight(module: CompactNetwork, squares: torch.Tensor) -> None:
    """From the components' mean squared errors on good images, (channels,)."""
    module.weight.copy_(1.0 / (squares + _LEAST_SQUARE))


def set_map_scales(module: CompactNetwork, good: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """From both maps of good images, given as targets and stages."""
    import torch

    with torch.inference_mode():
        maps = [
            (module.local_map(target, described), module.whole_map(stage, described))
            for target, stage in good
            for described in (module.student(stage),)
        ]
        for row, of_one_kind in enumerate(zip(*maps, strict=True)):
            values = torch.cat([each.flatten() for each in of_one_kind]).numpy()
            module.scale[row] = torch.tensor(np.quantile(values, (LOW_QUANTILE, HIGH_QUANTILE)))


def _stacked(images: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    targets, inputs = (torch.stack(each) for each in zip(*images, strict=True))
    return targets, inputs.contiguous(memory_format=torch.channels_last)


def _moments_of_one(features: Features) -> tuple[PatchMoments, PatchMoments]:
    patches, stage = (PatchMoments.of(each.reshape(-1, each.shape[-1])) for each in (features.patches, features.stage))
    return patches, stage
