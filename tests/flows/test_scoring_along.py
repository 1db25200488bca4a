"""A challenger in shadow scores what the champion scores, under its own number, and never stops the station."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select

from detectors.artifact import save_version
from detectors.photographs.position import POSITION_NAMES
from detectors.version import DetectorVersion
from flows.ingest import Ingested, ingest
from flows.settings import Settings
from flows.workspace import Workspace
from registry import deployment, lines, promotion, retrains, scores
from registry.database import open_database
from registry.tables import COVARIATES, Score
from tests.registry.fake_store import FakeStore

NIGHT = date(2026, 11, 24)
N_IMAGES = 4


@pytest.fixture
def workspace(tmp_path: Path, version: DetectorVersion) -> Iterator[Workspace]:
    save_version(version, tmp_path / "version")
    store = FakeStore(tmp_path / "version")
    settings = Settings(tmp_path, f"sqlite:///{tmp_path / 'halfsigma.db'}", "memory")
    with open_database(settings.database_url) as database, database.session() as session:
        line = lines.create_line(session, "pad", detector="patchcore")
        for number in (1, 2):
            store.add(number)
            deployment.mirror_version(session, line, number, store.folder, store.tags("pad", number))
        promotion.deploy_first(session, line, store, 1)  # type: ignore[arg-type]
        session.commit()
        yield Workspace(settings, database, store)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, write_night: Callable[..., Path]) -> Path:
    return write_night(tmp_path / "night", N_IMAGES, seed=5)


def _enter_shadow(workspace: Workspace) -> None:
    with workspace.database.session() as session:
        line = lines.get_line(session, "pad")
        row = retrains.request(session, line, night=date(2026, 11, 23), base_version=1, reason="drift")
        states = ("requested", "curated", "fitted", "gated", "registered", "shadow")
        for start, to in itertools.pairwise(states):
            retrains.advance(session, row.id, start=start, to=to, new_version=2)
        promotion.offer(session, line, workspace.store, 2, kind="challenger_in_shadow")


def _scores(workspace: Workspace, number: int) -> list[Score]:
    with workspace.database.session() as session:
        return list(session.scalars(select(Score).where(Score.version == number).order_by(Score.name)))


def _ingest(workspace: Workspace, folder: Path) -> Ingested:
    return ingest(workspace, "pad", folder, night=NIGHT)


def test_without_a_challenger_in_shadow_only_the_champion_scores(workspace: Workspace, folder: Path) -> None:
    assert _ingest(workspace, folder).shadow is None
    assert (len(_scores(workspace, 1)), len(_scores(workspace, 2))) == (N_IMAGES, 0)


def test_both_score_every_image_and_only_the_champion_counts(workspace: Workspace, folder: Path) -> None:
    _enter_shadow(workspace)
    first, again = _ingest(workspace, folder), _ingest(workspace, folder)
    assert (first.version, first.shadow, first.n_new, again.n_new) == (1, 2, N_IMAGES, 0)
    champion, challenger = _scores(workspace, 1), _scores(workspace, 2)
    assert [row.shadow for row in champion + challenger] == [False] * N_IMAGES + [True] * N_IMAGES
    for own, along in zip(champion, challenger, strict=True):
        assert (own.sha256, own.name, own.captured_at) == (along.sha256, along.name, along.captured_at)
        assert along.score == own.score  # the same files under two numbers
        for name in COVARIATES:
            expected = None if name in POSITION_NAMES else getattr(own, name)
            assert getattr(along, name) == expected


def test_a_night_that_the_champion_had_begun_alone_is_scored_along_when_it_is_ingested_again(
    workspace: Workspace, folder: Path
) -> None:
    _ingest(workspace, folder)
    _enter_shadow(workspace)
    assert _ingest(workspace, folder).n_new == 0
    assert [row.captured_at for row in _scores(workspace, 2)] == [row.captured_at for row in _scores(workspace, 1)]


def test_a_challenger_that_cannot_be_loaded_does_not_stop_the_station(workspace: Workspace, folder: Path) -> None:
    _enter_shadow(workspace)
    workspace.store.damaged.add(2)  # type: ignore[attr-defined]
    done = _ingest(workspace, folder)
    assert (done.n_new, done.shadow) == (N_IMAGES, None)


def test_images_whose_names_no_database_can_hold_are_kept_and_learned_from_by_their_copies(
    workspace: Workspace, folder: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder / "gr") + b"\xfcn.png"))
    (folder / "part0.png").rename(odd)
    assert _ingest(workspace, folder).n_scored == N_IMAGES
    with workspace.database.session() as session:
        seen = scores.night_images(session, lines.get_line(session, "pad"), 1, NIGHT)
    (kept,) = [each for each in seen if each.kept_path is not None]
    assert Path(str(kept.kept_path)).read_bytes() == odd.read_bytes()
