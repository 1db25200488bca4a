"""Where a backbone runs: OpenVINO on CPUs, torch elsewhere. The runtime is part of a version's record."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbone import Backbone, BackboneSpec, empty_backbone, load_backbone
from detectors.heads import PatchHead
from halfsigma import ArtifactError, DetectorError

if TYPE_CHECKING:
    import openvino
    import torch

RuntimeName = Literal["openvino", "torch"]
CanvasSize = tuple[int, int]
"""(height, width) in pixels."""
PatchFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(height, width, 3) uint8 canvas → what a head makes of its patches."""

_IR_FILE = "backbone.xml"
_IR_WEIGHTS_FILE = "backbone.bin"
_TORCH_FILE = "backbone.safetensors"
_TRACED_SIDE_PX = 256
"""Any multiple of 32 gives the same graph: "same" padding of even sizes does not depend on the size."""


class FeatureRuntime(Protocol):
    """A frozen backbone, ready to turn one canvas into patch features."""

    name: RuntimeName

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3) uint8, sides multiples of 32 → (rows, columns, channels) float32 patch features."""
        ...

    def with_head(self, head: PatchHead, *, fixed_size: CanvasSize | None) -> PatchFunction:
        """Backbone and ``head`` as one function of a canvas; canvases of ``fixed_size`` are the fastest."""
        ...

    def save(self, folder: Path) -> dict[str, object]:
        """Write what `load_runtime` needs into ``folder``; returns a JSON-able record."""
        ...


def usable_threads() -> int:
    """Processors this process may use: the scheduler's mask, narrowed by ``OMP_NUM_THREADS``."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(allowed, int(asked))) if asked.isdigit() and int(asked) > 0 else allowed


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
    module = _patch_module(backbone, neighbourhood=neighbourhood)
    if kind == "torch":
        return TorchRuntime(module, spec.architecture, taps=backbone.taps, neighbourhood=neighbourhood)
    return OpenVinoRuntime(_convert(module))


def load_runtime(folder: Path, record: dict[str, object]) -> FeatureRuntime:
    """The runtime that `FeatureRuntime.save` wrote, from its files alone.

    Raises:
        ArtifactError: the record names a runtime that this version of halfsigma does not know.
    """
    if record["name"] == "openvino":
        return OpenVinoRuntime(_read_ir(folder))
    if record["name"] == "torch":
        return TorchRuntime.load(folder, record)
    raise ArtifactError(f"unknown runtime {record['name']!r}", hint="install the halfsigma that wrote this version")


class OpenVinoRuntime:
    """One image a request, float32 on every machine, so that a score does not depend on its neighbours in a batch."""

    name: RuntimeName = "openvino"

    def __init__(self, model: object, *, fixed_size: CanvasSize | None = None) -> None:
        import openvino

        self._model: openvino.Model = model
        self._fixed_size = fixed_size
        self._core = openvino.Core()
        self._requests: dict[CanvasSize | None, openvino.InferRequest] = {}

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = self._request_for((canvas.shape[0], canvas.shape[1]))
        request.infer({0: canvas[None]}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data[0], np.float32, copy=True)

    def with_head(self, head: PatchHead, *, fixed_size: CanvasSize | None) -> PatchFunction:
        return OpenVinoRuntime(_with_head(self._model, head), fixed_size=fixed_size).features

    def save(self, folder: Path) -> dict[str, object]:
        import openvino

        openvino.save_model(self._model, folder / _IR_FILE, compress_to_fp16=False)
        return {"name": self.name, "precision": "f32", "openvino": openvino.__version__}

    def _request_for(self, size: CanvasSize) -> openvino.InferRequest:
        """Compiled for the line's own canvas size, which is up to a third faster, and once for all other sizes.

        A part whose photographs come in many sizes would else wait, and keep memory, for each of them.
        """
        import openvino

        key = size if size == self._fixed_size else None
        if key not in self._requests:
            model = self._model
            if key is not None:
                model = model.clone()
                model.reshape([1, *key, 3])
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": openvino.Type.f32,
                "INFERENCE_NUM_THREADS": usable_threads(),
            }
            self._requests[key] = self._core.compile_model(model, "CPU", options).create_infer_request()
        return self._requests[key]


class TorchRuntime:
    """The same patch features in torch: on a GPU when there is one, else on the CPU."""

    name: RuntimeName = "torch"

    def __init__(
        self, module: torch.nn.Module, architecture: str, *, taps: tuple[str, ...], neighbourhood: int
    ) -> None:
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module = module.to(self._device)
        self._architecture = architecture
        self._taps = taps
        self._neighbourhood = neighbourhood

    def with_head(self, head: PatchHead, *, fixed_size: CanvasSize | None) -> PatchFunction:
        import torch

        end = head.in_torch(self._device)

        def run(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                patches = self._module(torch.from_numpy(canvas)[None].to(self._device))[0]
                return np.asarray(end(patches).cpu().numpy(), np.float32)

        return run

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            patches = self._module(torch.from_numpy(canvas)[None].to(self._device))
        return np.asarray(patches[0].cpu().numpy(), np.float32)

    def save(self, folder: Path) -> dict[str, object]:
        import torch
        from safetensors.torch import save_file

        state = {key: tensor.cpu().contiguous() for key, tensor in self._module.state_dict().items()}
        save_file(state, folder / _TORCH_FILE)
        return {
            "name": self.name,
            "precision": "f32",
            "torch": str(torch.__version__),
            "architecture": self._architecture,
            "taps": list(self._taps),
            "neighbourhood": self._neighbourhood,
        }

    @classmethod
    def load(cls, folder: Path, record: dict[str, object]) -> TorchRuntime:
        """Rebuild the architecture by name, without its pretrained weights, and fill it from ``folder``."""
        from safetensors.torch import load_file

        spec = BackboneSpec(str(record["architecture"]), taps=tuple(cast("list[str]", record["taps"])))
        neighbourhood = cast("int", record["neighbourhood"])
        module = _patch_module(empty_backbone(spec), neighbourhood=neighbourhood)
        module.load_state_dict(load_file(folder / _TORCH_FILE))
        return cls(module, spec.architecture, taps=spec.taps, neighbourhood=neighbourhood)


def _patch_module(backbone: Backbone, *, neighbourhood: int) -> torch.nn.Module:
    """Normalise, run the backbone, average each patch with its neighbours, and join the taps on the finest grid.

    PatchCore, Roth et al. 2022, section 3.1: locally aware patch features; the coarser stages are brought to the
    finest one's grid bilinearly.
    """
    import torch
    from torch.nn import functional

    class PatchFeatures(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network
            self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1) * 255.0)
            self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1) * 255.0)
            self._tapped: dict[str, torch.Tensor] = {}
            modules = dict(self.network.named_modules())
            for tap in backbone.taps:
                modules[tap].register_forward_hook(self._keep(tap))

        def _keep(self, tap: str) -> Callable[[torch.nn.Module, object, torch.Tensor], None]:
            def hook(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
                self._tapped[tap] = output

            return hook

        def forward(self, canvas: torch.Tensor) -> torch.Tensor:
            pixels = (canvas.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
            self.network(pixels)
            maps = [self._tapped.pop(tap) for tap in backbone.taps]
            joined = []
            for each in maps:
                local = each
                if neighbourhood > 1:
                    local = functional.avg_pool2d(each, neighbourhood, 1, neighbourhood // 2, count_include_pad=False)
                if each is not maps[0]:
                    local = functional.interpolate(local, size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
                joined.append(local)
            return torch.cat(joined, dim=1).permute(0, 2, 3, 1)

    return PatchFeatures().eval().requires_grad_(False)


def _with_head(model: openvino.Model, head: PatchHead) -> openvino.Model:
    import openvino
    from openvino import opset13 as op

    graph = model.clone()
    patches = graph.output(0).get_node().input_value(0)  # (1, rows, columns, channels)
    return openvino.Model([op.result(head.in_openvino(patches))], graph.get_parameters(), "patches_and_head")


def _convert(module: torch.nn.Module) -> object:
    import warnings

    import openvino
    import torch

    example = torch.zeros(1, _TRACED_SIDE_PX, _TRACED_SIDE_PX, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every constant that a shape becomes
            traced = torch.jit.freeze(torch.jit.trace(module, example))
            model = openvino.convert_model(traced, input=[(openvino.PartialShape([1, -1, -1, 3]), openvino.Type.u8)])
    except (RuntimeError, ValueError) as error:
        raise DetectorError(
            f"this backbone cannot be converted to OpenVINO: {error}", hint="use the torch runtime for it"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        # saving fuses constants: only a model that was saved once scores bit for bit like the one loaded later
        openvino.save_model(model, Path(folder) / _IR_FILE, compress_to_fp16=False)
        return _read_ir(Path(folder))


def _read_ir(folder: Path) -> object:
    import openvino

    try:
        return openvino.Core().read_model(folder / _IR_FILE, folder / _IR_WEIGHTS_FILE)
    except RuntimeError as error:
        raise ArtifactError(f"{_IR_FILE} cannot be read: {error}", hint="restore the version's files") from error
