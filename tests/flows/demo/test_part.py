"""The demo's story as files: repeatable, consistent where it is good, visibly changed where it says so."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.disturbances.disturbance import Disturbance
from detectors.photographs.images import list_images, read_photograph
from flows.demo.part import (
    STORY,
    BrakePadSource,
    DemoPart,
    NightPlan,
    OwnImagesSource,
    write_demo_part,
    write_own_part,
)
from flows.demo.part.defects import KINDS, add_defect
from halfsigma import ImageError, TooFewImages

FIRST = date(2026, 11, 16)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> DemoPart:
    return write_demo_part(tmp_path_factory.mktemp("part"), first_night=FIRST, n_fit=12, n_night=25, n_golden=5)


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty gray photographs of 12 bits in 16, each told from the others by its level."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for k in range(30):
        image = rng.integers(0, 60, (64, 96)).astype(np.uint16) + 500 + 100 * k
        image[:4] = 4095
        cv2.imwrite(str(folder / f"{k}.png"), image)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the demo's part asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _light(path: Path) -> np.ndarray:
    return read_photograph(path).pixels.astype(np.float64)


def test_the_folders_hold_what_the_story_tells(part: DemoPart) -> None:
    assert len(list_images(part.good)) == 12
    assert sorted(part.golden.values()) == sorted(KINDS)
    assert [night.night.isoformat() for night in part.nights] == [
        "2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20",
    ]  # fmt: skip
    for night, plan in zip(part.nights, STORY, strict=True):
        assert list_images(night.directory) == list(night.images)
        assert len(night.images) == 25 and len(night.defects) == round(plan.defect_share * 25)
        assert all(path.is_file() for path in night.masks.values())
    truth = json.loads((part.directory / "truth.json").read_text(encoding="utf-8"))
    assert truth["nights"][2]["defects"] == {p.name: kind for p, kind in part.nights[2].defects.items()}


def test_the_same_seed_writes_the_same_bytes_and_needs_no_network(tmp_path: Path, no_network: None) -> None:
    plans = (NightPlan("a night", 0.25, (Disturbance("shift", 3), Disturbance("noise", 0.01))),)
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        write_demo_part(tmp_path / name, first_night=FIRST, n_fit=3, n_night=4, n_golden=2, plans=plans, seed=seed)
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")
    assert _digest(tmp_path / "one") != _digest(tmp_path / "other")


def test_no_two_photographs_of_good_parts_are_the_same(part: DemoPart) -> None:
    paths = [*list_images(part.good), *part.nights[0].images]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == len(paths)


def test_good_parts_differ_less_than_the_changed_station(part: DemoPart) -> None:
    goods = [_light(path) for path in list_images(part.good)]
    mean = np.mean(goods, axis=0)
    changed = [_light(p) for p in part.nights[3].images if p not in part.nights[3].defects]
    within = [np.abs(each - mean).mean() for each in goods]
    beyond = [np.abs(each - mean).mean() for each in changed]
    assert min(beyond) > max(within)
    assert np.mean(changed) < 0.92 * np.mean(goods), "the lamp is at least 8 % darker"


def test_the_changed_station_stays_changed_in_the_night_after(part: DemoPart) -> None:
    assert part.nights[3].changed == part.nights[4].changed != "nothing changed"
    levels = [np.mean([_light(path).mean() for path in night.images]) for night in part.nights]
    assert abs(levels[4] - levels[3]) < 0.25 * (levels[0] - levels[3])


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seed", range(4))
def test_a_defect_changes_the_pixels_under_its_mask_and_hardly_any_other(kind: str, seed: int) -> None:
    pad = BrakePadSource(seed=0)
    good = pad.take("fit", 0, np.random.default_rng(seed)).pixels
    spoilt = pad.take("fit", 0, np.random.default_rng(seed), defect=kind)
    assert spoilt.kind == kind and spoilt.mask is not None and good.shape == spoilt.pixels.shape == (256, 256, 3)
    assert 8 < spoilt.mask.sum() < 0.06 * spoilt.mask.size, "seen by a person, and no part is ruined all over"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_defect_is_seen_on_gray_as_well_and_leaves_its_photograph_alone(kind: str) -> None:
    gray = np.random.default_rng(3).uniform(0.4, 0.6, (120, 200)).astype(np.float32)
    before = gray.copy()
    where = np.zeros_like(gray)
    where[50:70, 90:110] = 1
    spoilt = add_defect(gray, where, np.random.default_rng(1), kind=kind)
    np.testing.assert_array_equal(gray, before)
    difference = np.abs(spoilt.light - gray)
    assert spoilt.light.shape == gray.shape and spoilt.light.min() >= 0 and spoilt.light.max() <= 1
    assert difference[spoilt.mask].mean() > 0.03
    assert difference[~cv2.dilate(spoilt.mask.astype(np.uint8), np.ones((9, 9))).astype(bool)].mean() < 0.005


def test_own_images_keep_their_depth_and_stay_untouched(own_images: Path, tmp_path: Path) -> None:
    before = _digest(own_images)
    part = write_own_part(own_images, tmp_path, first_night=FIRST, n_fit=10, n_night=6, n_golden=5)
    assert _digest(own_images) == before
    first = read_photograph(part.nights[0].images[0]).pixels
    assert first.dtype == np.uint16 and first.shape == (64, 96)
    assert max(int(_light(path).max()) for path in part.nights[3].images) <= 4095


def test_own_images_of_fit_and_nights_are_never_the_same_part(own_images: Path) -> None:
    source = OwnImagesSource(own_images, fit_share=0.3, seed=0)
    rng = np.random.default_rng(0)

    def parts(pool: str, n: int) -> set[int]:
        # The level of each photograph tells which one it was; a repeat varies it by a few per cent at most.
        return {round((np.median(source.take(pool, k, rng).pixels) - 530) / 100) for k in range(n)}  # type: ignore[arg-type]

    fit, nights = parts("fit", 9), parts("nights", 21)
    assert len(fit) == 9 and len(nights) == 21 and not fit & nights


def test_own_images_that_run_out_return_as_no_exact_copies(own_images: Path) -> None:
    source = OwnImagesSource(own_images, fit_share=0.3, seed=0)
    first = source.take("fit", 0, np.random.default_rng(0)).pixels
    again = source.take("fit", 9, np.random.default_rng(1)).pixels
    assert (first != again).any()
    assert np.corrcoef(first.ravel(), again.ravel())[0, 1] > 0.95


def test_disturbances_in_pixels_grow_with_own_images(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for k in range(20):
        image = np.random.default_rng(k).integers(0, 255, (512, 600), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k}.png"), image)
    part = write_own_part(folder, tmp_path / "out", first_night=FIRST, n_fit=4, n_night=2, n_golden=1)
    assert "slipped by 24 px" in part.nights[3].changed, "12 px at a side of 256"


def test_too_few_own_images_are_refused_with_a_count(tmp_path: Path) -> None:
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((64, 64), np.uint8))
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(TooFewImages, match="3 readable images"):
        write_own_part(tmp_path, tmp_path / "out", first_night=FIRST)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        write_own_part(tmp_path, tmp_path / "out", first_night=FIRST)
