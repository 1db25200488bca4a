"""What the families that are trained as one network share: scoring by its map, saving, and loading without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.module_arrays import module_arrays
from detectors.backbones.runtime import CanvasSize, FeatureRuntime, Head
from detectors.calibration import HeldOut
from detectors.patches.aggregation import top_mean
from detectors.protocol import Fitted, ImageScore

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TrainedSettings:
    """What is chosen for a line, whatever the family.

    Attributes:
        canvas_size: (height, width) of all canvases that were fitted on, None when they differ; found while fitting.
        top_share: the image's score is the mean of this share of its map's largest values.
    """

    canvas_size: CanvasSize | None = None
    top_share: float = 0.05


class TrainedDetector(ABC):
    """One network from the backbone's maps, or the canvas, to an anomaly map.

    A family says what the network reads (`inputs`, or `inputs_of` where a line's settings decide), how it is built from
    its settings (`build`), and how it is trained (`fit`).
    """

    family: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    settings_type: ClassVar[type[TrainedSettings]]

    def __init__(
        self, runtime: FeatureRuntime, head: Head, arrays: Mapping[str, NDArray[np.float32]], settings: TrainedSettings
    ) -> None:
        self._head = head
        self._arrays = dict(arrays)
        self._settings = settings
        self._network = runtime.network(head, fixed_size=settings.canvas_size)

    @classmethod
    def inputs_of(cls, settings: Any) -> tuple[str, ...]:
        """What the network of these settings reads."""
        return cls.inputs

    @classmethod
    @abstractmethod
    def build(cls, settings: Any) -> torch.nn.Module:
        """The untrained network of these settings: maps of (1, rows, columns, channels) → (1, rows, columns)."""

    @classmethod
    def finished(
        cls,
        module: torch.nn.Module,
        canvases: Sequence[NDArray[np.uint8]],
        *,
        runtime: FeatureRuntime,
        settings: TrainedSettings,
        held_out: HeldOut,
    ) -> Fitted[Self]:
        """The trained module as a detector, and its scores of the images that were held out."""
        model = cls.trained(module, runtime=runtime, settings=settings)
        maps = model._network.stream(canvases[i] for i in held_out.reference)
        scores = np.array([model._scored(each).score for (each,) in maps])
        return Fitted(model, held_out.reference, scores)

    @classmethod
    def trained(cls, module: torch.nn.Module, *, runtime: FeatureRuntime, settings: TrainedSettings) -> Self:
        """The trained module as a detector."""
        head = Head.of(module, inputs=cls.inputs_of(settings), runtime=runtime)
        return cls(runtime, head, module_arrays(module), settings)

    def score(self, canvas: NDArray[np.uint8]) -> ImageScore:
        (anomaly_map,) = self._network(canvas)
        return self._scored(anomaly_map)

    def _scored(self, anomaly_map: NDArray[np.float32]) -> ImageScore:
        return top_mean(anomaly_map, top_share=self._settings.top_share)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return dict(self._arrays)

    def settings_record(self) -> dict[str, object]:
        return asdict(self._settings)

    def save_network(self, folder: Path) -> None:
        self._head.save(folder)

    @classmethod
    def restore(
        cls,
        *,
        arrays: Mapping[str, NDArray[np.float32]],
        settings: Mapping[str, object],
        runtime: FeatureRuntime,
        folder: Path,
    ) -> Self:
        # JSON has no tuples
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        chosen = cls.settings_type(**cast("dict[str, Any]", known))
        inputs = cls.inputs_of(chosen)
        head = Head.load(folder, inputs=inputs, runtime=runtime, build=lambda: cls.build(chosen), arrays=arrays)
        return cls(runtime, head, arrays, chosen)
