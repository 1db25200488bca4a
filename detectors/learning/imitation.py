"""What compact EfficientAD learns from, and how: cached features of good images, and images of no part at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.head import load_arrays
from detectors.backbones.runtime import CanvasSize, FeatureRuntime
from detectors.backbones.tracing import PATCHES
from detectors.learning.learned_maps import moments
from detectors.learning.networks.compact import CompactNetwork
from detectors.learning.training import seeded

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


class Batches:
    """Images of one size together, as torch wants them: what the teacher says, and what the student reads."""

    def __init__(self, module: CompactNetwork, features: Sequence[Features]) -> None:
        import torch

        self.n_images = len(features)
        self._of_size: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        with torch.inference_mode():
            for each in features:
                target, stage = (torch.from_numpy(array)[None] for array in (each.patches, each.stage))
                pair = (module.target(target)[0].clone(), module.prepared(stage)[0].clone())
                self._of_size.setdefault(each.patches.shape, []).append(pair)
        self._sizes = list(self._of_size)
        self._shares = np.array([len(self._of_size[size]) for size in self._sizes]) / self.n_images

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, channels, rows, columns) targets and inputs of up to `BATCH` images of a size drawn by its frequency."""
        images = self._of_size[self._sizes[rng.choice(len(self._sizes), p=self._shares)]]
        return _stacked([images[i] for i in rng.choice(len(images), min(BATCH, len(images)), replace=False)])

    def all(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, of one size together, at most `BATCH` at a time."""
        return [
            _stacked(images[start : start + BATCH])
            for images in self._of_size.values()
            for start in range(0, len(images), BATCH)
        ]


def build(
    fitted: Sequence[Features], *, ratio: int, seed: int, warm: Mapping[str, NDArray[np.float32]] | None
) -> CompactNetwork:
    """The network before its training: the teacher's components, or all that the warm start has learned.

    The teacher of a warm start stays, as does what the student reads, with the new images brought to where the former ones lay:
    of another one the student would have to learn everything anew.
    """
    import torch

    channels, stage_channels = fitted[0].patches.shape[-1], fitted[0].stage.shape[-1]
    with seeded(seed):
        module = CompactNetwork(patch_channels=channels, stage_channels=stage_channels, ratio=ratio)
    module.to(memory_format=torch.channels_last)  # as the CPU's convolutions want it
    patches, stages = (moments(maps) for maps in zip(*((each.patches, each.stage) for each in fitted), strict=True))
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
            error = (target - module.imitation(module.student(stage))).square()
            squares += error.mean(dim=(2, 3)).sum(dim=0) / learned.n_images
        module.weight.copy_(1.0 / (squares + _LEAST_SQUARE))
        maps = [
            (module.local_map(target, described), module.whole_map(stage, described))
            for target, stage in held_out.all()
            for described in (module.student(stage),)
        ]
        for row, of_one_kind in enumerate(zip(*maps, strict=True)):
            values = torch.cat([each.flatten() for each in of_one_kind]).numpy()
            module.scale[row] = torch.tensor(np.quantile(values, (LOW_QUANTILE, HIGH_QUANTILE)))


def _stacked(images: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    targets, inputs = (torch.stack(each) for each in zip(*images, strict=True))
    return targets, inputs.contiguous(memory_format=torch.channels_last)
