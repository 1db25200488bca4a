"""What closed formulas do with patch features behind the backbone, written once for OpenVINO and once for torch.

OpenVINO, numpy's BLAS and FAISS's OpenMP have a thread pool each, whose idle threads spin on the processors that the
next library needs. A head in the backbone's own graph has one pool: a third of the processor time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime, Head
from detectors.backbones.tracing import PATCHES

if TYPE_CHECKING:
    import openvino
    import torch

    from detectors.patches.whitening import PatchProjection

Grid = tuple[int, int]
"""(rows, columns)"""


def nearest_head(projection: PatchProjection, bank: NDArray[np.float32], *, runtime: FeatureRuntime) -> Head:
    """Euclidean distance of each projected patch to the nearest of ``bank``, (n, dimensions): (rows, columns).

    |q - b|² = |q|² + min(|b|² - 2 q·b), one matrix product.
    """

    def in_openvino(patches: openvino.Output) -> openvino.Node:
        from openvino import opset13 as op

        last = op.constant(np.array([3]))
        centred = op.subtract(patches, op.constant(projection.mean.reshape(1, 1, 1, -1)))
        queries = op.matmul(centred, op.constant(np.ascontiguousarray(projection.matrix)), False, False)
        squares = np.square(bank, dtype=np.float64).sum(axis=1).astype(np.float32)
        products = op.matmul(queries, op.constant(np.ascontiguousarray(-2.0 * bank, np.float32)), False, True)
        least = op.reduce_min(op.add(products, op.constant(squares.reshape(1, 1, 1, -1))), last, False)
        own = op.reduce_sum(op.multiply(queries, queries), last, False)
        return op.sqrt(op.relu(op.add(least, own)))

    def in_torch(
        patches: torch.Tensor, mean: torch.Tensor, matrix: torch.Tensor, anchors: torch.Tensor
    ) -> torch.Tensor:
        import torch

        queries = (patches[0].flatten(0, 1) - mean) @ matrix
        return torch.cdist(queries, anchors).amin(dim=1).reshape(1, *patches.shape[1:3])

    channels = len(projection.mean)
    return _head(in_openvino, in_torch, (projection.mean, projection.matrix, bank), channels=channels, runtime=runtime)


def grid_head(chosen: NDArray[np.int64], grid: Grid, *, n_channels: int, runtime: FeatureRuntime) -> Head:
    """The ``chosen`` ones of the backbone's channels, brought to one grid: (rows, columns, len(chosen)).

    A canvas of the grid's own size keeps its values; another one is interpolated bilinearly, pixel centres on pixel
    centres, so that equal relative places of two canvases fall on one position.
    """

    def in_torch(patches: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
        return _bring(patches, channels, grid)

    return _head(
        lambda patches: _brought(patches, chosen, grid), in_torch, (chosen,), channels=n_channels, runtime=runtime
    )


def gaussian_head(
    chosen: NDArray[np.int64],
    grid: Grid,
    mean: NDArray[np.float32],
    whitening: NDArray[np.float32],
    *,
    n_channels: int,
    runtime: FeatureRuntime,
) -> Head:
    """Mahalanobis distance of each of a `grid_head`'s positions to a Gaussian of its own: (rows, columns).

    Args:
        chosen: channels, (d,).
        grid: of positions.
        mean: (positions, d), positions row by row.
        whitening: (positions, d, d); a whitened row vector is ``x @ whitening``.
        n_channels: of the backbone.
        runtime: which the head is for.
    """

    def in_openvino(patches: openvino.Output) -> openvino.Node:
        from openvino import opset13 as op

        n_positions, d = mean.shape
        vectors = op.reshape(_brought(patches, chosen, grid), op.constant(np.array([n_positions, 1, d])), False)
        centred = op.subtract(vectors, op.constant(np.ascontiguousarray(mean[:, None, :])))
        white = op.matmul(centred, op.constant(np.ascontiguousarray(whitening)), False, False)
        squared = op.reduce_sum(op.multiply(white, white), op.constant(np.array([2])), False)
        return op.reshape(op.sqrt(squared), op.constant(np.array([1, *grid])), False)

    def in_torch(
        patches: torch.Tensor, channels: torch.Tensor, centre: torch.Tensor, factor: torch.Tensor
    ) -> torch.Tensor:
        import torch

        centred = _bring(patches, channels, grid)[0].flatten(0, 1) - centre
        return torch.bmm(centred[:, None, :], factor)[:, 0].square().sum(dim=1).sqrt().reshape(1, *grid)

    return _head(in_openvino, in_torch, (chosen, mean, whitening), channels=n_channels, runtime=runtime)


def _brought(patches: openvino.Output, chosen: NDArray[np.int64], grid: Grid) -> openvino.Node:
    from openvino import opset13 as op

    planes = op.transpose(
        op.gather(patches, op.constant(chosen), op.constant(np.array(3))), op.constant(np.array([0, 3, 1, 2]))
    )
    brought = op.interpolate(
        planes,
        op.constant(np.array(grid)),
        "linear_onnx",
        "sizes",
        axes=op.constant(np.array([2, 3])),
        coordinate_transformation_mode="half_pixel",
    )
    return op.transpose(brought, op.constant(np.array([0, 2, 3, 1])))


def _bring(patches: torch.Tensor, channels: torch.Tensor, grid: Grid) -> torch.Tensor:
    from torch.nn import functional

    planes = patches[..., channels].permute(0, 3, 1, 2)
    brought = functional.interpolate(planes, size=grid, mode="bilinear", align_corners=False)
    return brought.permute(0, 2, 3, 1)


def _head(
    in_openvino: Callable[[openvino.Output], openvino.Node],
    in_torch: Callable[..., torch.Tensor],
    arrays: tuple[NDArray[np.generic], ...],
    *,
    channels: int,
    runtime: FeatureRuntime,
) -> Head:
    """For the runtime that asks; ``in_torch`` is given the patches, then ``arrays`` on their device."""
    if runtime.name == "torch":
        return Head((PATCHES,), module=_module(in_torch, arrays))
    import openvino
    from openvino import opset13 as op

    patches = op.parameter([1, -1, -1, channels], np.float32)
    result = op.result(in_openvino(patches.output(0)))
    return Head((PATCHES,), model=openvino.Model([result], [patches], "head"))


def _module(formula: Callable[..., torch.Tensor], arrays: tuple[NDArray[np.generic], ...]) -> torch.nn.Module:
    import torch

    class Formula(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            for index, array in enumerate(arrays):
                self.register_buffer(f"array{index}", torch.from_numpy(np.ascontiguousarray(array)))

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            return formula(patches, *self.buffers())

    return Formula().eval()
