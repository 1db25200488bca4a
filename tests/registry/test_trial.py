"""A trial on real small images: an honest challenger passes, one that was fitted on other parts does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.artifact import load_version, save_version
from detectors.fit import prepare
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.version import DetectorVersion
from halfsigma import DetectorError, TooFewImages
from registry.gates import Gate
from registry.trial import LATENCY_IMAGES, Trial, run_trial

NIGHT = date(2026, 11, 23)


def _run(
    champion: DetectorVersion,
    twin: DetectorVersion,
    probes: list[NDArray[np.uint8]],
    *,
    golden: bool = False,
    budget_ms: float = 5e3,
) -> dict[str, Gate]:
    defective = [cv2.rectangle(probe.copy(), (30, 30), (60, 60), 20, -1) for probe in probes[:5]]
    trial = Trial(champion, twin, twin, twin, probes, [(each, "dent") for each in defective] if golden else [])
    return {
        gate.name: gate for gate in run_trial(trial, night=NIGHT, fpr_budget=0.05, latency_budget_ms=budget_ms, seed=0)
    }


@pytest.fixture(scope="module")
def probes(camera: Callable[..., NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(77)
    return [camera(rng) for _ in range(30)]


def test_a_challenger_as_good_as_the_champion_passes_every_gate(
    version: DetectorVersion, probes: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    save_version(version, tmp_path / "version")
    trial = Trial(version, version, load_version(tmp_path / "version"), version, probes, [])
    found = run_trial(trial, night=NIGHT, fpr_budget=0.05, latency_budget_ms=5e3, seed=0)
    assert [gate.name for gate in found] == [
        "false_positives",
        "synthetic_auroc",
        "fresh_shift_sd",
        "latency_ms",
        "round_trip",
    ]
    assert all(gate.passed for gate in found), found


def test_a_challenger_of_another_part_fails_by_its_false_positives_and_its_shift(
    version: DetectorVersion,
    fit_tiny: Callable[..., DetectorVersion],
    probes: list[NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    for k, probe in enumerate(probes):
        cv2.imwrite(str(tmp_path / f"{k}.png"), cv2.flip(probe, -1))
    other = fit_tiny(prepare(list_images(tmp_path), framing=Framing(96), white_level=255))
    gates = _run(version, other, probes, golden=True)
    assert not gates["false_positives"].passed
    assert not gates["fresh_shift_sd"].passed
    assert gates["golden_recall"].passed  # what rejects everything misses nothing: that gate alone would let it through


def test_a_trial_is_repeated_by_its_seed(version: DetectorVersion, probes: list[NDArray[np.uint8]]) -> None:
    first, again = _run(version, version, probes[:15]), _run(version, version, probes[:15])
    timeless = set(first) - {"latency_ms"}
    assert {name: first[name] for name in timeless} == {name: again[name] for name in timeless}


def test_a_score_that_is_no_number_lets_nobody_through(
    version: DetectorVersion, probes: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN is above no threshold and loses no place: by comparisons alone it would pass every gate."""
    usual = type(version.model).score
    monkeypatch.setattr(type(version.model), "score", lambda self, canvas: replace(usual(self, canvas), score=np.nan))
    with pytest.raises(DetectorError, match="scores of champion and twin are not finite"):
        _run(version, version, probes)


@pytest.mark.parametrize(("n_slow_rounds", "passes"), [(1, True), (2, True), (3, False)])
def test_a_challenger_is_slow_only_if_it_is_slow_each_time(
    version: DetectorVersion,
    probes: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    n_slow_rounds: int,
    passes: bool,
) -> None:
    """Another program may begin while the times are taken. A clock that runs on by 1 ms an image, 10 for the challenger's."""
    now, asked = 0.0, 0

    def clock() -> float:
        nonlocal now, asked
        of_challenger, ends = asked // 2 % 2, asked % 2
        slow = of_challenger and asked < n_slow_rounds * 4 * LATENCY_IMAGES
        now += ends * (0.010 if slow else 0.001)
        asked += 1
        return now

    monkeypatch.setattr("registry.trial.time.perf_counter", clock)
    assert _run(version, version, probes, budget_ms=5.0)["latency_ms"].passed is passes


def test_of_fewer_probes_than_are_asked_for_nothing_is_said(
    version: DetectorVersion, probes: list[NDArray[np.uint8]]
) -> None:
    trial = Trial(version, version, version, version, probes[:2], [], least_probes=3)
    with pytest.raises(TooFewImages, match="2 of the fresh images can be read any more, expected at least 3"):
        run_trial(trial, night=NIGHT, fpr_budget=0.05, latency_budget_ms=5e3, seed=0)


def _tried(version: DetectorVersion, probes: list[NDArray[np.uint8]], **more: object) -> dict[str, Gate]:
    trial = replace(Trial(version, version, version, version, probes, []), **more)  # type: ignore[arg-type]
    found = run_trial(trial, night=NIGHT, fpr_budget=0.05, latency_budget_ms=5e3, seed=0)
    return {gate.name: gate for gate in found}


def test_labelled_defects_whose_files_are_gone_are_not_passed_over_in_silence(
    version: DetectorVersion, probes: list[NDArray[np.uint8]]
) -> None:
    dent = cv2.rectangle(probes[0].copy(), (30, 30), (60, 60), 20, -1)
    shown, gone = (dent, "dent"), (None, "dent")
    assert "labelled_defects" not in _tried(version, probes[:15], golden=[shown] * 4 + [gone])
    for golden, n in (([shown] * 3 + [gone] * 2, 3), ([gone] * 6, 0)):
        gate = _tried(version, probes[:15], golden=golden)["labelled_defects"]
        assert (gate.passed, gate.value) == (False, n)
        assert f"the files of {len(golden) - n} are gone" in gate.reason


def test_a_champion_that_rejects_everything_catches_no_defect_by_that(
    version: DetectorVersion, probes: list[NDArray[np.uint8]]
) -> None:
    drifted = replace(version, threshold=replace(version.threshold, value=0.0))
    golden = [(probe, "none that any of them can see") for probe in probes[:8]]
    gate = _tried(version, probes, champion=drifted, golden=golden)["golden_recall"]
    assert gate.passed
    assert "the champion catches 0" in gate.reason or "the champion catches 1" in gate.reason
