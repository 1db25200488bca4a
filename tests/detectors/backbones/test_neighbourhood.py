"""Patches of a texture are not averaged, those of parts that look alike are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import OF_TEXTURE, is_texture, runtime_for
from detectors.backbones.runtime import FeatureRuntime
from detectors.photographs.position import small_gray


@pytest.fixture(scope="module")
def wall() -> NDArray[np.uint8]:
    """A texture far larger than a part."""
    return np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)


def _cuts(wall: NDArray[np.uint8], n: int, *, room: int) -> list[NDArray[np.float32]]:
    """Small pictures of ``n`` places of the wall, up to ``room`` pixels apart."""
    corners = np.random.default_rng(1).integers(0, room, (n, 2))
    return [small_gray(np.ascontiguousarray(wall[top : top + 128, left : left + 128])) for top, left in corners]


@pytest.mark.parametrize("n", [20, 300])
def test_cuts_of_a_texture_have_no_common_picture_whatever_their_number(wall: NDArray[np.uint8], n: int) -> None:
    assert is_texture(_cuts(wall, n, room=400))
    assert not is_texture(_cuts(wall, n, room=1))


def test_the_runtime_of_a_texture_gives_each_patch_as_it_is(runtime: FeatureRuntime, wall: NDArray[np.uint8]) -> None:
    spec, canvas = BackboneSpec(), np.ascontiguousarray(wall[:96, :128])
    found = runtime_for(_cuts(wall, 20, room=400), usual=runtime, spec=spec).features(canvas)
    alone = build_runtime(spec, neighbourhood=OF_TEXTURE).features(canvas)
    np.testing.assert_array_equal(found, alone)
    assert np.abs(found - runtime.features(canvas)).max() > 0.1 * found.std()


def test_parts_that_look_alike_keep_the_usual_runtime(runtime: FeatureRuntime, wall: NDArray[np.uint8]) -> None:
    assert runtime_for(_cuts(wall, 20, room=1), usual=runtime, spec=BackboneSpec()) is runtime
