"""What follows the frozen backbone in its graph, written once for OpenVINO and once for torch.

OpenVINO, numpy's BLAS and FAISS's OpenMP have a thread pool each, whose idle threads spin on the processors that the
next library needs. A head in the backbone's own graph has one pool: a third of the processor time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino
    import torch

    from detectors.whitening import PatchProjection

    TorchHead = Callable[[torch.Tensor], torch.Tensor]


class PatchHead(Protocol):
    """From one canvas's patch features to what a family makes of them, equal in both runtimes to float32's rounding."""

    def in_openvino(self, patches: openvino.Output) -> openvino.Output:
        """Nodes behind ``patches``, (1, rows, columns, channels); their output begins with an axis of length 1."""
        ...

    def in_torch(self, device: torch.device) -> TorchHead:
        """The same as a function of (rows, columns, channels) on ``device``, without the first axis."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NearestHead:
    """Euclidean distance of each projected patch to the nearest of a bank: (rows, columns).

    Attributes:
        projection: of patch features.
        bank: (n, dimensions), already projected.
    """

    projection: PatchProjection
    bank: NDArray[np.float32]

    def in_openvino(self, patches: openvino.Output) -> openvino.Output:
        """|q - b|² = |q|² + min(|b|² - 2 q·b), and its root."""
        from openvino import opset13 as op

        last = op.constant(np.array([3]))
        centred = op.subtract(patches, op.constant(self.projection.mean.reshape(1, 1, 1, -1)))
        queries = op.matmul(centred, op.constant(np.ascontiguousarray(self.projection.matrix)), False, False)
        squares = np.square(self.bank, dtype=np.float64).sum(axis=1).astype(np.float32)
        products = op.matmul(queries, op.constant(np.ascontiguousarray(-2.0 * self.bank, np.float32)), False, True)
        least = op.reduce_min(op.add(products, op.constant(squares.reshape(1, 1, 1, -1))), last, False)
        own = op.reduce_sum(op.multiply(queries, queries), last, False)
        return op.sqrt(op.relu(op.add(least, own))).output(0)

    def in_torch(self, device: torch.device) -> TorchHead:
        import torch

        mean, matrix, anchors = (
            torch.from_numpy(array).to(device) for array in (self.projection.mean, self.projection.matrix, self.bank)
        )

        def nearest(patches: torch.Tensor) -> torch.Tensor:
            queries = (patches.flatten(0, 1) - mean) @ matrix
            return torch.cdist(queries, anchors).amin(dim=1).reshape(patches.shape[:2])

        return nearest


@dataclass(frozen=True, slots=True, eq=False)
class GridHead:
    """Some of the channels, brought to one grid whatever the canvas's size: (rows, columns, len(channels)).

    A canvas of the grid's own size keeps its values; another one is interpolated bilinearly, pixel centres on pixel
    centres, so that equal relative places of two canvases fall on one position.

    Attributes:
        channels: (d,) indices.
        grid: (rows, columns).
    """

    channels: NDArray[np.int64]
    grid: tuple[int, int]

    def in_openvino(self, patches: openvino.Output) -> openvino.Output:
        from openvino import opset13 as op

        chosen = op.gather(patches, op.constant(self.channels), op.constant(np.array(3)))
        planes = op.transpose(chosen, op.constant(np.array([0, 3, 1, 2])))
        brought = op.interpolate(
            planes,
            op.constant(np.array(self.grid)),
            "linear_onnx",
            "sizes",
            axes=op.constant(np.array([2, 3])),
            coordinate_transformation_mode="half_pixel",
        )
        return op.transpose(brought, op.constant(np.array([0, 2, 3, 1]))).output(0)

    def in_torch(self, device: torch.device) -> TorchHead:
        import torch
        from torch.nn import functional

        channels = torch.from_numpy(self.channels).to(device)

        def bring(patches: torch.Tensor) -> torch.Tensor:
            planes = patches[..., channels].permute(2, 0, 1)[None]
            brought = functional.interpolate(planes, size=self.grid, mode="bilinear", align_corners=False)
            return brought[0].permute(1, 2, 0)

        return bring


@dataclass(frozen=True, slots=True, eq=False)
class GaussianHead:
    """Mahalanobis distance of each position's features to that position's Gaussian: (rows, columns).

    Attributes:
        features: which channels, on which grid.
        mean: (positions, d), positions row by row.
        whitening: (positions, d, d); a whitened row vector is ``x @ whitening``.
    """

    features: GridHead
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    def in_openvino(self, patches: openvino.Output) -> openvino.Output:
        from openvino import opset13 as op

        n_positions, d = self.mean.shape
        rows = op.constant(np.array([n_positions, 1, d]))
        vectors = op.reshape(self.features.in_openvino(patches), rows, False)
        centred = op.subtract(vectors, op.constant(np.ascontiguousarray(self.mean[:, None, :])))
        white = op.matmul(centred, op.constant(np.ascontiguousarray(self.whitening)), False, False)
        squared = op.reduce_sum(op.multiply(white, white), op.constant(np.array([2])), False)
        return op.reshape(op.sqrt(squared), op.constant(np.array([1, *self.features.grid])), False).output(0)

    def in_torch(self, device: torch.device) -> TorchHead:
        import torch

        mean, whitening = (
            torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in (self.mean, self.whitening)
        )
        bring = self.features.in_torch(device)

        def distances(patches: torch.Tensor) -> torch.Tensor:
            centred = bring(patches).flatten(0, 1) - mean
            white = torch.bmm(centred[:, None, :], whitening)[:, 0]
            return white.square().sum(dim=1).sqrt().reshape(self.features.grid)

        return distances
