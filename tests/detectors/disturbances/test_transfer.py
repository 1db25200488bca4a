"""Known goods as a changed station would take them: pixel by pixel what the disturbance says, and a bank that knows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.disturbances.transfer import Judge, moments_of, transfer
from detectors.families.patchcore import PatchCore
from detectors.fit import GoodImages, fit_version, prepare
from detectors.photographs.images import list_images, read_photograph
from detectors.version import DetectorVersion

BLUR = (Disturbance("defocus", 1.2),)
NOISE = (Disturbance("noise", 0.02),)


def _files(folder: Path) -> dict[str, Path]:
    return {read_photograph(path).sha256: path for path in list_images(folder)}


def test_a_transferred_image_is_the_photograph_with_the_disturbance_on_it(
    version: DetectorVersion, good_folder: Path
) -> None:
    files = _files(good_folder)
    moved = transfer(files, dict.fromkeys(files, BLUR), version=version, seed=0)
    assert [image.sha256 for image in moved] == list(files)
    for image in moved[:3]:
        expected = disturb(read_photograph(image.path).pixels, BLUR, np.random.default_rng(0))
        assert (image.canvas == version.framing.frame(np.repeat(expected[..., None], 3, axis=2))).all()


def test_noise_is_drawn_for_each_image_by_itself_and_again_the_same(
    version: DetectorVersion, good_folder: Path
) -> None:
    files = _files(good_folder)
    some = dict(list(files.items())[5:8])
    everything = {each.sha256: each for each in transfer(files, dict.fromkeys(files, NOISE), version=version, seed=0)}
    for image in transfer(some, dict.fromkeys(some, NOISE), version=version, seed=0):
        assert (image.canvas == everything[image.sha256].canvas).all()
    (other, *_) = transfer(some, dict.fromkeys(some, NOISE), version=version, seed=1)
    assert (other.canvas != everything[other.sha256].canvas).any()


def test_an_altered_file_is_no_verified_good(
    version: DetectorVersion, tmp_path: Path, write_night: Callable[..., Path]
) -> None:
    files = _files(write_night(tmp_path / "few", 5, seed=4))
    paths = list(files.values())
    paths[1].write_bytes(paths[0].read_bytes())
    paths[2].unlink()
    moved = transfer(files, dict.fromkeys(files, BLUR), version=version, seed=0)
    assert [image.path for image in moved] == [paths[0], *paths[3:]]


def test_to_a_judge_of_transferred_goods_new_goods_are_usual_and_defects_are_not(
    version: DetectorVersion, good_folder: Path, camera: Callable[..., np.ndarray]
) -> None:
    files = _files(good_folder)
    rng = np.random.default_rng(9)

    def taken_now(*, defect: bool) -> np.ndarray:
        taken = disturb(camera(rng, defect=defect), BLUR, rng)
        return version.framing.frame(np.repeat(taken[..., None], 3, axis=2))

    tonight = [taken_now(defect=False) for _ in range(30)]
    moved = transfer(files, dict.fromkeys(files, BLUR), version=version, seed=0)
    of_night = moments_of(tonight, version=version, seed=0)
    judge = Judge.of(moved, of_night, list(files), version=version, seed=0)

    good, bad = (judge.scores([taken_now(defect=defect) for _ in range(10)]) for defect in (False, True))
    again = taken_now(defect=True)
    assert judge.scores([again]) == [judge.score(again).score]
    assert max(good) < min(bad)
    assert np.median(good) < np.quantile(judge.usual, 0.9)


def test_a_core_is_learned_from_and_stands_neither_in_the_reference_nor_in_the_mean_image(
    version: DetectorVersion, goods: GoodImages, good_folder: Path
) -> None:
    files = _files(good_folder)
    core = transfer(files, dict.fromkeys(files, BLUR), version=version, seed=0)[:25]
    half = GoodImages(goods.prepared[:30], (), 0, goods.framing, goods.white_level)
    fit = lambda core: fit_version(half, family=PatchCore, runtime=version.runtime, fpr_budget=0.05, seed=0, core=core)  # noqa: E731
    plain, together = fit(()), fit(core)
    assert len(together.reference_scores) == 30
    assert together.provenance["reference_images_sha256"] == [image.sha256 for image in half.prepared]
    assert together.provenance["n_fit"] == 55
    assert (together.template.mean_image == plain.template.mean_image).all()
    moved = core[20].canvas
    assert together.model.score(moved).score < plain.model.score(moved).score
    assert set(prepare(list(files.values()), framing=goods.framing, white_level=255).prepared[0].appearance) == set(
        core[0].appearance
    )
