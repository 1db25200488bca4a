"""A folder that is ingested again: after it moved, after the champion changed, while the day's images still come in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from flows import nightly
from flows.check import check_line
from flows.ingest import Ingested, ingest
from flows.workspace import Workspace
from registry import images, lines, scores
from registry.scores import ScoreRow
from tests.flows.simulated_plant import FIRST, LINE, N_NIGHT, Plant, simulated_plant

NIGHT = FIRST + timedelta(3)
LAMP, LEARNED_BY_HEART = 4.0, -1.5
"""How far the night's images lie from what version 1 expects, and version 2, which was fitted on them, in SD."""


@dataclass
class Scorer:
    """A version that scores whatever it sees about so high."""

    mean: float
    rng: np.random.Generator

    def score(self, pixels: object) -> SimpleNamespace:
        score = float(self.rng.normal(10.0 + self.mean, 1.0))
        return SimpleNamespace(score=score, rejected=score > 12.5, covariates={})


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A line whose lamp has aged after some quiet nights."""
    scorers = {1: Scorer(LAMP, np.random.default_rng(1)), 2: Scorer(LEARNED_BY_HEART, np.random.default_rng(2))}
    monkeypatch.setattr(Workspace, "load", lambda self, line, number: scorers[number])
    for module in ("following", "deployment"):
        monkeypatch.setattr(f"registry.{module}.unusable", lambda *_, **__: None)
    with simulated_plant(tmp_path, monkeypatch) as made:
        for day in range(3):
            made.live(FIRST + timedelta(day))
        made.light = LAMP
        yield made


def _photograph(folder: Path, n: int, *, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + n):
        pixels = np.random.default_rng(k).integers(0, 255, (24, 24), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{k}.png"), pixels)
    return folder


def _ingest(plant: Plant, folder: Path) -> Ingested:
    return ingest(plant.workspace, LINE, folder, night=NIGHT)


def _run_night(plant: Plant) -> nightly.LineNight:
    return nightly._respond(plant.workspace, check_line(plant.workspace, LINE, night=NIGHT))


def test_images_of_a_folder_that_moved_are_known_by_where_they_lie_now(plant: Plant, tmp_path: Path) -> None:
    _ingest(plant, _photograph(tmp_path / "usb" / "night", 5))
    archived = Path(shutil.move(tmp_path / "usb" / "night", tmp_path / "archived"))
    moved = _ingest(plant, archived)
    assert (moved.n_scored, moved.n_new) == (5, 0)
    with plant.workspace.database.session() as session:
        seen = scores.night_images(session, lines.get_line(session, LINE), 1, NIGHT)
    assert {str(each.path) for each in seen} == {str(path) for path in archived.iterdir()}


def test_a_night_that_was_learned_is_not_judged_by_the_version_that_learned_it(plant: Plant, tmp_path: Path) -> None:
    folder = _photograph(tmp_path / "night", N_NIGHT - 1)
    (folder / "0.png").rename(Path(os.fsdecode(os.fsencode(folder / "gr") + b"\xfcn.png")))
    judged = _ingest(plant, folder)
    first = _run_night(plant)
    assert (judged.version, judged.n_new, first.champion, first.action) == (1, N_NIGHT - 1, 2, "retrain")
    told = plant.told()

    again = _ingest(plant, folder)
    assert (again.version, again.n_scored, again.n_new) == (2, N_NIGHT - 1, N_NIGHT - 1)
    assert _ingest(plant, folder).n_new == 0
    second = _run_night(plant)
    assert (second.checked, second.action, second.champion) == (first.checked, "retrain", 2)
    assert plant.told() == told


def test_an_image_that_was_only_scored_along_is_still_to_be_judged(plant: Plant, tmp_path: Path) -> None:
    folder = _photograph(tmp_path / "night", 1)
    number = plant.add(LAMP, base=1)
    with plant.workspace.database.session() as session:
        row = ScoreRow(
            sha256=images.file_sha256(folder / "0.png"),
            name="0.png",
            captured_at=lines.night_start(NIGHT, "UTC"),
            night=NIGHT,
            score=9.0,
            shadow=True,
        )
        scores.log_scores(session, lines.get_line(session, LINE), number, [row])
    assert _ingest(plant, folder).n_new == 1
