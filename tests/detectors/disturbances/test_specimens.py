"""What a drill scores is what a camera at the changed station would have delivered."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.disturbances.specimens import (
    Specimen,
    photograph,
    prepare_disturbed,
    prepared_covariates,
    prepared_score,
)
from detectors.photographs.images import list_images, read_photograph
from detectors.version import DetectorVersion
from halfsigma import ImageError

DARKER = Disturbance("gain", 0.6)


@pytest.fixture(scope="module")
def specimens(good_folder: Path) -> list[Specimen]:
    return [Specimen(path, read_photograph(path).sha256) for path in list_images(good_folder)[:12]]


def _photograph(specimen: Specimen, disturbance: Disturbance | None) -> np.ndarray:
    return photograph(specimen, disturbance, white_level=255, rng=np.random.default_rng(0))


@pytest.mark.parametrize("disturbance", [None, DARKER])
def test_a_prepared_image_is_judged_as_the_photograph_itself(
    specimens: list[Specimen], version: DetectorVersion, disturbance: Disturbance | None
) -> None:
    prepared = list(prepare_disturbed(specimens, disturbance, version=version, seed=0))
    assert [image.sha256 for image in prepared] == [specimen.sha256 for specimen in specimens]
    for specimen, image in zip(specimens, prepared, strict=True):
        judged = version.score(_photograph(specimen, disturbance))
        assert prepared_score(version, image) == judged.score
        assert prepared_covariates(version, image) == judged.covariates


def test_exposures_are_repeatable_and_differ_from_image_to_image(
    specimens: list[Specimen], version: DetectorVersion
) -> None:
    twice = [specimens[0], specimens[0]]
    noise = Disturbance("noise", 0.05)
    one, again = (list(prepare_disturbed(twice, noise, version=version, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(one[0].canvas, again[0].canvas)
    assert (one[0].canvas != one[1].canvas).any()
    (other,) = prepare_disturbed(twice[:1], noise, version=version, seed=4)
    assert (one[0].canvas != other.canvas).any()


def test_the_part_gets_its_defect_before_the_station_changes(specimens: list[Specimen]) -> None:
    painted = Specimen(specimens[0].path, specimens[0].sha256, defect_seed=5)
    defect = _photograph(painted, None)
    assert (defect != _photograph(specimens[0], None)).any()
    expected = disturb(defect, [DARKER], np.random.default_rng(0))
    np.testing.assert_array_equal(_photograph(painted, DARKER), expected)


def test_a_file_that_was_replaced_is_not_taken_for_the_one_chosen(
    tmp_path: Path, specimens: list[Specimen], version: DetectorVersion
) -> None:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.full((96, 112), 90, np.uint8))
    with pytest.raises(ImageError, match="replaced"):
        list(prepare_disturbed([*specimens, Specimen(path, "0" * 64)], None, version=version, seed=0))


def test_a_12_bit_camera_gets_the_defect_that_its_part_would_have(tmp_path: Path, specimens: list[Specimen]) -> None:
    eight = read_photograph(specimens[0].path).pixels
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), eight.astype(np.uint16) * 16)
    deep = Specimen(path, read_photograph(path).sha256, defect_seed=5, defect_kind="hole")
    found = photograph(deep, None, white_level=255 * 16, rng=np.random.default_rng(0))
    expected = _photograph(Specimen(specimens[0].path, specimens[0].sha256, defect_seed=5, defect_kind="hole"), None)
    assert np.abs(found / 16.0 - expected).max() < 1.0


def test_a_large_picture_is_reduced_by_area_before_it_is_disturbed_and_a_small_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    cv2.imwrite(
        str(path), np.kron(np.random.default_rng(0).integers(0, 256, (60, 80)), np.ones((4, 4))).astype(np.uint8)
    )
    specimen = Specimen(path, read_photograph(path).sha256)

    def seen(disturbance: Disturbance | None, most_pixels: int) -> np.ndarray:
        return photograph(specimen, disturbance, white_level=255, rng=np.random.default_rng(0), most_pixels=most_pixels)

    whole = read_photograph(path).pixels
    np.testing.assert_array_equal(seen(None, whole.size), whole)
    reduced = seen(None, 60 * 80)
    np.testing.assert_array_equal(reduced, whole[::4, ::4])
    expected = disturb(reduced, [Disturbance("defocus", 2.0)], np.random.default_rng(0))
    np.testing.assert_array_equal(seen(Disturbance("defocus", 2.0), 60 * 80), expected)


def test_a_large_picture_has_the_canvas_that_it_had_without_being_reduced(
    tmp_path: Path, version: DetectorVersion
) -> None:
    path = tmp_path / "large.png"
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (1200, 1600)).astype(np.uint8), (0, 0), 20)
    cv2.imwrite(str(path), cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX))  # type: ignore[call-overload]
    specimens = [Specimen(path, read_photograph(path).sha256)]
    (whole,), (reduced,) = (
        prepare_disturbed(specimens, None, version=version, seed=0, most_pixels=most) for most in (10**7, 200_000)
    )
    assert whole.canvas.shape == reduced.canvas.shape
    assert np.abs(whole.canvas.astype(float) - reduced.canvas).max() <= 3.0
