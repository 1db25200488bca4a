"""What a version's backbone and trained networks run on: the protocol of all runtimes, and the head that goes behind one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import load_arrays
from detectors.backbones.tracing import TRACED_SIDE_PX, read_ir, to_openvino, write_ir
from halfsigma import DetectorError

if TYPE_CHECKING:
    import openvino
    import torch

RuntimeName = Literal["openvino", "torch"]
CanvasSize = tuple[int, int]
"""(height, width) in pixels."""

CANVAS = "canvas"
"""What a head asks for that reads the image itself."""

_HEAD_FILE = "head"


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


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A network without training: what it reads, and itself as the runtime of its version wants it.

    Attributes:
        inputs: names of what it is given, in order: `CANVAS`, (1, h, w, 3) uint8, or a map of the backbone
            (`FeatureRuntime.map_names`), (1, rows, columns, channels) float32.
        model: for `OpenVinoRuntime`, else None.
        module: for `TorchRuntime`, else None.
    """

    inputs: tuple[str, ...]
    model: openvino.Model | None = None
    module: torch.nn.Module | None = None

    @classmethod
    def of(cls, module: torch.nn.Module, *, inputs: tuple[str, ...], runtime: FeatureRuntime) -> Self:
        """A trained module, for ``runtime``; it returns one map or a tuple of maps, (1, rows, columns[, channels]).

        Raises:
            DetectorError: the runtime is OpenVINO and cannot run it.
        """
        import torch

        if runtime.name == "torch":
            return cls(inputs, module=module.eval())
        canvas = np.zeros((TRACED_SIDE_PX, TRACED_SIDE_PX, 3), np.uint8)
        given = runtime.maps(canvas, [name for name in inputs if name != CANVAS])
        maps = dict(zip((name for name in inputs if name != CANVAS), given, strict=True))
        examples = [torch.from_numpy(canvas if name == CANVAS else maps[name])[None] for name in inputs]
        return cls(inputs, model=to_openvino(module, examples))

    def save(self, folder: Path) -> None:
        """Write what `load` needs beside the arrays of the module."""
        if self.model is not None:
            write_ir(self.model, folder, _HEAD_FILE)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        inputs: tuple[str, ...],
        runtime: FeatureRuntime,
        build: Callable[[], torch.nn.Module],
        arrays: Mapping[str, NDArray[np.float32]],
    ) -> Self:
        """The head that was saved in ``folder``, without torch where the runtime is OpenVINO.

        Args:
            folder: of the version.
            inputs: as it was made.
            runtime: of the version.
            build: makes the untrained module; asked by a torch runtime only.
            arrays: `module_arrays` of the trained one.
        """
        if runtime.name == "torch":
            module = build()
            load_arrays(module, arrays)
            return cls(inputs, module=module.eval())
        return cls(inputs, model=read_ir(folder, _HEAD_FILE))


def check_names(names: Sequence[str], offered: Sequence[str]) -> None:
    """Raises `DetectorError` if a backbone that offers these maps lacks one of ``names``."""
    missing = [name for name in names if name not in offered]
    if missing:
        raise DetectorError(
            f"this backbone gives no map {missing[0]!r}; it gives {', '.join(offered)}",
            hint="choose a convolutional backbone with stages of stride 4, 8 and 16",
        )
