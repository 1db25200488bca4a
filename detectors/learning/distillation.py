"""A teacher for EfficientAD's own networks: from a file, or distilled from the line's frozen backbone.

The authors distil theirs from a WideResNet-101 over ImageNet. Neither is here: the backbone speaks, and the images are
the line's own goods and coloured noise. A teacher made so knows the part's world and little else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.learning.training import Plan, identity_of, train
from detectors.protocol import FitContext
from halfsigma import ArtifactError

if TYPE_CHECKING:
    import torch

TEACHER_VARIABLE = "HALFSIGMA_EFFICIENTAD_TEACHER"
"""Names a ``.safetensors`` file with the teacher's weights and biases, in the order of its layers."""
PLAN = Plan(steps=2000, learning_rate=1e-4, weight_decay=1e-5, validate_every=100, patience=5)
BATCH = 2
_GRID_WITH_BORDER = 64
_BORDER = 4
"""A description lies 16.5 pixels and more from the border, in steps of 4 of 256: 4 of 64 places are lost on each side."""


def teacher_file() -> Path | None:
    """The user's own teacher, if there is one."""
    named = os.environ.get(TEACHER_VARIABLE)
    return Path(named) if named else None


def load_teacher(teacher: torch.nn.Module, file: Path) -> None:
    """Fill the network from a file; names do not matter, order and shapes do.

    Raises:
        ArtifactError: the file cannot be read, or is of another network.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            layers = sorted({name.rpartition(".")[0] for name in opened.keys()}, key=_number)  # noqa: SIM118
            tensors = [opened.get_tensor(f"{layer}.{kind}") for layer in layers for kind in ("weight", "bias")]
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}", hint=f"set {TEACHER_VARIABLE} to a teacher") from error
    own = list(teacher.state_dict().values())
    if [tensor.shape for tensor in own] != [tensor.shape for tensor in tensors]:
        raise ArtifactError(
            f"{file} holds {[tuple(each.shape) for each in tensors][:3]} …, expected "
            f"{[tuple(each.shape) for each in own][:3]} …",
            hint="give the teacher of this size: small or medium",
        )
    with torch.no_grad():
        for tensor, given in zip(own, tensors, strict=True):
            tensor.copy_(given)


def _number(layer: str) -> int:
    """Of ``conv10`` or ``10``: the alphabet would put it before ``conv2``."""
    return int("".join(filter(str.isdigit, layer)) or 0)


def distil_teacher(
    teacher: torch.nn.Module,
    canvases: Sequence[NDArray[np.uint8]],
    held_out: Sequence[NDArray[np.uint8]],
    *,
    prepared: Callable[[NDArray[np.uint8]], torch.Tensor],
    runtime: FeatureRuntime,
    context: FitContext,
    strangers: Sequence[NDArray[np.uint8]] = (),
    steps: int = PLAN.steps,
) -> None:
    """Teach the network to say what the backbone says, place by place, mean squared error over all channels.

    Args:
        teacher: (n, 3, 256, 256) → (n, channels, 56, 56).
        canvases: to learn from, (h, w, 3) uint8.
        held_out: to stop by.
        prepared: a canvas as the teacher reads it, (1, 3, 256, 256).
        runtime: the frozen backbone.
        context: seed, progress, checkpoints.
        strangers: to learn from as well.
        steps: at most.
    """
    import torch
    from torch.nn import functional

    n_images = len(canvases) + len(strangers)

    def image(index: int) -> NDArray[np.uint8]:
        return canvases[index] if index < len(canvases) else strangers[index - len(canvases)]

    channels = list(teacher.state_dict().values())[-1].shape[0]
    n_given = runtime.features(canvases[0]).shape[-1]
    # More channels than the backbone has: spread by an isometry, so that distances stay what they are.
    square = np.random.default_rng(context.seed).normal(size=(max(channels, n_given),) * 2)
    spread = torch.from_numpy(np.linalg.qr(square)[0][:channels, :n_given].astype(np.float32))
    few = np.concatenate([runtime.features(image(i)).reshape(-1, n_given) for i in range(min(n_images, 50))])
    mean, sd = (torch.from_numpy(each) for each in (few.mean(axis=0), few.std(axis=0) + 1e-3))

    def target(canvas: NDArray[np.uint8]) -> torch.Tensor:
        features = (torch.from_numpy(runtime.features(canvas)) - mean) / sd
        maps = (features @ spread.T).permute(2, 0, 1)[None]
        side = _GRID_WITH_BORDER
        whole = functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
        inner: torch.Tensor = whole[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
        return inner

    def error(images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        said = teacher(torch.cat([prepared(image) for image in images]))
        found: torch.Tensor = (said - torch.cat([target(image) for image in images])).square().mean()
        return found

    train(
        teacher.requires_grad_(True),
        replace(PLAN, steps=steps),
        loss=lambda rng: error([image(i) for i in rng.choice(n_images, BATCH)]),
        validate=lambda: float(np.mean([error([image]).item() for image in held_out])),
        context=context,
        identity=identity_of(chain(canvases, strangers, held_out), runtime, "efficientad teacher", len(held_out)),
    )
    teacher.requires_grad_(False)
