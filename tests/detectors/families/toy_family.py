"""A seventh family, as CONTRIBUTING.md says one is made: a bottleneck that learns to give good patches back.

Run as a program it trains one network with checkpoints, for the test that kills it: FOLDER KILL_AT_STEP.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from detectors.backbones.module_arrays import load_arrays, module_arrays
from detectors.backbones.runtime import CanvasSize, FeatureRuntime, Head
from detectors.backbones.tracing import PATCHES
from detectors.calibration import hold_out
from detectors.learning import training
from detectors.learning.training import Plan, identity_of, seeded, train
from detectors.protocol import FitContext, Fitted, ImageScore, common_size

BATCH = 8
PLAN = Plan(steps=150, learning_rate=3e-3, validate_every=25)


class Bottleneck(torch.nn.Module):
    """(1, rows, columns, channels) → squared error of each patch, (1, rows, columns)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(channels, 24, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(24)  # has buffers, one of them an integer
        self.up = torch.nn.Conv2d(24, channels, 1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        maps = patches.permute(0, 3, 1, 2)
        again = self.up(torch.nn.functional.dropout(torch.relu(self.norm(self.down(maps))), 0.05, self.training))
        return (again - maps).square().mean(dim=1)


class ToyFamily:
    family: ClassVar[str] = "toy"

    def __init__(self, runtime: FeatureRuntime, head: Head, arrays: Mapping[str, Any], size: CanvasSize | None) -> None:
        self._arrays = dict(arrays)
        self._head = head
        self._size = size
        self._network = runtime.network(head, fixed_size=size)

    @classmethod
    def fit(
        cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext
    ) -> Fitted[Self]:
        held_out = hold_out(len(canvases), seed=context.seed, seen=context.seen, warm=context.warm_start is not None)
        features = [torch.from_numpy(runtime.features(canvas)) for canvas in canvases]
        with seeded(context.seed):
            module = Bottleneck(features[0].shape[-1])
        if context.warm_start is not None:
            load_arrays(module, context.warm_start.arrays())
        fitted, kept = ([features[i] for i in part] for part in (held_out.fitted, held_out.reference))

        def loss(rng: np.random.Generator) -> torch.Tensor:
            return module(torch.stack([fitted[i] for i in rng.choice(len(fitted), BATCH)])).mean()

        train(
            module,
            PLAN,
            loss=loss,
            validate=lambda: float(module(torch.stack(kept)).mean()),
            context=context,
            identity=identity_of(canvases, runtime, cls.family),
        )
        head = Head.of(module, inputs=(PATCHES,), runtime=runtime)
        model = cls(runtime, head, module_arrays(module), common_size(canvases))
        scores = np.array([model.score(canvases[i]).score for i in held_out.reference])
        return Fitted(model, held_out.reference, scores)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        (anomaly_map,) = self._network(canvas)
        return ImageScore(float(anomaly_map.max()), anomaly_map)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return dict(self._arrays)

    def settings_record(self) -> dict[str, object]:
        return {"size": self._size}

    def save_network(self, folder: Path) -> None:
        self._head.save(folder)

    @classmethod
    def restore(
        cls,
        *,
        arrays: Mapping[str, NDArray[np.float32]],
        settings: Mapping[str, Any],
        runtime: FeatureRuntime,
        folder: Path,
    ) -> Self:
        head = Head.load(
            folder,
            inputs=(PATCHES,),
            runtime=runtime,
            build=lambda: Bottleneck(arrays["up.bias"].shape[0]),
            arrays=arrays,
        )
        size = settings["size"]
        return cls(runtime, head, arrays, (size[0], size[1]) if size else None)


def small_training(folder: Path | None, *, progress: Callable[[str, int, int], None], seed: int = 0) -> torch.nn.Module:
    """A training of some seconds on made-up features, the same each time."""
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 6, 6, 32)).astype(np.float32))
    with seeded(seed):
        module = Bottleneck(32).to(memory_format=torch.channels_last)
    train(
        module,
        PLAN,
        loss=lambda rng: module(features[rng.choice(30, BATCH)]).mean(),
        validate=lambda: float(module(features[30:]).mean()),
        context=FitContext(seed=seed, progress=progress, checkpoint=folder),
        identity="small",
    )
    return module


if __name__ == "__main__":
    checkpoints, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    training.CHECKPOINT_EVERY_S = 0.0

    def watch(what: str, done: int, total: int) -> None:
        print(done, flush=True)
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    save_file(module_arrays(small_training(checkpoints, progress=watch)), checkpoints / "weights.safetensors")
