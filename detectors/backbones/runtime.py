"""Where a backbone runs: OpenVINO on CPUs, torch elsewhere. The runtime is part of a version's record."""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import Backbone, BackboneSpec, empty_backbone, load_backbone
from detectors.backbones.tracing import PATCHES, map_names, patch_module, read_ir, to_openvino, write_ir
from halfsigma import ArtifactError, DetectorError

if TYPE_CHECKING:
    import openvino
    import torch

    from detectors.backbones.head import Head

RuntimeName = Literal["openvino", "torch"]
CanvasSize = tuple[int, int]
"""(height, width) in pixels."""

CANVAS = "canvas"
"""What a head asks for that reads the image itself."""

_FILE = "backbone"
_TORCH_FILE = "backbone.safetensors"
_ONE_AT_A_TIME = threading.RLock()
"""The process's, as is what it guards: torch's switch for TF32."""
_TRACED_SIDE_PX = 256
"""Any multiple of 32 gives the same graph: "same" padding of even sizes does not depend on the size."""


class FeatureRuntime(Protocol):
    """A frozen backbone, ready to turn one canvas into patch features."""

    name: RuntimeName
    map_names: tuple[str, ...]
    """What `maps` can give: ``patches``, and ``stride4``, ``stride8``, ``stride16`` where the backbone has them."""

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3) uint8, sides multiples of 32 → (rows, columns, channels) float32 patch features."""
        ...

    def maps(self, canvas: NDArray[np.uint8], names: Sequence[str]) -> tuple[NDArray[np.float32], ...]:
        """The maps of these names, each (rows, columns, channels) float32; ``patches`` equals `features`.

        Raises:
            DetectorError: the backbone has no such map.
        """
        ...

    def stream(
        self, canvases: Iterable[NDArray[np.uint8]], names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """`maps` of each canvas, in order, for whoever has many: several canvases are under way at a time."""
        ...

    def network(self, head: Head, *, fixed_size: CanvasSize | None) -> CanvasNetwork:
        """Backbone and ``head`` as one: from a canvas to what the head returns.

        Canvases of ``fixed_size`` are computed fastest.
        """
        ...

    def save(self, folder: Path) -> dict[str, object]:
        """Write what `load_runtime` needs into ``folder``; returns a JSON-able record."""
        ...


class CanvasNetwork(Protocol):
    """One canvas's maps."""

    def __call__(self, canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """(height, width, 3) uint8 → the network's outputs without their batch axis."""
        ...

    def stream(self, canvases: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """The same of each canvas, in order: several are under way at a time."""
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
    if kind == "torch":
        return TorchRuntime(backbone, spec.architecture, neighbourhood=neighbourhood)
    example = torch.zeros(1, _TRACED_SIDE_PX, _TRACED_SIDE_PX, 3, dtype=torch.uint8)
    model = to_openvino(patch_module(backbone, neighbourhood=neighbourhood), [example])
    return OpenVinoRuntime(model, map_names(backbone))


def load_runtime(folder: Path, record: dict[str, object]) -> FeatureRuntime:
    """The runtime that `FeatureRuntime.save` wrote, from its files alone.

    Raises:
        ArtifactError: the record names a runtime that this version of halfsigma does not know.
    """
    if record["name"] == "openvino":
        return OpenVinoRuntime(read_ir(folder, _FILE), tuple(cast("list[str]", record["maps"])))
    if record["name"] == "torch":
        return TorchRuntime.load(folder, record)
    raise ArtifactError(f"unknown runtime {record['name']!r}", hint="install the halfsigma that wrote this version")


class OpenVinoRuntime:
    """One image a request, float32 on every machine, so that a score does not depend on its neighbours in a batch."""

    name: RuntimeName = "openvino"

    def __init__(self, model: openvino.Model, map_names: tuple[str, ...]) -> None:
        self._model = model
        self.map_names = map_names
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.maps(canvas, (PATCHES,))[0]

    def maps(self, canvas: NDArray[np.uint8], names: Sequence[str]) -> tuple[NDArray[np.float32], ...]:
        return self._giving(names)(canvas)

    def stream(
        self, canvases: Iterable[NDArray[np.uint8]], names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.float32], ...]]:
        return self._giving(names).stream(canvases, of_one_size=True)

    def _giving(self, names: Sequence[str]) -> _Compiled:
        wanted = tuple(names)
        if wanted not in self._compiled:
            self._compiled[wanted] = _Compiled(_with_outputs(self._model, self.map_names, wanted))
        return self._compiled[wanted]

    def network(self, head: Head, *, fixed_size: CanvasSize | None) -> CanvasNetwork:
        return _Compiled(_with_head(self._model, self.map_names, head), fixed_size=fixed_size)

    def save(self, folder: Path) -> dict[str, object]:
        import openvino

        write_ir(self._model, folder, _FILE)
        return {
            "name": self.name,
            "precision": "f32",
            "openvino": openvino.__version__,
            "maps": list(self.map_names),
        }


class _Compiled:
    """A model of one canvas, compiled when it is first asked.

    Compiled for the line's own canvas size, which is up to a third faster, and once for all other sizes: a part whose
    photographs come in many sizes would else wait, and keep memory, for each of them. For a single canvas all threads
    work together; of a stream each has a canvas of its own, which is up to twice as fast and, compiled for as many sizes, gives
    the same bits.
    """

    def __init__(self, model: openvino.Model, *, fixed_size: CanvasSize | None = None) -> None:
        import openvino

        self._model = model
        self._fixed_size = fixed_size
        self._core = openvino.Core()
        self._one_at_a_time = threading.Lock()
        self._single: dict[CanvasSize | None, openvino.InferRequest] = {}
        self._parallel: dict[CanvasSize | None, openvino.CompiledModel] = {}

    def __call__(self, canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        size = (canvas.shape[0], canvas.shape[1])
        key = size if size == self._fixed_size else None
        with self._one_at_a_time:  # MLflow's server scores in threads, and a request holds one canvas
            if key not in self._single:
                self._single[key] = self._compile(key, PERFORMANCE_HINT="LATENCY").create_infer_request()
            request = self._single[key]
            request.infer({0: canvas[None]}, share_inputs=True)
            return _outputs(request)

    def stream(
        self, canvases: Iterable[NDArray[np.uint8]], *, of_one_size: bool = False
    ) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """The outputs of each canvas; ``of_one_size`` compiles for the first one's, since most canvases are probably like it.

        What a size is compiled for decides the last bits. So that is asked of each stream anew: what went through in this
        process before must not matter.
        """
        compiled_size = self._fixed_size
        idle: defaultdict[CanvasSize | None, list[openvino.InferRequest]] = defaultdict(list)
        under_way: deque[tuple[CanvasSize | None, openvino.InferRequest, NDArray[np.uint8]]] = deque()

        def finished() -> tuple[NDArray[np.float32], ...]:
            key, request, _ = under_way.popleft()
            request.wait()
            idle[key].append(request)
            return _outputs(request)

        try:
            for canvas in canvases:
                if len(under_way) > usable_threads():
                    yield finished()
                size = (canvas.shape[0], canvas.shape[1])
                if of_one_size:
                    compiled_size = compiled_size or size
                key = size if size == compiled_size else None
                with self._one_at_a_time:
                    if key not in self._parallel:
                        self._parallel[key] = self._compile(key, NUM_STREAMS=usable_threads())
                request = idle[key].pop() if idle[key] else self._parallel[key].create_infer_request()
                request.start_async({0: canvas[None]}, share_inputs=True)
                under_way.append((key, request, canvas))  # the request reads the canvas where it lies
            while under_way:
                yield finished()
        finally:
            for _, request, _ in under_way:
                request.wait()

    def _compile(self, size: CanvasSize | None, **options: object) -> openvino.CompiledModel:
        import openvino

        model = self._model
        if size is not None:
            model = model.clone()
            model.reshape([1, *size, 3])
        options |= {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": usable_threads()}
        return self._core.compile_model(model, "CPU", options)


def _outputs(request: openvino.InferRequest) -> tuple[NDArray[np.float32], ...]:
    return tuple(np.array(tensor.data[0], np.float32, copy=True) for tensor in request.output_tensors)


@dataclass(frozen=True, slots=True)
class _OneByOne:
    """A `CanvasNetwork` of a function of one canvas."""

    compute: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]]

    def __call__(self, canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return self.compute(canvas)

    def stream(self, canvases: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        return map(self.compute, canvases)


@contextmanager
def _exactly() -> Iterator[None]:
    """One canvas of all runtimes at a time, without gradients, and in float32 throughout.

    TF32 keeps ten bits of a float32's mantissa: "f32" would be said in the record, and not be so.
    """
    import torch

    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with _ONE_AT_A_TIME, exact, torch.inference_mode():
        yield


class TorchRuntime:
    """The same patch features in torch: on a GPU when there is one, else on the CPU."""

    name: RuntimeName = "torch"

    def __init__(self, backbone: Backbone, architecture: str, *, neighbourhood: int) -> None:
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module = patch_module(backbone, neighbourhood=neighbourhood).to(self._device)
        self._architecture = architecture
        self._taps = backbone.taps
        self._neighbourhood = neighbourhood
        self.map_names = map_names(backbone)

    def features(self, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.maps(canvas, (PATCHES,))[0]

    def maps(self, canvas: NDArray[np.uint8], names: Sequence[str]) -> tuple[NDArray[np.float32], ...]:
        _check_names(names, self.map_names)
        found = self._maps(canvas)
        return tuple(np.asarray(found[name][0].cpu().numpy(), np.float32) for name in names)

    def stream(
        self, canvases: Iterable[NDArray[np.uint8]], names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.float32], ...]]:
        return (self.maps(canvas, names) for canvas in canvases)

    def network(self, head: Head, *, fixed_size: CanvasSize | None) -> CanvasNetwork:
        import torch

        _check_names([name for name in head.inputs if name != CANVAS], self.map_names)
        module = cast("torch.nn.Module", head.module).to(self._device)

        def compute(canvas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
            with _exactly():
                given = self._maps(canvas) if set(head.inputs) - {CANVAS} else {}
                given[CANVAS] = torch.from_numpy(canvas)[None].to(self._device)
                found = module(*(given[name] for name in head.inputs))
            outputs = found if isinstance(found, tuple) else (found,)
            return tuple(np.asarray(each[0].cpu().numpy(), np.float32) for each in outputs)

        return _OneByOne(compute)

    def _maps(self, canvas: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        import torch

        with _exactly():  # the module's hooks hold one canvas's maps
            found = self._module(torch.from_numpy(canvas)[None].to(self._device))
        return dict(zip(self.map_names, found, strict=True))

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
        runtime = cls(empty_backbone(spec), spec.architecture, neighbourhood=cast("int", record["neighbourhood"]))
        runtime._module.load_state_dict(load_file(folder / _TORCH_FILE))
        return runtime


def _check_names(names: Sequence[str], offered: Sequence[str]) -> None:
    missing = [name for name in names if name not in offered]
    if missing:
        raise DetectorError(
            f"this backbone gives no map {missing[0]!r}; it gives {', '.join(offered)}",
            hint="choose a convolutional backbone with stages of stride 4, 8 and 16",
        )


def _sources(graph: openvino.Model, map_names: Sequence[str]) -> dict[str, openvino.Output]:
    found = dict(zip(map_names, (result.input_value(0) for result in graph.get_results()), strict=True))
    return {CANVAS: graph.get_parameters()[0].output(0), **found}


def _with_outputs(model: openvino.Model, map_names: Sequence[str], wanted: Sequence[str]) -> openvino.Model:
    """The network's graph with these maps alone; what only others need is not computed."""
    import openvino
    from openvino import opset13 as op

    _check_names(wanted, map_names)
    graph = model.clone()
    sources = _sources(graph, map_names)
    return openvino.Model([op.result(sources[name]) for name in wanted], graph.get_parameters(), "maps")


def _with_head(model: openvino.Model, map_names: Sequence[str], head: Head) -> openvino.Model:
    """The network's graph with the head's behind it."""
    import openvino

    _check_names([name for name in head.inputs if name != CANVAS], map_names)
    graph, tail = model.clone(), cast("openvino.Model", head.model).clone()
    sources = _sources(graph, map_names)
    for parameter, name in zip(tail.get_parameters(), head.inputs, strict=True):
        parameter.output(0).replace(sources[name])
    return openvino.Model(tail.get_results(), graph.get_parameters(), "network")
