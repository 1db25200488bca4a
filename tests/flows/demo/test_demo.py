"""The demo: it touches nothing but its own, tells what came and not what was hoped, and comes as planned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.demo import run_demo
from flows.demo.home import FOREIGN_SETTINGS, MARKER, demo_home, fresh_folder
from flows.demo.part import STORY, DemoNight
from flows.demo.record import Seen, Told, ToldNight, ToldVersion
from flows.demo.story import PLANNED, commands, gate_rows, night_rows, surprises, tell
from flows.pages import render_story
from halfsigma import ImageError, UsageError

FIRST = date(2026, 11, 16)
N_IMAGES = 40
GATE = {"name": "golden_recall", "passed": True, "value": 1.0, "limit": 0.95, "reason": "17 of 17"}


def _document(verdict: str, *, version: int = 1, retrain: Mapping[str, Any] | None = None) -> dict[str, Any]:
    action = "retrain" if retrain else {"stable": "none"}.get(verdict, "alert")
    check = {
        "version": version,
        "verdict": verdict,
        "bulk_shift_sd": 0.1,
        "bulk_shift_ci": [-0.1, 0.3],
        "causes": [{"name": "brightness", "shift_sd": -6.0, "share": None, "phrase": "the picture is 16 % darker"}],
        "explanation": f"The check said {verdict}.",
    }
    return {"check": check, "action": action, "retrain": retrain, "champion": version}


def _retrain(state: str) -> dict[str, Any]:
    return {
        "id": 1,
        "state": state,
        "reason": "gates not passed: golden_recall" if state == "rejected" else "",
        "base_version": 1,
        "new_version": 2,
        "gates": [{**GATE, "passed": state == "promoted"}],
        "curation": {"n_candidates": N_IMAGES, "n_chosen": 38, "left_out": {"suspect": 2}},
    }


def _night(index: int, document: Mapping[str, Any]) -> ToldNight:
    is_defect = np.arange(N_IMAGES) < 4
    version = document["check"]["version"]
    scores = np.where(is_defect, 9.0, np.linspace(1, 2, N_IMAGES))
    told = DemoNight(FIRST + timedelta(days=index), STORY[index].title, Path(), (), {}, {}, "nothing changed")
    return ToldNight(told, document, Seen(version, scores, scores > 3), is_defect)


def _told(*documents: Mapping[str, Any]) -> Told:
    reference = np.linspace(1, 2, 50)
    versions = {
        1: ToldVersion(1, ("previous",), "fit", 3.0, reference),
        2: ToldVersion(2, ("champion",), "retrain", 3.0, reference),
    }
    nights = tuple(_night(index, document) for index, document in enumerate(documents))
    return Told("brake-pad", "a rendered part", False, 0, 220, nights, versions)


@pytest.fixture
def as_planned() -> Told:
    told = _told(
        _document("stable"),
        _document("stable"),
        _document("defect_burst"),
        _document("drift", retrain=_retrain("promoted")),
        _document("stable", version=2),
    )
    last = replace(told.nights[4], unreplaced=Seen(1, np.full(N_IMAGES, 9.0), np.ones(N_IMAGES, bool)))
    return replace(told, nights=(*told.nights[:4], last))


def _with(told: Told, index: int, document: Mapping[str, Any]) -> Told:
    return replace(told, nights=tuple(_night(k, document) if k == index else n for k, n in enumerate(told.nights)))


def _page(told: Told, folder: Path) -> str:
    return render_story(tell(told, home=folder / "home"), folder / "story.html").read_text(encoding="utf-8")


def test_a_story_that_comes_as_planned_has_no_surprises(as_planned: Told, tmp_path: Path) -> None:
    assert surprises(as_planned) == ()
    page = _page(as_planned, tmp_path)
    assert "the detector followed" in page and "Not all came" not in page
    assert "Had v1 stayed champion, it would have rejected 36 of 36 good parts" in page
    assert [row.verdict for row in night_rows(as_planned)] == list(PLANNED)
    assert [row.action for row in night_rows(as_planned)] == [
        "none", "none", "alert", "retrained, v2 promoted", "none",
    ]  # fmt: skip


def test_a_burst_that_is_not_seen_is_not_told_as_seen(as_planned: Told, tmp_path: Path) -> None:
    told = _with(as_planned, 2, _document("stable"))
    assert surprises(told) == (
        "the night of 2026-11-18 (a burst of defects) was planned to be defect burst and was judged stable",
    )
    page = _page(told, tmp_path)
    assert "Not all came as the story has it" in page and "the detector followed" not in page
    assert "An alert went to the outbox" not in page and "an alert queued" not in page


def test_a_retrain_in_the_burst_is_a_surprise_of_its_own(as_planned: Told) -> None:
    told = _with(as_planned, 2, _document("drift", retrain=_retrain("promoted")))
    assert len(surprises(told)) == 2
    assert surprises(told)[1].endswith("ended promoted; none was planned")


def test_a_challenger_that_fails_its_gates_is_told_with_the_gate(as_planned: Told, tmp_path: Path) -> None:
    told = _with(as_planned, 3, _document("drift", retrain=_retrain("rejected")))
    assert any("ended rejected" in sentence for sentence in surprises(told))
    page = _page(told, tmp_path)
    assert "It was not promoted (gates not passed: golden_recall)" in page and "v1 stays champion" in page
    assert [row.passed for row in gate_rows(told.nights[3])] == [False]


def test_rates_are_of_good_and_of_defective_parts_apart(as_planned: Told) -> None:
    assert as_planned.nights[0].fpr == 0.0 and as_planned.nights[0].recall == 1.0
    no_defects = replace(as_planned.nights[0], is_defect=np.zeros(N_IMAGES, bool))
    assert no_defects.recall is None and no_defects.fpr == pytest.approx(0.1)


def test_a_rollback_is_offered_only_when_there_is_something_to_restore(as_planned: Told, tmp_path: Path) -> None:
    offered = [command.line for command in commands(as_planned, home=tmp_path)]
    assert any(f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db" in line for line in offered)
    assert any("rollback brake-pad" in line for line in offered)
    alone = replace(as_planned, versions={1: replace(as_planned.versions[1], aliases=("champion",))})
    assert not any("rollback brake-pad" in command.line for command in commands(alone, home=tmp_path))


def test_a_folder_that_no_demo_made_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    treasure = tmp_path / "home" / "halfsigma.db"
    treasure.write_text("years of scores")
    with pytest.raises(UsageError, match="not made by the demo"):
        run_demo(tmp_path)
    assert treasure.read_text() == "years of scores"


def test_what_an_earlier_demo_left_is_cleared(tmp_path: Path) -> None:
    folder = fresh_folder(tmp_path / "home")
    (folder / "old").mkdir()
    assert [path.name for path in fresh_folder(folder).iterdir()] == [MARKER]


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / MARKER).touch()
    (tmp_path / "home").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        fresh_folder(tmp_path / "home")


def test_the_users_databases_and_servers_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN_SETTINGS:
        monkeypatch.setenv(name, "https://production.example")
    monkeypatch.setenv("HALFSIGMA_HOME", str(tmp_path / "real"))
    before = dict(os.environ)
    with demo_home(tmp_path / "out") as settings:
        assert settings.home == tmp_path / "out" / "home"
        assert "production" not in settings.database_url + settings.tracking_uri and settings.webhook_url is None
        assert not any(name in os.environ for name in FOREIGN_SETTINGS)
    assert dict(os.environ) == before


def test_own_images_that_are_no_folder_are_refused_before_anything_is_cleared(tmp_path: Path) -> None:
    kept = fresh_folder(tmp_path / "home") / "page"
    kept.touch()
    with pytest.raises(ImageError):
        run_demo(tmp_path, images=tmp_path / "nowhere")
    assert kept.exists()


@pytest.mark.acceptance
def test_the_whole_demo_comes_as_planned(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--out", str(tmp_path / "out"), "--json"],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    nights = document["nights"]
    assert [night["verdict"] for night in nights] == list(PLANNED), done.stderr
    assert [night["retrain"] for night in nights] == [None, None, None, "promoted", None]
    assert [night["version"] for night in nights] == [1, 1, 1, 1, 2]
    assert document["surprises"] == []
    assert nights[2]["recall"] > 0.5 and nights[3]["fpr"] > 0.5 and nights[4]["fpr"] <= 0.03
    assert {alias: v["version"] for v in document["versions"] for alias in v["aliases"]} == {
        "champion": 2,
        "previous": 1,
    }
    assert "left)" in done.stderr, "each step says how long the rest takes"
    page = Path(document["page"]).read_text(encoding="utf-8")
    assert "the detector followed" in page and page.count("<svg") >= 7
