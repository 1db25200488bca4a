"""RD4AD, FastFlow and DRAEM behind the protocol: repeatable, saved bit for bit, the same in torch and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.artifact import load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.families import draem
from detectors.families.draem import Draem
from detectors.families.fastflow import FastFlow
from detectors.families.rd4ad import Rd4ad
from detectors.fit import GoodImages, fit_version
from detectors.protocol import FitContext
from detectors.version import DetectorVersion

assert Rd4ad.warm_from_far is not None
FROM_FAR = Rd4ad.warm_from_far
FAMILIES = (Rd4ad, FastFlow, Draem)
TOLERANCE = 1e-3
"""Of a score, in standard deviations of the reference, between OpenVINO and torch; float32 itself is good to 1e-6."""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a few steps: what is tested here does not depend on how good they are."""
    for family in (Rd4ad, FastFlow):
        monkeypatch.setattr(family, "from_scratch", replace(family.from_scratch, steps=6, validate_every=3))
        monkeypatch.setattr(family, "warm", replace(family.warm, steps=3, validate_every=3))
    monkeypatch.setattr(Rd4ad, "warm_from_far", replace(FROM_FAR, steps=3, validate_every=3))
    monkeypatch.setattr(draem, "FROM_SCRATCH", replace(draem.FROM_SCRATCH, steps=6, validate_every=3))
    monkeypatch.setattr(draem, "WARM", replace(draem.WARM, steps=3, validate_every=3))
    monkeypatch.setattr(draem, "BATCH", 4)
    monkeypatch.setattr(draem, "SPOILT", 12)


@pytest.fixture(scope="module")
def fit(goods: GoodImages, runtime: FeatureRuntime) -> Callable[..., DetectorVersion]:
    def fitted(family: Any, **options: Any) -> DetectorVersion:
        return fit_version(goods, family=family, runtime=runtime, fpr_budget=0.05, **{"seed": 0, **options})

    return fitted


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_a_version_is_repeatable_and_scores_alike_bit_for_bit_after_it_was_saved(
    family: Any, fit: Callable[..., DetectorVersion], canvases: Sequence[NDArray[np.uint8]], tmp_path: Path
) -> None:
    told: list[str] = []
    version = fit(family, checkpoint=tmp_path / "checkpoints", progress=lambda what, done, total: told.append(what))
    assert "training" in told
    save_version(version, tmp_path / "version")
    loaded = load_version(tmp_path / "version")
    assert loaded.model.settings_record() == version.model.settings_record()
    for canvas in [*canvases[:3], np.ascontiguousarray(canvases[0][:, :64])]:
        expected, found = version.model.score(canvas), loaded.model.score(canvas)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    # the same again: the checkpoint of the finished training is taken up, so nothing is trained
    told.clear()
    again = fit(family, checkpoint=tmp_path / "checkpoints", progress=lambda what, done, total: told.append(what))
    assert "training" not in told
    np.testing.assert_array_equal(again.reference_scores, version.reference_scores)
    other = fit(family)
    np.testing.assert_array_equal(other.reference_scores, version.reference_scores)
    assert not np.array_equal(fit(family, seed=1).reference_scores, version.reference_scores)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_openvino_and_torch_give_the_same_scores(
    family: Any,
    fit: Callable[..., DetectorVersion],
    torch_runtime: FeatureRuntime,
    canvases: Sequence[NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    version = fit(family)
    same = family.restore(
        arrays=version.model.arrays(),
        settings=version.model.settings_record(),
        runtime=torch_runtime,
        folder=tmp_path,
    )
    sd = float(version.reference_scores.std())
    for canvas in [*canvases[:5], np.ascontiguousarray(canvases[0][:64])]:
        expected, found = same.score(canvas), version.model.score(canvas)
        assert found.score == pytest.approx(expected.score, rel=1e-6, abs=TOLERANCE * sd)
        assert found.anomaly_map.shape == expected.anomaly_map.shape


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_a_warm_start_begins_where_the_champion_ended_and_keeps_what_it_saw_out_of_the_reference(
    family: Any, runtime: FeatureRuntime, canvases: Sequence[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = family.fit(canvases[:32], runtime=runtime, context=FitContext()).model
    if family is Draem:
        monkeypatch.setattr(draem, "WARM", replace(draem.WARM, learning_rate=0.0))
    else:
        monkeypatch.setattr(family, "warm", replace(family.warm, learning_rate=0.0, weight_decay=0.0))
        if family.warm_from_far is not None:
            monkeypatch.setattr(family, "warm_from_far", replace(family.warm_from_far, learning_rate=0.0))
    seen = np.zeros(len(canvases), bool)
    seen[:10] = True
    context = FitContext(seed=3, warm_start=champion, seen=seen)
    warm = family.fit(canvases, runtime=runtime, context=context)
    # nothing is learned at a rate of 0: batch norm's running means aside, which move in training
    learned = {name for name in champion.arrays() if "running" not in name and not name.startswith("standardise")}
    for name in set(champion.arrays()) - learned - {each for each in champion.arrays() if "running" in each}:
        follows = family is Draem and not name.endswith("covariance")
        assert np.array_equal(warm.model.arrays()[name], champion.arrays()[name]) is not follows, name
    for name in learned:
        np.testing.assert_array_equal(warm.model.arrays()[name], champion.arrays()[name], err_msg=name)
    assert not seen[warm.reference_index].any()
    expected = [warm.model.score(canvases[i]).score for i in warm.reference_index]
    np.testing.assert_array_equal(warm.reference_scores, expected)


def test_a_champion_that_no_longer_knows_its_images_is_trained_for_longer(
    runtime: FeatureRuntime, canvases: Sequence[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rd4ad, "warm_from_far", replace(FROM_FAR, steps=5))
    champion = Rd4ad.fit(canvases[:32], runtime=runtime, context=FitContext()).model
    known = champion.settings_record()["held_out_loss"]
    assert isinstance(known, float)

    def steps(at_start: float) -> int:
        """Of a warm start on images that lose so much."""
        monkeypatch.setattr("detectors.learning.learned_maps.held_out_loss", lambda *_: at_start)
        told = []
        progress = lambda what, done, total: told.append(total) if what == "training" else None  # noqa: E731
        context = FitContext(warm_start=champion, progress=progress, seen=np.zeros(len(canvases), bool))
        Rd4ad.fit(canvases, runtime=runtime, context=context)
        return told[0]

    assert steps(known + 0.05 * abs(known)) == 3
    assert steps(known + 0.2 * abs(known)) == 5
    champion._settings = replace(champion._settings, held_out_loss=None)  # a version that did not keep it
    assert steps(known + 0.2 * abs(known)) == 3


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_a_champion_whose_network_was_another_is_retrained_from_scratch(
    family: Any, runtime: FeatureRuntime, canvases: Sequence[NDArray[np.uint8]]
) -> None:
    champion = family.fit(canvases[:32], runtime=runtime, context=FitContext()).model
    champion._arrays["standardise.sd"] = np.ones(3, np.float32)  # as an earlier version kept it
    expected = family.fit(canvases, runtime=runtime, context=FitContext(seed=3))
    found = family.fit(canvases, runtime=runtime, context=FitContext(seed=3, warm_start=champion))
    np.testing.assert_array_equal(found.reference_scores, expected.reference_scores)
