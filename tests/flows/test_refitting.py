"""What the fit of a challenger leaves out of what was curated, and that a kill changes nothing in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import detectors.calibration
from detectors.artifact import load_version
from detectors.calibration import Doubt, Threshold
from detectors.fit import fit_version
from detectors.version import DetectorVersion
from flows import retrain_files
from flows.challenger import fail_retrain, request_retrain, run_step
from flows.curating import cleared_document
from flows.workspace import Workspace
from registry.tables import Retrain
from tests.flows.curated_retrain import LINE, curated, line_with, see

NIGHT = date(2026, 11, 23)
N_GOODS, N_DEFECTS = 60, 6
N_LOOKED_AT = 3
"""A twentieth of them all: what a second look leaves out at most."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.calibration, "MIN_FOLDS", 2)
    monkeypatch.setattr(detectors.calibration, "MAX_FOLDS", 2)
    monkeypatch.setattr("flows.refitting.with_responses", lambda version, *_, **__: version)


@pytest.fixture
def workspace(tmp_path: Path, version: DetectorVersion) -> Iterator[Workspace]:
    with line_with(version, tmp_path) as made:
        yield made


def _night(workspace: Workspace, folder: Path, write_night: Callable[..., Path]) -> tuple[set[str], dict[str, Any]]:
    """Its defects, which nobody noticed, and what the curation wrote down."""
    goods = see(workspace, write_night(folder / "goods", N_GOODS, seed=11))
    defects = see(workspace, write_night(folder / "defects", N_DEFECTS, seed=12, defect=True))
    chosen = {sha256: str(path) for sha256, path in {**goods, **defects}.items()}
    return set(defects), {**cleared_document(chosen), "n_defects": N_DEFECTS, "n_perhaps_good": 1}


def _left_out(workspace: Workspace, retrain: Retrain) -> set[str]:
    folder = retrain_files.folder_of(workspace, retrain)
    return set(json.loads(retrain_files.latest_curation(folder).read_text())["left_out"])


def test_a_fit_that_was_killed_after_its_second_look_comes_to_the_same(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    defects, document = _night(workspace, tmp_path, write_night)
    doubts: list[Doubt] = []

    def fit_and_tell(*given: Any, doubt: Doubt, **options: Any) -> DetectorVersion:
        doubts.append(doubt)
        return fit_version(*given, doubt=doubt, **options)

    def fit_two_and_die(*given: Any, **options: Any) -> DetectorVersion:
        if len(doubts) == 2:
            raise KeyboardInterrupt
        return fit_and_tell(*given, **options)

    monkeypatch.setattr("flows.refitting.fit_version", fit_two_and_die)
    killed = curated(workspace, NIGHT, document)
    with pytest.raises(KeyboardInterrupt):
        run_step(workspace, killed.id)
    doubts.clear()
    monkeypatch.setattr("flows.refitting.fit_version", fit_and_tell)
    assert run_step(workspace, killed.id).state == "fitted"
    after_the_kill = [(doubt.n_defects, doubt.n_above) for doubt in doubts]
    doubts.clear()
    whole = curated(workspace, NIGHT + timedelta(1), document)
    fitted = run_step(workspace, whole.id)
    assert after_the_kill == [(doubt.n_defects, doubt.n_above) for doubt in doubts]
    assert len(doubts) == 3, "the challenger twice, and the twin"
    assert _left_out(workspace, killed) == _left_out(workspace, whole)
    assert len(_left_out(workspace, whole) & defects) == N_LOOKED_AT
    assert fitted.document["curation"]["n_chosen"] == N_GOODS + N_DEFECTS - N_LOOKED_AT
    for name in ("challenger", "twin"):
        one, other = (load_version(retrain_files.folder_of(workspace, row) / name) for row in (killed, whole))
        assert one.threshold == other.threshold
        assert one.reference_scores.tolist() == other.reference_scores.tolist()


def test_a_night_that_is_asked_for_again_is_not_what_an_earlier_fit_left_of_it(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, document = _night(workspace, tmp_path, write_night)
    night = SimpleNamespace(to_json=lambda: document, curation=SimpleNamespace(waits=""))
    monkeypatch.setattr("flows.challenger.curate_night", lambda *_, **__: night)

    def ask() -> Retrain:
        return request_retrain(workspace, LINE, night=NIGHT, base_version=1, reason="drift")

    row = ask()
    assert [run_step(workspace, row.id).state for _ in range(2)] == ["curated", "fitted"]
    assert len(_left_out(workspace, row)) == N_LOOKED_AT
    fail_retrain(workspace, row.id, start="fitted", reason="the disk is full")
    assert ask().id == row.id
    assert run_step(workspace, row.id).state == "curated"
    assert _left_out(workspace, row) == set()


def test_a_second_look_is_not_led_astray_by_defects_that_stand_in_the_champions_reference(
    tmp_path: Path, version: DetectorVersion, write_night: Callable[..., Path]
) -> None:
    """As after a first retrain that held suspects back: they lie above its threshold, and were never taken for good."""
    *goods, highest = np.sort(version.reference_scores)[:-4]
    suspects = np.mean(goods) + np.linspace(40.0, 60.0, 4) * np.std(goods)
    champion = replace(
        version,
        reference_scores=np.array([*goods, highest, *suspects]),
        threshold=Threshold(float(goods[-1]), 0.05),  # so low that the budget explains no more than the highest
    )
    assert champion.good_scores.tolist() == [*goods, highest]
    with line_with(champion, tmp_path) as workspace:
        defects, document = _night(workspace, tmp_path, write_night)
        row = curated(workspace, NIGHT, document)
        assert run_step(workspace, row.id).state == "fitted"
        assert _left_out(workspace, row) <= defects
        assert len(_left_out(workspace, row)) == N_LOOKED_AT
