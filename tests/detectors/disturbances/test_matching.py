"""What happened to a station is told from verified goods and from tonight's patches, whatever a check named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.disturbances.disturbance import Changes, Disturbance, disturb
from detectors.disturbances.matching import N_TRIED_ON, match
from detectors.disturbances.transfer import moments_of
from detectors.fit import GoodImages, prepare
from detectors.photographs.images import list_images, read_photograph
from detectors.version import DetectorVersion

BLUR, BRIGHTER = Disturbance("defocus", 1.2), Disturbance("gain", 1.3)
Camera = Callable[..., np.ndarray]


def _told(
    version: DetectorVersion,
    goods: GoodImages,
    tonight: Sequence[np.ndarray],
    starts: Sequence[Changes] = (),
    earlier: Changes = (),
) -> dict[str, Disturbance]:
    canvases = [version.framing.frame(np.repeat(image[..., None], 3, axis=2)) for image in tonight]
    found = match(
        goods.prepared,
        {image.sha256: earlier for image in goods.prepared},
        moments_of(canvases, version=version, seed=0),
        starts=starts,
        version=version,
        seed=0,
    )
    return {each.name: each for each in found}


def _night(camera: Camera, changes: Changes, n: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(77)
    return [disturb(camera(rng), changes, rng) for _ in range(n)]


def test_both_parts_of_a_mixture_are_found_though_the_check_named_one_and_that_too_strong(
    version: DetectorVersion, goods: GoodImages, camera: Camera
) -> None:
    assert len(goods.prepared) > N_TRIED_ON
    night = _night(camera, (BLUR, BRIGHTER))
    found = _told(version, goods, night, [(Disturbance("defocus", 2.0),)])
    assert set(found) == {"defocus", "gain"}
    assert found["defocus"].strength == pytest.approx(1.2, rel=0.2)
    assert found["gain"].strength == pytest.approx(1.3, abs=0.1)
    assert found == _told(version, goods, night, [(Disturbance("defocus", 2.0),)])


def test_where_nothing_happened_nothing_is_found_and_what_was_named_is_dropped(
    version: DetectorVersion, goods: GoodImages, camera: Camera
) -> None:
    assert _told(version, goods, _night(camera, ())) == {}
    assert _told(version, goods, _night(camera, ()), [(Disturbance("motion", 5.0),)]) == {}


def test_what_had_happened_to_a_good_before_tonight_is_not_found_again(
    version: DetectorVersion, goods: GoodImages, camera: Camera
) -> None:
    found = _told(version, goods, _night(camera, (BLUR, BRIGHTER)), earlier=(BLUR,))
    assert set(found) == {"gain"}


def test_of_large_photographs_that_are_shrunk_for_it_strengths_are_in_their_own_pixels(
    version: DetectorVersion, tmp_path: Path, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.disturbances.matching.MOST_PIXELS", 100_000)
    rng = np.random.default_rng(5)
    for number in range(30):
        cv2.imwrite(str(tmp_path / f"{number}.png"), _enlarged(camera(rng)))
    goods = prepare(list_images(tmp_path), framing=version.framing, white_level=255)
    slipped = Disturbance("shift", 32.0, direction_deg=90.0)
    night = [disturb(_enlarged(camera(rng)), [slipped], rng) for _ in range(30)]
    found = _told(version, goods, night)
    assert found["shift"].strength == pytest.approx(32.0, rel=0.3)
    assert abs(found["shift"].direction_deg - 90.0) <= 30.0


def test_a_vault_that_has_lost_the_files_tells_nothing(
    version: DetectorVersion, tmp_path: Path, camera: Camera, write_night: Callable[..., Path]
) -> None:
    goods = prepare(list_images(write_night(tmp_path / "few", 20, seed=3)), framing=version.framing, white_level=255)
    for image in goods.prepared:
        assert read_photograph(image.path).sha256 == image.sha256
        image.path.unlink()
    assert _told(version, goods, _night(camera, (BLUR,), n=10)) == {}


def _enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
