"""A trained network that goes on where the backbone's maps, or the canvas, end; it is saved as OpenVINO runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import CANVAS, FeatureRuntime
from detectors.backbones.tracing import read_ir, to_openvino, write_ir

if TYPE_CHECKING:
    import openvino
    import torch

_FILE = "head"
_TRACED_SIDE_PX = 256
"""Any multiple of 32 gives the same graph."""


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
        canvas = np.zeros((_TRACED_SIDE_PX, _TRACED_SIDE_PX, 3), np.uint8)
        given = runtime.maps(canvas, [name for name in inputs if name != CANVAS])
        maps = dict(zip((name for name in inputs if name != CANVAS), given, strict=True))
        examples = [torch.from_numpy(canvas if name == CANVAS else maps[name])[None] for name in inputs]
        return cls(inputs, model=to_openvino(module, examples))

    def save(self, folder: Path) -> None:
        """Write what `load` needs beside the arrays of the module."""
        if self.model is not None:
            write_ir(self.model, folder, _FILE)

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
        return cls(inputs, model=read_ir(folder, _FILE))


def module_arrays(module: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
    """Parameters and floating-point buffers by name, for safetensors; counters of batches are left out."""
    state = module.state_dict()
    return {
        name: np.array(tensor.detach().cpu().numpy(), np.float32)
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }


def not_of(module: torch.nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Names of which the module and ``arrays`` have not the same shape: none if the arrays are this network's."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    given = {name: array.shape for name, array in arrays.items()}
    return sorted(name for name in shapes | given if shapes.get(name) != given.get(name))


def load_arrays(module: torch.nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill a module from `module_arrays`.

    Raises:
        ValueError: a name or a shape differs.
    """
    import torch

    different = not_of(module, arrays)
    if different:
        raise ValueError(f"the arrays are not this network's: {', '.join(different[:5])}")
    own = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
