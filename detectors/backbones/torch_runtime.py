"""Torch, on a GPU where there is one: the same features to float32's rounding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import Backbone, BackboneSpec, empty_backbone
from detectors.backbones.runtime import CANVAS, CanvasNetwork, CanvasSize, Head, RuntimeName, check_names
from detectors.backbones.tracing import PATCHES, map_names, patch_module

if TYPE_CHECKING:
    import torch

_FILE = "backbone.safetensors"
_ONE_AT_A_TIME = threading.RLock()
"""The process's, as is what it guards: torch's switch for TF32."""


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
        check_names(names, self.map_names)
        found = self._maps(canvas)
        return tuple(np.asarray(found[name][0].cpu().numpy(), np.float32) for name in names)

    def stream(
        self, canvases: Iterable[NDArray[np.uint8]], names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.float32], ...]]:
        return (self.maps(canvas, names) for canvas in canvases)

    def network(self, head: Head, *, fixed_size: CanvasSize | None) -> CanvasNetwork:
        import torch

        check_names([name for name in head.inputs if name != CANVAS], self.map_names)
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
        save_file(state, folder / _FILE)
        return {
            "name": self.name,
            "precision": "f32",
            "torch": str(torch.__version__),
            "architecture": self._architecture,
            "taps": list(self._taps),
            "neighbourhood": self._neighbourhood,
        }

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, object]) -> TorchRuntime:
        """Rebuild the architecture by name, without its pretrained weights, and fill it from ``folder``."""
        from safetensors.torch import load_file

        spec = BackboneSpec(str(record["architecture"]), taps=tuple(cast("list[str]", record["taps"])))
        runtime = cls(empty_backbone(spec), spec.architecture, neighbourhood=cast("int", record["neighbourhood"]))
        runtime._module.load_state_dict(load_file(folder / _FILE))
        return runtime
