"""OpenVINO on CPUs: backbone, and the head behind it, as one compiled graph."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import (
    CANVAS,
    CanvasNetwork,
    CanvasSize,
    Head,
    RuntimeName,
    check_names,
    usable_threads,
)
from detectors.backbones.tracing import PATCHES, read_ir, write_ir

if TYPE_CHECKING:
    import openvino

_FILE = "backbone"


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

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, object]) -> OpenVinoRuntime:
        """What `save` wrote."""
        return cls(read_ir(folder, _FILE), tuple(cast("list[str]", record["maps"])))


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


def _sources(graph: openvino.Model, map_names: Sequence[str]) -> dict[str, openvino.Output]:
    found = dict(zip(map_names, (result.input_value(0) for result in graph.get_results()), strict=True))
    return {CANVAS: graph.get_parameters()[0].output(0), **found}


def _with_outputs(model: openvino.Model, map_names: Sequence[str], wanted: Sequence[str]) -> openvino.Model:
    """The network's graph with these maps alone; what only others need is not computed."""
    import openvino
    from openvino import opset13 as op

    check_names(wanted, map_names)
    graph = model.clone()
    sources = _sources(graph, map_names)
    return openvino.Model([op.result(sources[name]) for name in wanted], graph.get_parameters(), "maps")


def _with_head(model: openvino.Model, map_names: Sequence[str], head: Head) -> openvino.Model:
    """The network's graph with the head's behind it."""
    import openvino

    check_names([name for name in head.inputs if name != CANVAS], map_names)
    graph, tail = model.clone(), cast("openvino.Model", head.model).clone()
    sources = _sources(graph, map_names)
    for parameter, name in zip(tail.get_parameters(), head.inputs, strict=True):
        parameter.output(0).replace(sources[name])
    return openvino.Model(tail.get_results(), graph.get_parameters(), "network")
