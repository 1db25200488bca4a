"""A grown version against one that was fitted on everything, and what its reference may and may not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from detectors.artifact import load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Doubt, conformal_threshold
from detectors.families import patchcore
from detectors.families.padim import Padim
from detectors.families.patchcore import PatchCore
from detectors.fit import GoodImages, fit_version, prepare
from detectors.growing import grow_versions
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.protocol import Detector
from detectors.version import DetectorVersion
from halfsigma import DetectorError


@pytest.fixture(scope="module")
def brighter(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> GoodImages:
    folder = write_night(tmp_path_factory.mktemp("more") / "brighter", 32, seed=31, gain=1.35)
    return prepare(list_images(folder), framing=Framing(96), white_level=255)


def _fit(goods: GoodImages, family: type[Detector], runtime: FeatureRuntime) -> DetectorVersion:
    return fit_version(goods, family=family, runtime=runtime, fpr_budget=0.05, seed=0)


def _grown(version: DetectorVersion, goods: GoodImages, *, known_files: Mapping[str, Path]) -> DetectorVersion:
    (grown,) = grow_versions(version, goods, known_files=known_files, fpr_budget=0.05, seed=0)
    return grown


def _files(goods: GoodImages) -> Mapping[str, Path]:
    return {image.sha256: image.path for image in goods.prepared}


def _part(goods: GoodImages, start: int, stop: int) -> GoodImages:
    return replace(goods, prepared=goods.prepared[start:stop])


def test_a_padim_grown_from_its_champion_is_one_fitted_on_everything(
    goods: GoodImages, runtime: FeatureRuntime
) -> None:
    champion = _fit(_part(goods, 0, 25), Padim, runtime)
    grown = _grown(champion, _part(goods, 25, 40), known_files=_files(goods))
    whole = _fit(goods, Padim, runtime)
    np.testing.assert_allclose(grown.reference_scores, whole.reference_scores, rtol=2e-3)
    assert grown.threshold.value == pytest.approx(whole.threshold.value, rel=2e-3)
    for image in goods.prepared[:3]:
        assert grown.model.score(image.canvas).score == pytest.approx(whole.model.score(image.canvas).score, rel=2e-3)
    assert grown.provenance["fit_images_sha256"] == whole.provenance["fit_images_sha256"]


def test_a_padims_reference_goes_on_with_the_images_that_are_still_there(
    goods: GoodImages, runtime: FeatureRuntime, tmp_path: Path
) -> None:
    champion = _fit(_part(goods, 0, 25), Padim, runtime)
    files = dict(_files(goods))
    altered = tmp_path / "altered.png"
    altered.write_bytes(goods.prepared[4].path.read_bytes())
    files |= {goods.prepared[2].sha256: tmp_path / "gone.png", goods.prepared[3].sha256: altered}
    grown = _grown(champion, _part(goods, 25, 40), known_files=files)
    expected = [image.sha256 for k, image in enumerate(goods.prepared) if k not in (2, 3)]
    assert grown.provenance["reference_images_sha256"] == expected
    assert grown.reference_scores.size == 38
    for values in grown.reference_covariates.values():
        assert values.size == 38


@pytest.mark.parametrize("family", [PatchCore, Padim])
def test_added_conditions_are_accepted_and_the_old_ones_still_are(
    family: type[Detector], goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    champion = _fit(_part(goods, 0, 30), family, runtime)
    added, fresh = _part(brighter, 0, 22), brighter.prepared[22:]
    before = [champion.model.score(image.canvas).score > champion.threshold.value for image in fresh]
    grown = _grown(champion, added, known_files=_files(goods))
    after = [grown.model.score(image.canvas).score > grown.threshold.value for image in fresh]
    old = [grown.model.score(image.canvas).score > grown.threshold.value for image in goods.prepared[30:]]
    assert np.mean(before) > 0.5 > np.mean(after)
    assert np.mean(old) < 0.5
    assert champion.model.score(fresh[0].canvas).score == champion.model.score(fresh[0].canvas).score
    assert champion.reference_scores.size == 30


def test_no_image_scores_higher_by_a_grown_bank(
    goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    """So the old reference, which goes on as it is, errs to the high side alone."""
    champion = _fit(_part(goods, 0, 30), PatchCore, runtime)
    grown = _grown(champion, brighter, known_files={})
    old, new = champion.model.arrays()["bank"], grown.model.arrays()["bank"]
    np.testing.assert_array_equal(new[: len(old)], old)
    assert len(new) > len(old)
    for image in (*goods.prepared[30:], *brighter.prepared[:3]):
        assert grown.model.score(image.canvas).score <= champion.model.score(image.canvas).score + 1e-4
    np.testing.assert_array_equal(grown.reference_scores[:30], champion.reference_scores)


def test_an_added_image_is_scored_by_a_bank_that_never_saw_it(
    goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    champion = _fit(_part(goods, 0, 30), PatchCore, runtime)
    grown = _grown(champion, brighter, known_files={})
    own = np.array([grown.model.score(image.canvas).score for image in brighter.prepared])
    unknown = np.array([champion.model.score(image.canvas).score for image in brighter.prepared])
    scored = grown.reference_scores[30:]
    assert (scored <= unknown + 1e-4).all()
    assert scored.mean() > own.mean()


@pytest.mark.parametrize("family", [PatchCore, Padim])
def test_a_grown_version_survives_its_file_and_grows_again(
    family: type[Detector], goods: GoodImages, runtime: FeatureRuntime, tmp_path: Path
) -> None:
    first = _fit(_part(goods, 0, 20), family, runtime)
    files = _files(goods)
    second = _grown(first, _part(goods, 20, 30), known_files=files)
    save_version(second, tmp_path / "second")
    loaded = load_version(tmp_path / "second")
    canvas = goods.prepared[39].canvas
    assert loaded.model.score(canvas).score == second.model.score(canvas).score
    third = _grown(loaded, _part(goods, 30, 38), known_files=files)
    assert third.provenance["n_fit"] == 38
    assert third.reference_scores.size == 38


def test_an_image_is_not_added_twice(goods: GoodImages, version: DetectorVersion) -> None:
    with pytest.raises(DetectorError, match="5 of the images are in the version already"):
        _grown(version, _part(goods, 0, 5), known_files={})


def test_an_added_picture_that_was_fitted_on_in_other_bytes_is_left_out(
    goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    champion = _fit(_part(goods, 0, 30), PatchCore, runtime)
    resaved = tuple(replace(image, sha256=f"other bytes of {image.sha256}") for image in goods.prepared[:3])
    again = replace(goods, prepared=resaved)
    grown = _grown(champion, replace(again, prepared=resaved + brighter.prepared), known_files={})
    assert grown.provenance["n_added"] == len(brighter.prepared)
    assert grown.reference_scores.size == 30 + len(brighter.prepared)
    with pytest.raises(DetectorError, match="3 of the images are in the version already"):
        _grown(grown, again, known_files={})


def test_a_version_that_did_not_keep_its_pictures_grows(version: DetectorVersion, brighter: GoodImages) -> None:
    older = {name: value for name, value in version.provenance.items() if name != "fit_pictures_sha256"}
    first = _grown(replace(version, provenance=older), _part(brighter, 0, 16), known_files={})
    assert first.provenance["n_added"] == 16
    assert first.provenance["fit_pictures_sha256"] == [image.picture_sha256 for image in brighter.prepared[:16]]


def test_a_bank_gains_as_many_patches_for_an_image_each_time_as_it_has(
    goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    version, n = _fit(_part(goods, 0, 30), PatchCore, runtime), 30
    for start in (0, 16):
        before = len(cast("PatchCore", version.model)._bank)
        version = _grown(version, _part(brighter, start, start + 16), known_files={})
        gained = len(cast("PatchCore", version.model)._bank) - before
        assert gained == pytest.approx(16 * before / n, abs=1)
        n += 16


def test_a_bank_does_not_grow_for_ever(
    goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchcore, "MAX_GROWTH", 0.5)
    champion = _fit(_part(goods, 0, 30), PatchCore, runtime)
    with pytest.raises(DetectorError, match="would take it beyond 1024") as caught:
        _grown(champion, brighter, known_files={})
    assert "fit the line again" in caught.value.hint


@pytest.mark.parametrize("family", [PatchCore, Padim])
def test_images_that_were_held_back_are_scored_as_what_they_are_and_stand_in_the_reference_once(
    family: type[Detector], goods: GoodImages, runtime: FeatureRuntime
) -> None:
    held_back = goods.prepared[25:30]
    champion = fit_version(
        _part(goods, 0, 25), family=family, runtime=runtime, fpr_budget=0.05, seed=0, held_back=held_back
    )
    added = replace(goods, prepared=goods.prepared[29:40])  # the last one held back among them
    grown = _grown(champion, added, known_files=_files(goods))
    names = [image.sha256 for image in goods.prepared]
    assert grown.provenance["reference_images_sha256"] == names
    assert grown.reference_scores.size == 40 == len(grown.reference_covariates["brightness"])
    if family is Padim:
        for place, image in enumerate(goods.prepared[25:29], start=25):
            assert grown.reference_scores[place] == pytest.approx(grown.model.score(image.canvas).score, rel=1e-4)


@pytest.mark.parametrize("family", [PatchCore, Padim])
def test_images_that_were_taken_for_defects_and_are_cleared_lower_the_threshold_no_longer(
    family: type[Detector], goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    learned, held_back = _part(goods, 0, 25), brighter.prepared[:10]
    doubt = Doubt(_fit(learned, family, runtime).reference_scores, n_defects=len(held_back))
    champion = fit_version(
        learned, family=family, runtime=runtime, fpr_budget=0.05, seed=0, held_back=held_back, doubt=doubt
    )
    assert champion.n_taken_for_defects == len(held_back)
    grown = _grown(champion, brighter, known_files=_files(goods))
    assert grown.threshold == conformal_threshold(grown.reference_scores, fpr_budget=0.05)


@pytest.mark.parametrize("family", [PatchCore, Padim])
def test_a_twin_grows_as_if_the_images_that_are_held_out_were_not_there(
    family: type[Detector], goods: GoodImages, brighter: GoodImages, runtime: FeatureRuntime
) -> None:
    champion = _fit(_part(goods, 0, 30), family, runtime)
    held_out = {image.sha256 for image in brighter.prepared[3:32:3]}
    others = replace(brighter, prepared=tuple(each for each in brighter.prepared if each.sha256 not in held_out))
    files = _files(goods)
    both = grow_versions(
        champion, brighter, held_out=[frozenset(), held_out], known_files=files, fpr_budget=0.05, seed=0
    )
    alone = [_grown(champion, each, known_files=files) for each in (brighter, others)]
    for found, expected in zip(both, alone, strict=True):
        np.testing.assert_array_equal(found.reference_scores, expected.reference_scores)
        assert found.threshold == expected.threshold
        assert found.provenance == expected.provenance
        for name, array in expected.model.arrays().items():
            np.testing.assert_array_equal(found.model.arrays()[name], array)
    assert len(both[0].reference_scores) - len(both[1].reference_scores) == len(held_out)
