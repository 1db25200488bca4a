"""MLflow's aliases are the truth: people's moves are followed, told once, and undone where they would stop a station."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from detectors.artifact import MANIFEST, save_version
from detectors.version import DetectorVersion
from halfsigma import ArtifactError, RegistryError, StoreError, UnknownVersion
from registry import audit, deployment, lines, outbox, retrains
from registry.deployment import FOREIGN, Deployment
from registry.store import TAG_BASE, TAG_ORIGIN
from registry.tables import Line

NIGHT = date(2026, 11, 23)


class FakeStore:
    """An MLflow of one line, in memory: it refuses what MLflow refuses, and can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[int, dict[str, str]] = {}
        self.pointing: dict[str, int] = {}
        self.damaged: set[int] = set()
        self.is_away = False
        self.moves: list[tuple[str, int | None]] = []

    def add(self, number: int, *, origin: str = "fit", base: int | None = None) -> None:
        self.versions[number] = {TAG_ORIGIN: origin} | ({} if base is None else {TAG_BASE: str(base)})

    def delete(self, number: int) -> None:
        """As in the MLflow UI: the version goes, and its aliases with it."""
        del self.versions[number]
        self.pointing = {alias: at for alias, at in self.pointing.items() if at != number}

    def aliases(self, line: str) -> dict[str, int]:
        self._reach()
        return dict(self.pointing)

    def set_alias(self, line: str, alias: str, number: int | None) -> None:
        self._reach()
        if number is None:
            self.pointing.pop(alias, None)
        elif number not in self.versions:
            raise StoreError(f"no version {number}")
        else:
            self.pointing[alias] = number
        self.moves.append((alias, number))

    def tags(self, line: str, number: int) -> Mapping[str, str]:
        self._reach()
        if number not in self.versions:
            raise UnknownVersion(f"no version {number} in MLflow")
        return self.versions[number]

    def fetch(self, line: str, number: int, *, cache: Path) -> Path:
        self.tags(line, number)
        if number in self.damaged:
            raise ArtifactError(f"version {number} was altered")
        return self.folder

    def _reach(self) -> None:
        if self.is_away:
            raise StoreError("MLflow is away")


@pytest.fixture(scope="module")
def saved(version: DetectorVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "version"
    save_version(version, folder)
    return folder


@pytest.fixture
def store(saved: Path) -> FakeStore:
    return FakeStore(saved)


@pytest.fixture
def deployed(session: Session, line: Line, store: FakeStore, tmp_path: Path) -> FakeStore:
    """Version 1 is champion."""
    _fit(session, line, store, 1)
    session.commit()
    return store


def _fit(session: Session, line: Line, store: FakeStore, number: int) -> Deployment:
    store.add(number)
    deployment.mirror_version(session, line, number, store.folder, store.tags(line.name, number))
    return deployment.deploy_first(session, line, store, number)  # type: ignore[arg-type]


def _follow(session: Session, line: Line, store: FakeStore, cache: Path) -> Deployment:
    return deployment.follow(session, line, store, cache=cache)  # type: ignore[arg-type]


def _promote(session: Session, line: Line, store: FakeStore, number: int) -> Deployment:
    return deployment.promote(session, line, store, number, actor="ann", document={})  # type: ignore[arg-type]


def _roll_back(session: Session, line: Line, store: FakeStore) -> Deployment:
    return deployment.rollback(session, line, store, actor="ann", reason="it rejects everything")  # type: ignore[arg-type]


def _told(session: Session, line: Line) -> list[str]:
    session.flush()
    kinds = [alert.kind for alert in outbox.list_alerts(session, line=line)]
    assert [entry.action for entry in audit.history(session, line) if entry.action in set(kinds)] == kinds
    return kinds


def test_the_first_version_becomes_champion_and_a_later_fit_challenges(
    session: Session, line: Line, store: FakeStore
) -> None:
    assert _fit(session, line, store, 1) == Deployment(1, None, None)
    assert _fit(session, line, store, 2) == Deployment(1, None, 2)
    assert lines.aliases(session, line) == store.pointing == {"champion": 1, "challenger": 2}
    mirrored = lines.get_version(session, line, 1)
    manifest = json.loads((store.folder / MANIFEST).read_text())
    assert mirrored.threshold == manifest["threshold"]["value"]
    assert mirrored.origin == "fit"


def test_fitting_again_what_is_champion_changes_nothing(session: Session, line: Line, deployed: FakeStore) -> None:
    assert _fit(session, line, deployed, 1) == Deployment(1, None, None)


def test_a_promotion_moves_three_aliases_and_is_told_once(session: Session, line: Line, deployed: FakeStore) -> None:
    _fit(session, line, deployed, 2)
    for _ in range(2):
        assert _promote(session, line, deployed, 2) == Deployment(champion=2, previous=1, challenger=None)
    assert lines.aliases(session, line) == deployed.pointing == {"champion": 2, "previous": 1}
    assert _told(session, line) == ["promoted"]
    entry = audit.last_entry(session, line, actions=["promoted"])
    assert entry is not None
    assert (entry.actor, entry.version, entry.document) == ("ann", 2, {"from": 1, "to": 2})


def test_only_a_version_of_the_line_can_be_promoted(session: Session, line: Line, deployed: FakeStore) -> None:
    with pytest.raises(UnknownVersion, match="no version 9; known versions: 1"):
        _promote(session, line, deployed, 9)
    assert deployed.pointing == {"champion": 1}


def test_rolling_back_goes_back_step_by_step_and_never_forward_to_the_bad_one(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
        _promote(session, line, deployed, number)
    assert _roll_back(session, line, deployed) == Deployment(2, 1, None)
    assert _roll_back(session, line, deployed) == Deployment(1, None, None)
    with pytest.raises(UnknownVersion, match="no previous version") as caught:
        _roll_back(session, line, deployed)
    assert "promote tiles --version" in caught.value.hint
    assert lines.aliases(session, line) == deployed.pointing == {"champion": 1}
    assert _told(session, line) == ["promoted", "promoted", "rolled_back", "rolled_back"]


def test_a_person_who_moves_the_champion_is_followed_and_it_is_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.add(2, origin="retrain", base=1)
    deployed.pointing = {"champion": 2, "challenger": 2}
    for _ in range(2):
        assert _follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert lines.get_version(session, line).number == 2
    assert lines.get_version(session, line).base_version == 1
    assert _told(session, line) == ["promoted"]
    assert audit.history(session, line, actions=["promoted"])[0].actor == deployment.SOMEBODY


def test_what_a_person_replaced_becomes_previous_even_if_there_was_one(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    _promote(session, line, deployed, 2)
    deployed.add(3)
    deployed.pointing["champion"] = 3
    assert _follow(session, line, deployed, tmp_path) == Deployment(3, 2, None)


def test_a_person_who_moves_previous_too_is_left_to_it(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
        _promote(session, line, deployed, number)
    deployed.add(4)
    deployed.pointing |= {"champion": 4, "previous": 1}
    assert _follow(session, line, deployed, tmp_path) == Deployment(4, 1, None)


def test_a_rollback_in_the_mlflow_ui_is_a_rollback(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
        _promote(session, line, deployed, number)
    deployed.pointing["champion"] = 2
    assert _follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)


def test_a_rollback_that_was_killed_half_way_and_run_again_never_goes_forward(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    _promote(session, line, deployed, 2)
    session.commit()
    deployed.set_alias(line.name, "champion", 1)  # and killed: nothing else was written
    _follow(session, line, deployed, tmp_path)
    with pytest.raises(UnknownVersion, match="no previous version"):
        _roll_back(session, line, deployed)
    assert deployed.pointing == {"champion": 1}


def test_a_promotion_that_was_killed_half_way_and_run_again_is_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    deployed.set_alias(line.name, "previous", 1)
    deployed.set_alias(line.name, "champion", 2)  # and killed: the mirror knows nothing of it
    assert _promote(session, line, deployed, 2) == Deployment(2, 1, None)
    _follow(session, line, deployed, tmp_path)
    assert _told(session, line) == ["promoted"]


def test_a_champion_alias_that_was_taken_away_is_put_back_and_told(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.pointing = {}
    assert _follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
    assert deployed.pointing == {"champion": 1}
    _follow(session, line, deployed, tmp_path)
    assert _told(session, line) == ["champion_put_back"]


@pytest.mark.parametrize("fault", ["altered", "foreign files"])
def test_a_champion_that_cannot_be_loaded_is_not_deployed(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, fault: str
) -> None:
    deployed.add(2)
    deployed.pointing["champion"] = 2
    if fault == "altered":
        deployed.damaged.add(2)
    else:
        deployed.folder = Path(shutil.copytree(deployed.folder, tmp_path / "copy"))
        (deployed.folder / MANIFEST).write_text("{}")
    assert _follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
    assert deployed.pointing == {"champion": 1}
    (entry,) = audit.history(session, line, actions=["champion_put_back"])
    assert entry.document["found"] == 2
    assert _told(session, line) == ["champion_put_back"]


def test_a_deleted_champion_goes_on_from_the_cache_and_is_told_once_not_every_minute(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.delete(1)
    for _ in range(3):
        assert _follow(session, line, deployed, tmp_path).champion == 1
        assert deployment.champion_of(session, line, deployed, cache=tmp_path) == 1  # type: ignore[arg-type]
    assert _told(session, line) == ["champion_lost"]


def test_while_mlflow_is_away_the_last_known_champion_is_the_champion(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.is_away = True
    assert deployment.champion_of(session, line, deployed, cache=tmp_path) == 1  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        _follow(session, line, deployed, tmp_path)
    assert _told(session, line) == []


def test_a_line_without_champion_has_none_when_mlflow_is_away_either(
    session: Session, line: Line, store: FakeStore, tmp_path: Path
) -> None:
    with pytest.raises(UnknownVersion, match="no champion yet"):
        deployment.champion_of(session, line, store, cache=tmp_path)  # type: ignore[arg-type]
    store.is_away = True
    with pytest.raises(StoreError):
        deployment.champion_of(session, line, store, cache=tmp_path)  # type: ignore[arg-type]


def _waiting(session: Session, line: Line, store: FakeStore) -> int:
    retrain = retrains.request(session, line, night=NIGHT, base_version=1, reason="drift")
    for start, to in (("requested", "curated"), ("curated", "fitted"), ("fitted", "gated")):
        retrains.advance(session, retrain.id, start=start, to=to)
    store.add(2, origin="retrain", base=1)
    deployment.mirror_version(session, line, 2, store.folder, store.tags(line.name, 2))
    retrains.advance(session, retrain.id, start="gated", to="registered", new_version=2)
    assert deployment.wait_for_person(session, line, store, 2) == Deployment(1, None, 2)  # type: ignore[arg-type]
    retrains.advance(session, retrain.id, start="registered", to="waiting")
    return retrain.id


def test_a_challenger_that_waits_is_told_and_promoted_by_a_persons_move(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    retrain = _waiting(session, line, deployed)
    deployed.pointing["champion"] = 2
    assert _follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert retrains.get(session, retrain).state == "promoted"
    assert _told(session, line) == ["challenger_waits", "promoted"]


def test_a_challenger_is_out_of_the_race_when_another_version_was_promoted(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    retrain = _waiting(session, line, deployed)
    deployed.add(3)
    deployed.pointing["champion"] = 3
    _follow(session, line, deployed, tmp_path)
    assert retrains.get(session, retrain).state == "rejected"


def test_a_detector_that_is_not_ours_has_nothing_here_to_promote(session: Session) -> None:
    watched = lines.create_line(session, "press", detector=FOREIGN)
    with pytest.raises(RegistryError, match="not halfsigma's"):
        deployment.refuse_foreign(watched)
