"""Building the runtime that suits this machine, and loading the one that a version was saved with."""

from __future__ import annotations

from pathlib import Path

from detectors.backbones.backbone import BackboneSpec, load_backbone
from detectors.backbones.openvino_runtime import OpenVinoRuntime
from detectors.backbones.runtime import FeatureRuntime, RuntimeName
from detectors.backbones.torch_runtime import TorchRuntime
from detectors.backbones.tracing import TRACED_SIDE_PX, map_names, patch_module, to_openvino
from halfsigma import ArtifactError


def build_runtime(spec: BackboneSpec, *, neighbourhood: int, kind: RuntimeName | None = None) -> FeatureRuntime:
    """A runtime for this backbone; OpenVINO unless a GPU is there or ``kind`` says otherwise.

    Args:
        spec: the network, its weights and where it is read.
        neighbourhood: side of the square of patches that are averaged, odd.
        kind: the runtime, by default the faster one of this machine.

    Raises:
        DetectorError: the backbone cannot be loaded or converted.
    """
    import torch

    backbone = load_backbone(spec)
    if kind is None:
        kind = "torch" if torch.cuda.is_available() else "openvino"
    if kind == "torch":
        return TorchRuntime(backbone, spec.architecture, neighbourhood=neighbourhood)
    example = torch.zeros(1, TRACED_SIDE_PX, TRACED_SIDE_PX, 3, dtype=torch.uint8)
    model = to_openvino(patch_module(backbone, neighbourhood=neighbourhood), [example])
    return OpenVinoRuntime(model, map_names(backbone))


def load_runtime(folder: Path, record: dict[str, object]) -> FeatureRuntime:
    """The runtime that `FeatureRuntime.save` wrote, from its files alone.

    Raises:
        ArtifactError: the record names a runtime that this version of halfsigma does not know.
    """
    if record["name"] == "openvino":
        return OpenVinoRuntime.load(folder, record)
    if record["name"] == "torch":
        return TorchRuntime.load(folder, record)
    raise ArtifactError(f"unknown runtime {record['name']!r}", hint="install the halfsigma that wrote this version")
