"""From files to a version: what is left out is told, what is learned can be repeated, what it says fits together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from detectors.backbones.resolution import FINE_SIDE_PX, USUAL_SIDE_PX, plan_frame
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Doubt
from detectors.families.padim import Padim
from detectors.fit import MIN_FIT_IMAGES, GoodImages, fit_version, prepare, scores_of_fitted
from detectors.photographs.covariates import COVARIATE_NAMES
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.photographs.loading import READ_AHEAD, Unreadable, read_ahead
from detectors.protocol import Fitted
from detectors.version import DetectorVersion
from halfsigma import DetectorError, ImageError, TooFewImages

Camera = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def messy(good_folder: Path, tmp_path: Path) -> Path:
    """The good images, one of them twice, with a text, a cut and an empty file among them."""
    folder = Path(shutil.copytree(good_folder, tmp_path / "messy"))
    shutil.copy(folder / "part3.png", folder / "part3 copy.png")
    (folder / "notes.png").write_text("not an image")
    (folder / "cut.png").write_bytes((folder / "part4.png").read_bytes()[:500])
    (folder / "empty.jpg").touch()
    return folder


def test_what_is_broken_or_repeated_is_left_out_and_told(messy: Path, goods: GoodImages) -> None:
    found = prepare(list_images(messy), framing=Framing(96), white_level=255)
    assert {image.sha256 for image in found.prepared} == {image.sha256 for image in goods.prepared}
    assert found.n_repeated == 1
    assert sorted(each.path.name for each in found.unreadable) == ["cut.png", "empty.jpg", "notes.png"]
    assert all(each.path.name in each.reason for each in found.unreadable)


def test_the_same_picture_in_other_bytes_is_a_repeated_one(
    good_folder: Path, goods: GoodImages, tmp_path: Path
) -> None:
    """Else it would stand on both sides of the cross-fit."""
    folder = Path(shutil.copytree(good_folder, tmp_path / "twice"))
    for path in list_images(good_folder):
        cv2.imwrite(str(folder / f"{path.stem}.bmp"), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    found = prepare(list_images(folder), framing=Framing(96), white_level=255)
    assert found.n_repeated == len(found.prepared) == len(goods.prepared)
    assert {image.path.stem for image in found.prepared} == {image.path.stem for image in goods.prepared}


def test_too_few_images_say_how_many_there_are_and_which_could_not_be_read(messy: Path) -> None:
    paths = [messy / "notes.png", *list_images(messy)[-(MIN_FIT_IMAGES - 1) :]]
    with pytest.raises(
        TooFewImages, match=f"19 distinct readable images of 20 files, expected at least {MIN_FIT_IMAGES}"
    ) as e:
        prepare(paths, framing=Framing(96), white_level=255)
    assert "1 cannot be used, first notes.png: not an image" in e.value.message


def test_the_threshold_and_the_reference_belong_together(version: DetectorVersion, goods: GoodImages) -> None:
    n = len(goods.prepared)
    assert version.reference_scores.shape == (n,)
    assert (version.reference_scores > version.threshold.value).mean() <= 0.05
    assert tuple(version.reference_covariates) == COVARIATE_NAMES
    assert all(values.shape == (n,) and np.isfinite(values).all() for values in version.reference_covariates.values())
    assert version.provenance["n_fit"] == n
    assert version.provenance["fit_images_sha256"] == [image.sha256 for image in goods.prepared]


def test_where_every_image_stands_in_the_reference_its_scores_are_those_of_the_images(
    version: DetectorVersion, goods: GoodImages
) -> None:
    np.testing.assert_array_equal(scores_of_fitted(version, goods), version.reference_scores)


class HoldsOut(Padim):
    """As a family that trains: only every other image stands in the reference."""

    @classmethod
    def fit(cls, canvases: Sequence[NDArray[np.uint8]], **given: Any) -> Fitted[Padim]:
        fitted = Padim.fit(canvases, **given)
        return Fitted(fitted.model, fitted.reference_index[::2], fitted.reference_scores[::2])


def test_what_is_doubted_of_all_images_is_said_of_a_reference_that_is_a_draw_of_them(
    goods: GoodImages, runtime: FeatureRuntime
) -> None:
    def promised(doubt: Doubt) -> float:
        fitted = fit_version(goods, family=HoldsOut, runtime=runtime, fpr_budget=0.05, seed=0, doubt=doubt)
        return fitted.threshold.promised_fpr

    n = len(goods.prepared) // 2
    assert promised(Doubt(np.empty(0), n_above=4)) == pytest.approx(3 / (n + 3))  # two of the four, and the next one


def test_of_what_is_held_back_as_large_a_share_stands_in_the_reference_as_of_the_others(
    goods: GoodImages, runtime: FeatureRuntime
) -> None:
    held_back = goods.prepared[:10]
    learned = replace(goods, prepared=goods.prepared[10:])
    found = {
        family: fit_version(
            learned, family=family, runtime=runtime, fpr_budget=0.05, seed=0, held_back=held_back
        ).provenance["reference_images_sha256"]
        for family in (Padim, HoldsOut)
    }
    names = {image.sha256 for image in held_back}
    assert [len(names.intersection(each)) for each in found.values()] == [10, 5]


def test_fresh_goods_lie_in_the_reference_and_defects_above_it(version: DetectorVersion, camera: Camera) -> None:
    rng = np.random.default_rng(99)
    fresh = [version.score(camera(rng)) for _ in range(40)]
    defective = [version.score(camera(rng, defect=True)) for _ in range(10)]
    mean, sd = version.reference_scores.mean(), version.reference_scores.std(ddof=1)
    assert abs(np.mean([each.score for each in fresh]) - mean) < 0.6 * sd
    assert sum(each.rejected for each in fresh) <= 8
    assert all(each.rejected for each in defective)
    assert all(each.rejected == (each.score > version.threshold.value) for each in fresh + defective)


def test_a_fit_is_repeated_by_its_seed_and_changed_by_another(
    goods: GoodImages, version: DetectorVersion, fit_tiny: Callable[..., DetectorVersion]
) -> None:
    again, other = fit_tiny(goods), fit_tiny(goods, seed=1)
    np.testing.assert_array_equal(again.reference_scores, version.reference_scores)
    assert again.threshold == version.threshold
    assert not np.array_equal(other.reference_scores, version.reference_scores)


def test_an_image_of_another_size_or_mode_is_judged_and_its_size_is_noted(
    version: DetectorVersion, camera: Camera
) -> None:
    photograph = camera(np.random.default_rng(5))
    larger = cv2.resize(photograph, (336, 288), interpolation=cv2.INTER_CUBIC)
    usual, judged = version.score(photograph), version.score(np.repeat(larger[:, :, None], 3, axis=2))
    assert (judged.covariates["width"], judged.covariates["height"]) == (336.0, 288.0)
    assert judged.anomaly_map.shape == usual.anomaly_map.shape
    assert np.isfinite(judged.score)


def test_reading_ahead_keeps_the_order_and_gives_a_reason_for_every_broken_file(messy: Path) -> None:
    paths = list_images(messy)
    items = list(read_ahead(paths))
    assert [item.path for item in items] == paths
    assert sum(isinstance(item, Unreadable) for item in items) == 3


def test_reading_ahead_holds_only_a_few_photographs_at_a_time(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectors.photographs import loading

    started: list[Path] = []
    read = loading.read_photograph
    monkeypatch.setattr(loading, "read_photograph", lambda path: (started.append(path), read(path))[1])
    reader = read_ahead(list_images(messy))
    next(reader)
    assert len(started) <= READ_AHEAD
    reader.close()


@pytest.mark.parametrize("n_waiting", [3, 0])
def test_of_large_photographs_fewer_are_read_ahead_but_one_always_is(
    messy: Path, monkeypatch: pytest.MonkeyPatch, n_waiting: int
) -> None:
    from detectors.photographs import loading

    started: list[Path] = []
    read = loading.read_photograph
    monkeypatch.setattr(loading, "read_photograph", lambda path: (started.append(path), read(path))[1])
    monkeypatch.setattr(loading, "WAITING_PIXELS", n_waiting * 96 * 112)
    paths = [path for path in list_images(messy) if path.name.startswith("part")]
    for n_used, item in enumerate(read_ahead(paths)):
        assert item.path == paths[n_used]
        time.sleep(0.005)
        assert len(started) - n_used <= 1 + max(1, n_waiting)
    assert len(started) == len(paths)


def _ten_ms_at_256(side_px: int) -> float:
    return 10.0 * (side_px / 256) ** 2 if side_px > 160 else 3.5


def test_a_budget_that_no_resolution_keeps_is_refused(tmp_path: Path) -> None:
    paths = _write(tmp_path, [np.zeros((200, 200), np.uint8)] * 3)
    with pytest.raises(DetectorError, match=r"takes 3\.5 ms .* budget is 2 ms"):
        plan_frame(paths, latency_budget_ms=2.0, cost_ms=_ten_ms_at_256)


def _write(folder: Path, images: list[NDArray[np.generic]]) -> list[Path]:
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"{number}.tif", image, photometric="minisblack")
    return list_images(folder)


@pytest.mark.parametrize(
    ("side", "budget", "expected"),
    [
        (512, None, USUAL_SIDE_PX),
        (700, None, FINE_SIDE_PX),
        (700, 1000.0, FINE_SIDE_PX),
        (700, 32.0, 320),
        (200, 8.0, 160),
    ],
)
def test_the_resolution_follows_the_photographs_size_and_the_latency_budget(
    tmp_path: Path, side: int, budget: float | None, expected: int
) -> None:
    paths = _write(tmp_path, [np.zeros((side, side), np.uint8)] * 3)
    plan = plan_frame(paths, latency_budget_ms=budget, cost_ms=_ten_ms_at_256)
    assert plan.framing.side_px == expected
    assert plan.native_side_px == side
    assert plan.white_level == 255


def test_the_white_level_of_a_12_bit_camera_is_found_from_its_images(tmp_path: Path) -> None:
    images: list[NDArray[np.generic]] = [np.full((32, 32), level, np.uint16) for level in (100, 900, 3900)]
    assert plan_frame(_write(tmp_path, images), latency_budget_ms=None, cost_ms=_ten_ms_at_256).white_level == 4095


def test_a_broken_file_does_not_stop_the_plan_but_nothing_readable_does(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(ImageError, match="none of 1 files"):
        plan_frame(list_images(tmp_path), latency_budget_ms=None, cost_ms=_ten_ms_at_256)
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 40), np.uint8))
    assert plan_frame(list_images(tmp_path), latency_budget_ms=None, cost_ms=_ten_ms_at_256).native_side_px == 40
