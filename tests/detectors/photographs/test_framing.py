"""The canvas keeps a photograph's scale and proportions within half a stride, whatever its size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.photographs.framing import SMALLEST_SIDE_PX, STRIDE_PX, Framing, native_side_px
from detectors.photographs.images import MAX_ASPECT, MIN_SIDE_PX

SIDES = st.integers(MIN_SIDE_PX, 6000)
WORKING = st.sampled_from([96, 256, 384])


@given(height=SIDES, width=SIDES, side=WORKING)
@settings(max_examples=400, deadline=None)
def test_sides_are_multiples_of_the_stride_and_within_half_of_it_of_the_true_proportions(
    height: int, width: int, side: int
) -> None:
    if max(height, width) > MAX_ASPECT * min(height, width):
        return
    canvas = Framing(side).canvas_size(height, width)
    scale = side / math.sqrt(height * width)
    for framed, true in zip(canvas, (height * scale, width * scale), strict=True):
        assert framed % STRIDE_PX == 0
        assert framed >= SMALLEST_SIDE_PX
        assert abs(framed - max(true, SMALLEST_SIDE_PX)) <= STRIDE_PX / 2 + 1e-9


@given(height=SIDES, width=SIDES, factor=st.integers(2, 5))
@settings(max_examples=200, deadline=None)
def test_the_canvas_does_not_depend_on_the_cameras_resolution(height: int, width: int, factor: int) -> None:
    framing = Framing(256)
    assert framing.canvas_size(height, width) == framing.canvas_size(height * factor, width * factor)


@given(height=SIDES, width=SIDES)
@settings(max_examples=200, deadline=None)
def test_a_photograph_on_its_side_gets_a_canvas_on_its_side(height: int, width: int) -> None:
    framing = Framing(256)
    assert framing.canvas_size(height, width) == framing.canvas_size(width, height)[::-1]


@pytest.mark.parametrize("size", [(16, 16), (300, 40), (1000, 1400)])
def test_a_framed_image_has_the_size_that_was_promised_and_the_same_mean(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    framing = Framing(256)
    framed = framing.frame(image)
    assert framed.shape == (*framing.canvas_size(*size), 3)
    assert framed.dtype == np.uint8
    assert framed.mean() == pytest.approx(image.mean(), abs=4.0)


def test_fine_detail_is_averaged_and_does_not_alias_when_the_image_shrinks() -> None:
    checks = (np.indices((1024, 1024)).sum(axis=0) % 2 * 255).astype(np.uint8)
    framed = Framing(256).frame(np.repeat(checks[:, :, None], 3, axis=2))
    assert np.ptp(framed) <= 1


def test_an_image_that_fits_already_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert Framing(256).frame(image) is image


def test_the_native_side_is_that_of_the_median_photograph() -> None:
    assert native_side_px([(100, 400), (50, 50), (1000, 1000)]) == pytest.approx(200.0)
