"""From torch modules to OpenVINO models, and the module that reads a backbone's maps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.backbones.backbone import Backbone
from halfsigma import ArtifactError, DetectorError

if TYPE_CHECKING:
    import openvino
    import torch

PATCHES = "patches"
"""The name of the taps' features, joined and averaged; the other maps are named ``stride4``, ``stride8``, …"""
TRACED_SIDE_PX = 256
"""Of the canvas that is traced. Any multiple of 32 gives the same graph: "same" padding of even sizes does not depend on the size."""


def map_names(backbone: Backbone) -> tuple[str, ...]:
    """What `patch_module` returns, in its order.

    >>> map_names(Backbone(None, ("layer2",), {4: "layer1", 8: "layer2"}, (0.5,) * 3, (0.5,) * 3))
    ('patches', 'stride4', 'stride8')
    """
    return (PATCHES, *(f"stride{stride}" for stride in backbone.stages))


def patch_module(backbone: Backbone, *, neighbourhood: int) -> torch.nn.Module:
    """Normalise and run the backbone: (1, h, w, 3) uint8 → its `map_names`, each (1, rows, columns, channels).

    The first are PatchCore's locally aware patch features (Roth et al. 2022, section 3.1): the taps, each patch averaged
    with its neighbours, the coarser ones brought to the finest one's grid bilinearly. The others are the stages as the
    network gives them.
    """
    import torch
    from torch.nn import functional

    class PatchFeatures(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network
            self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1) * 255.0)
            self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1) * 255.0)
            self._kept: dict[str, torch.Tensor] = {}
            modules = dict(self.network.named_modules())
            for name in {*backbone.taps, *backbone.stages.values()}:
                modules[name].register_forward_hook(self._keep(name))

        def _keep(self, name: str) -> Callable[[torch.nn.Module, object, torch.Tensor], None]:
            def hook(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
                self._kept[name] = output

            return hook

        def forward(self, canvas: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pixels = (canvas.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
            self.network(pixels)
            taps = [self._kept[tap] for tap in backbone.taps]
            joined = []
            for each in taps:
                local = each
                if neighbourhood > 1:
                    local = functional.avg_pool2d(each, neighbourhood, 1, neighbourhood // 2, count_include_pad=False)
                if each is not taps[0]:
                    local = functional.interpolate(local, size=taps[0].shape[-2:], mode="bilinear", align_corners=False)
                joined.append(local)
            stages = [self._kept[name] for name in backbone.stages.values()]
            self._kept.clear()
            return tuple(each.permute(0, 2, 3, 1) for each in (torch.cat(joined, dim=1), *stages))

    return PatchFeatures().eval().requires_grad_(False)


def to_openvino(module: torch.nn.Module, examples: Sequence[torch.Tensor]) -> openvino.Model:
    """The module in OpenVINO, float32, for any height and width.

    Args:
        module: takes and returns maps of (1, rows, columns, channels), a tensor or a tuple of them.
        examples: of what it takes; rows and columns may differ later, types and channels may not.

    Raises:
        DetectorError: it holds an operation that OpenVINO does not know.
    """
    import warnings

    import openvino
    import torch
    from openvino.frontend import GeneralFailure, NotImplementedFailure, OpConversionFailure, OpValidationFailure

    inputs = []
    for each in examples:
        kind = openvino.Type.u8 if each.dtype == torch.uint8 else openvino.Type.f32
        inputs.append((openvino.PartialShape([1, -1, -1, each.shape[-1]]), kind))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every constant that a shape becomes
            traced = torch.jit.freeze(torch.jit.trace(module.eval(), tuple(examples), check_trace=False))
            model = openvino.convert_model(traced, input=inputs)
    except (
        RuntimeError,
        ValueError,
        GeneralFailure,
        NotImplementedFailure,
        OpConversionFailure,
        OpValidationFailure,
    ) as error:
        raise DetectorError(
            f"this network cannot be converted to OpenVINO: {error}", hint="use the torch runtime for it"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        # saving fuses constants: only a model that was saved once scores bit for bit like the one loaded later
        write_ir(model, Path(folder), "network")
        return read_ir(Path(folder), "network")


def write_ir(model: openvino.Model, folder: Path, name: str) -> None:
    """Write ``<name>.xml`` and ``<name>.bin``, weights in float32.

    Raises:
        ArtifactError: they cannot be written.
    """
    import openvino

    try:
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO says "basic_ios::clear: iostream error" of a full disk
        free_mb = shutil.disk_usage(folder).free / 1e6
        raise ArtifactError(
            f"{name}.bin cannot be written to {folder}, whose disk has {free_mb:,.0f} MB left: {error}",
            hint="make room there, then run this again",
        ) from error


def read_ir(folder: Path, name: str) -> openvino.Model:
    """What `write_ir` wrote.

    Raises:
        ArtifactError: the files are missing or damaged.
    """
    import openvino

    try:
        return openvino.Core().read_model(folder / f"{name}.xml", folder / f"{name}.bin")
    except RuntimeError as error:
        raise ArtifactError(f"{name}.xml cannot be read: {error}", hint="restore the version's files") from error
