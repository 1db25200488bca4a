"""CONTRIBUTING.md's promise: a family is one file and one line in the registry, and all that halfsigma does follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detectors.artifact import load_version, read_manifest, save_version
from detectors.backbones.module_arrays import load_arrays
from detectors.backbones.runtime import FeatureRuntime, Head
from detectors.backbones.tracing import PATCHES
from detectors.families.names import FAMILIES, family_named
from detectors.fit import GoodImages, fit_version, scores_of_fitted
from detectors.version import DetectorVersion
from halfsigma import ArtifactError, DetectorError, TooFewImages
from tests.detectors.families.toy_family import Bottleneck, ToyFamily


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    FAMILIES["toy"] = ToyFamily
    yield
    del FAMILIES["toy"]


@pytest.fixture(scope="module")
def toy(registered: None, goods: GoodImages, runtime: FeatureRuntime) -> DetectorVersion:
    return fit_version(goods, family=family_named("toy"), runtime=runtime, fpr_budget=0.05, seed=0)


@pytest.fixture
def saved(toy: DetectorVersion, tmp_path: Path) -> Path:
    save_version(toy, tmp_path / "version")
    return tmp_path / "version"


def _photograph() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (96, 112), dtype=np.uint8)


def test_it_is_fitted_saved_loaded_and_scores_bit_for_bit_alike(
    toy: DetectorVersion, saved: Path, camera: Callable[..., NDArray[np.uint8]]
) -> None:
    loaded = load_version(saved)
    for pixels in (camera(np.random.default_rng(1)), _photograph(), np.zeros((200, 50), np.uint8)):
        found, expected = loaded.score(pixels), toy.score(pixels)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


def test_it_tells_defects_from_goods(toy: DetectorVersion, camera: Callable[..., NDArray[np.uint8]]) -> None:
    rng = np.random.default_rng(7)
    good = [toy.score(camera(rng)).score for _ in range(10)]
    assert min(toy.score(camera(rng, defect=True)).score for _ in range(10)) > max(good)


def test_its_reference_is_of_images_that_it_did_not_learn_from(toy: DetectorVersion, goods: GoodImages) -> None:
    assert toy.reference_scores.size == 20 < len(goods.prepared)
    assert all(values.size == 20 for values in toy.reference_covariates.values())


def test_every_image_that_it_was_fitted_on_gets_a_score_in_its_place(toy: DetectorVersion, goods: GoodImages) -> None:
    """A retrain looks a second time at all of them, though only half stand in the reference."""
    scores = scores_of_fitted(toy, goods)
    held_out = set(toy.provenance["reference_images_sha256"])
    assert len(held_out) == 20
    for image, score in zip(goods.prepared, scores, strict=True):
        assert score == toy.model.score(image.canvas).score
    assert sorted(scores[[image.sha256 in held_out for image in goods.prepared]]) == sorted(toy.reference_scores)


def test_its_network_is_a_file_of_the_version_and_guarded_like_the_others(saved: Path) -> None:
    assert {"head.xml", "head.bin"} <= set(read_manifest(saved)["files"])
    data = bytearray((saved / "head.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (saved / "head.bin").write_bytes(data)
    with pytest.raises(ArtifactError, match="head.bin has SHA-256"):
        load_version(saved)


def test_the_openvino_network_gives_what_torch_gives(toy: DetectorVersion, goods: GoodImages) -> None:
    """To a ten-thousandth of the map's largest value: float32 sums in another order."""
    module = Bottleneck(toy.runtime.features(goods.prepared[0].canvas).shape[-1])
    load_arrays(module, toy.model.arrays())
    module.eval()
    for image in goods.prepared[:5]:
        patches = torch.from_numpy(toy.runtime.features(image.canvas))[None]
        with torch.inference_mode():
            expected = module(patches)[0].numpy()
        found = toy.model.score(image.canvas).anomaly_map
        assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_the_torch_runtime_runs_and_restores_it_as_well(
    registered: None, goods: GoodImages, torch_runtime: FeatureRuntime, toy: DetectorVersion, tmp_path: Path
) -> None:
    version = fit_version(goods, family=ToyFamily, runtime=torch_runtime, fpr_budget=0.05, seed=0)
    save_version(version, tmp_path / "version")
    assert not (tmp_path / "version" / "head.xml").exists()
    loaded = load_version(tmp_path / "version")
    assert loaded.score(_photograph()).score == version.score(_photograph()).score


def test_the_same_seed_trains_the_same_network_bit_for_bit(
    toy: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime
) -> None:
    again = fit_version(goods, family=ToyFamily, runtime=runtime, fpr_budget=0.05, seed=0)
    for name, array in again.model.arrays().items():
        np.testing.assert_array_equal(array, toy.model.arrays()[name])
    np.testing.assert_array_equal(again.reference_scores, toy.reference_scores)


def test_a_retrain_goes_on_from_the_champion_unless_it_has_seen_the_images(
    toy: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    fit = ToyFamily.fit
    monkeypatch.setattr(
        ToyFamily, "fit", lambda canvases, *, runtime, context: (given.append(context), fit(canvases, runtime=runtime, context=context))[1]
    )  # fmt: skip
    fresh = replace(goods, prepared=tuple(replace(each, sha256=each.sha256[::-1]) for each in goods.prepared))
    mixed = replace(goods, prepared=goods.prepared[:15] + fresh.prepared[15:])
    for images in (fresh, mixed, goods):
        version = fit_version(images, family=ToyFamily, runtime=runtime, fpr_budget=0.05, seed=0, warm_start=toy)
        assert version.reference_scores.size == 20
    assert [context.warm_start is toy.model for context in given] == [True, True, False]
    assert given[0].seen.sum() == 0
    assert given[1].seen.tolist() == [True] * 15 + [False] * 25


def test_a_champion_of_another_family_is_no_warm_start(
    version: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime, toy: DetectorVersion
) -> None:
    fresh = replace(goods, prepared=tuple(replace(each, sha256=each.sha256[::-1]) for each in goods.prepared))
    found = fit_version(fresh, family=ToyFamily, runtime=runtime, fpr_budget=0.05, seed=0, warm_start=version)
    for name, array in found.model.arrays().items():
        np.testing.assert_array_equal(array, toy.model.arrays()[name])


def test_too_few_images_for_a_trained_family_say_so(goods: GoodImages, runtime: FeatureRuntime) -> None:
    few = replace(goods, prepared=goods.prepared[:25])
    with pytest.raises(TooFewImages, match="25 images"):
        fit_version(few, family=ToyFamily, runtime=runtime, fpr_budget=0.05, seed=0)


def test_a_head_that_asks_for_a_map_which_the_backbone_has_not_is_told_which_there_are(
    runtime: FeatureRuntime, torch_runtime: FeatureRuntime
) -> None:
    for each in (runtime, torch_runtime):
        with pytest.raises(DetectorError, match="no map 'stride64'; it gives patches, stride4, stride8, stride16"):
            Head.of(Bottleneck(304), inputs=(PATCHES, "stride64"), runtime=each)
            each.maps(np.zeros((64, 64, 3), np.uint8), ["stride64"])
