"""Each covariate moves for its own cause, by the right amount, and not for another's."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.photographs import position
from detectors.photographs.covariates import COVARIATE_NAMES, measure_appearance, measure_covariates
from detectors.photographs.position import POSITION_NAMES, TEMPLATE_PX, PartTemplate, measure_position, small_gray

SIDE = 256


def _colour(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[:, :, None], 3, axis=2)


def _appearance(gray: NDArray[np.uint8]) -> dict[str, float]:
    return measure_appearance(_colour(gray), original_size=gray.shape)


@pytest.fixture(scope="module")
def scene(plate: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A textured plate with a bright plug on it, well inside the frame, none of it at black or white."""
    rng = np.random.default_rng(3)
    scene = np.clip(plate[:SIDE, :SIDE].astype(np.float32) * 0.4 + 40, 10, 240)
    for _ in range(12):
        y, x = rng.integers(60, SIDE - 60, 2)
        cv2.ellipse(
            scene, (int(x), int(y)), (22, 9), float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(60, 230)), -1
        )
    return np.asarray(scene, np.uint8)


@pytest.fixture(scope="module")
def template(scene: NDArray[np.uint8]) -> PartTemplate:
    return PartTemplate.of([small_gray(_colour(scene))])


def _moved(
    scene: NDArray[np.uint8], *, right_px: float = 0, down_px: float = 0, turn_deg: float = 0
) -> NDArray[np.uint8]:
    """The part moved and turned counter-clockwise as seen; OpenCV's rotation is counter-clockwise for a y that
    points down."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), turn_deg, 1.0)
    matrix[:, 2] += (right_px, down_px)
    return np.asarray(cv2.warpAffine(scene, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT), np.uint8)


def test_brightness_and_contrast_are_the_mean_and_spread_of_gray_on_a_scale_of_one() -> None:
    half = np.full((64, 64), 51, np.uint8)
    half[:, 32:] = 153
    measured = _appearance(half)
    assert measured["brightness"] == pytest.approx(0.4, abs=1e-6)
    assert measured["contrast"] == pytest.approx(0.2, abs=1e-6)


def test_colours_are_weighed_as_the_eye_weighs_them() -> None:
    green = np.zeros((32, 32, 3), np.uint8)
    green[:, :, 1] = 200
    assert measure_appearance(green, original_size=(32, 32))["brightness"] == pytest.approx(0.587 * 200 / 255, abs=2e-3)


def test_saturation_is_the_share_of_pixels_at_black_or_white() -> None:
    image = np.full((10, 10), 128, np.uint8)
    image[0, :3], image[5, :2] = 0, 255
    assert _appearance(image)["saturation"] == pytest.approx(0.05)


def test_width_and_height_are_those_of_the_file() -> None:
    measured = measure_appearance(np.zeros((32, 48, 3), np.uint8), original_size=(640, 960))
    assert (measured["width"], measured["height"]) == (960.0, 640.0)


def test_blur_lowers_the_sharpness_and_the_more_the_lower(scene: NDArray[np.uint8]) -> None:
    sharpness = [
        _appearance(cv2.GaussianBlur(scene, (0, 0), sigma) if sigma else scene)["sharpness"]
        for sigma in (0, 0.7, 1.5, 3.0)
    ]
    assert all(later < earlier - 0.3 for earlier, later in itertools.pairwise(sharpness))


@pytest.mark.parametrize("gain", [0.6, 0.8, 1.05])
def test_neither_lamp_nor_gain_move_the_sharpness(scene: NDArray[np.uint8], gain: float) -> None:
    dimmed = np.clip(np.rint(scene * gain), 0, 255).astype(np.uint8)
    # what remains is the rounding to 256 levels
    assert _appearance(dimmed)["sharpness"] == pytest.approx(_appearance(scene)["sharpness"], abs=0.02)
    assert _appearance(dimmed)["brightness"] == pytest.approx(gain * _appearance(scene)["brightness"], rel=0.01)


@pytest.mark.parametrize("sd", [2.0, 5.0, 10.0])
def test_noise_is_the_standard_deviation_that_was_added_to_a_smooth_image(sd: float) -> None:
    ramp = np.linspace(60, 190, 200)[None, :] + np.linspace(0, 20, 200)[:, None]
    noisy = ramp + np.random.default_rng(0).normal(0.0, sd, ramp.shape)
    assert _appearance(np.rint(noisy).astype(np.uint8))["noise"] == pytest.approx(sd / 255, rel=0.05)


@pytest.mark.parametrize(("right_px", "down_px"), [(12, 0), (0, 12), (-8, 5), (3, -16)])
def test_a_shift_is_found_with_its_sign_and_size(
    scene: NDArray[np.uint8], template: PartTemplate, right_px: int, down_px: int
) -> None:
    position = measure_position(small_gray(_colour(_moved(scene, right_px=right_px, down_px=down_px))), template)
    half_px = 0.5 / TEMPLATE_PX
    assert position["offset_x"] == pytest.approx(right_px / SIDE, abs=half_px)
    assert position["offset_y"] == pytest.approx(down_px / SIDE, abs=half_px)


@pytest.mark.parametrize("turn_deg", [-6.0, -3.0, 3.0, 6.0])
def test_a_rotation_is_found_with_its_sign_and_size(
    scene: NDArray[np.uint8], template: PartTemplate, turn_deg: float
) -> None:
    position = measure_position(small_gray(_colour(_moved(scene, turn_deg=turn_deg))), template)
    assert position["rotation"] == pytest.approx(turn_deg, abs=1.0)


def test_the_part_where_it_always_lies_has_no_offset_and_no_rotation(
    scene: NDArray[np.uint8], template: PartTemplate
) -> None:
    position = measure_position(small_gray(_colour(scene)), template)
    assert position == pytest.approx(dict.fromkeys(POSITION_NAMES, 0.0), abs=1e-3)


def test_where_there_is_nothing_to_see_position_is_zero_and_everything_is_finite(template: PartTemplate) -> None:
    for level in (0, 255):
        image = np.full((64, 96, 3), level, np.uint8)
        measured = measure_covariates(image, template=template, original_size=(64, 96))
        assert tuple(measured) == COVARIATE_NAMES
        assert np.isfinite(list(measured.values())).all()
        assert measured["offset_x"] == measured["offset_y"] == measured["rotation"] == 0.0
        assert measured["saturation"] == 1.0


def test_the_template_is_the_mean_of_the_good_images() -> None:
    dark, bright = (
        np.full((TEMPLATE_PX, TEMPLATE_PX), 0.2, np.float32),
        np.full((TEMPLATE_PX, TEMPLATE_PX), 0.6, np.float32),
    )
    np.testing.assert_allclose(PartTemplate.of([dark, bright, bright]).mean_image, 1.4 / 3, rtol=1e-6)


def test_the_mean_image_is_of_all_where_only_some_tell_the_variation(monkeypatch: pytest.MonkeyPatch) -> None:
    dark, bright = (np.full((TEMPLATE_PX, TEMPLATE_PX), level, np.float32) for level in (0.2, 0.6))
    monkeypatch.setattr(position, "MOST_VARIED", 2)
    template = PartTemplate.of([dark, bright, dark, bright, bright])
    np.testing.assert_allclose(template.mean_image, 2.2 / 5, rtol=1e-6)


def test_measuring_changes_neither_the_photograph_nor_the_template(scene: NDArray[np.uint8]) -> None:
    """OpenCV's phase correlation windows its inputs in place: ten thousand photographs later nothing may be left."""
    template = PartTemplate.of([small_gray(_colour(scene))])
    small = small_gray(_colour(_moved(scene, right_px=6, turn_deg=2)))
    before = template.mean_image.copy(), small.copy()
    first = measure_position(small, template)
    assert measure_position(small, template) == first
    np.testing.assert_array_equal(template.mean_image, before[0])
    np.testing.assert_array_equal(small, before[1])
