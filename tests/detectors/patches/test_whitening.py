"""The projection is made of patches of every place: a part's pad is not passed over by the stride that thins them."""

from __future__ import annotations

import operator
from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.families import patchcore
from detectors.patches import streamed_bank, whitening
from detectors.patches.streamed_bank import stream_bank
from detectors.patches.whitening import PatchMoments, PatchProjection, thinned
from detectors.protocol import no_progress

GRID, STEP, N_IMAGES = (20, 28), 14, 30
PAD_CHANNEL = 2


@pytest.fixture
def images() -> NDArray[np.uint8]:
    """(n, rows, columns, 3): noise in the first channel, and a pad between the columns 0 and 14 that varies in the last one."""
    rng = np.random.default_rng(0)
    found = np.full((N_IMAGES, *GRID, 3), 128.0)
    found[..., 0] += rng.normal(0, 6, (N_IMAGES, *GRID))
    found[:, :, 4:10, PAD_CHANNEL] += rng.normal(0, 30, (N_IMAGES, GRID[0], 6))
    return np.clip(found, 0, 255).astype(np.uint8)


def _streamed(images: NDArray[np.uint8]) -> PatchProjection:
    return stream_bank(
        list(images),
        np.array_split(np.arange(len(images)), 3),
        features=lambda several: (each.astype(np.float32) for each in several),
        n_patches=images[..., 0].size,
        bank_size=4,
        dimensions=1,
        top_share=0.05,
        seed=0,
        progress=no_progress,
    ).projection


def _at_once(images: NDArray[np.uint8]) -> PatchProjection:
    raw = [each.reshape(-1, 3).astype(np.float32) for each in images]
    folds = np.array_split(np.arange(len(raw)), 3)
    return PatchProjection.of(reduce(operator.add, patchcore._moments_of(raw, folds)), dimensions=1)


def _alone(images: NDArray[np.uint8]) -> PatchProjection:
    return PatchProjection.fit(images.reshape(-1, 3).astype(np.float32), dimensions=1)


@pytest.mark.parametrize("project", [_streamed, _at_once, _alone])
def test_what_varies_between_the_columns_of_a_stride_is_in_the_projection(
    project: object, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (streamed_bank, patchcore, whitening):
        monkeypatch.setattr(module, "MAX_FITTED_PATCHES", images[..., 0].size // STEP)
    (direction,) = project(images).matrix.T  # type: ignore[operator]
    assert abs(direction[PAD_CHANNEL]) > 0.99


@pytest.mark.parametrize("step", [2, 7, 14, 28, 56, 81])
@pytest.mark.parametrize("columns", [14, 28, 32, 34])
def test_every_column_is_read_as_often_as_any_other(step: int, columns: int) -> None:
    n = step * columns * 200
    column = np.arange(n, dtype=np.float32)[:, None] % columns
    found = thinned(column, step)
    assert len(found) == n // step
    counts = np.bincount(found[:, 0].astype(int), minlength=columns)
    np.testing.assert_allclose(counts, len(found) / columns, rtol=0.1)


def test_all_patches_of_a_usual_fit_are_used_as_they_lie() -> None:
    patches = np.arange(10.0, dtype=np.float32)[:, None]
    assert thinned(patches, 1) is patches


def test_a_part_that_ends_within_a_step_is_thinned_as_well() -> None:
    patches = np.arange(10.0, dtype=np.float32)[:, None]
    for step in (3, 7, 10, 25):
        found = thinned(patches, step)[:, 0]
        assert 1 <= len(found) <= -(-10 // step)
        assert (found // step).tolist() == list(range(len(found)))


def test_the_moments_of_thinned_patches_are_near_those_of_all() -> None:
    rng = np.random.default_rng(1)
    patches = rng.normal([3.0, -1.0], [1.0, 5.0], (60_000, 2)).astype(np.float32)
    few, everything = PatchMoments.of(thinned(patches, 6)), PatchMoments.of(patches)
    np.testing.assert_allclose(few.covariance(), everything.covariance(), atol=0.6)
