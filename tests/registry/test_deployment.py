"""MLflow's aliases are the truth: people's moves are followed, told once, and undone where they would stop a station."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from detectors.artifact import MANIFEST
from halfsigma import StoreError, UnknownVersion
from registry import audit, deployment, following, lines, live, promotion, retrains
from registry.deployment import Deployment
from registry.store import TAG_RESTORED
from registry.tables import Line
from tests.registry.deployments import fit, follow, promote, registered_retrain, roll_back, told
from tests.registry.fake_store import FakeStore

NIGHT = date(2026, 11, 23)


def test_the_first_version_becomes_champion_and_a_later_fit_challenges(
    session: Session, line: Line, store: FakeStore
) -> None:
    assert fit(session, line, store, 1) == Deployment(1, None, None)
    assert fit(session, line, store, 2) == Deployment(1, None, 2)
    assert lines.aliases(session, line) == store.pointing == {"champion": 1, "challenger": 2}
    mirrored = lines.get_version(session, line, 1)
    manifest = json.loads((store.folder / MANIFEST).read_text())
    assert mirrored.threshold == manifest["threshold"]["value"]
    assert mirrored.origin == "fit"


def test_fitting_again_what_is_champion_changes_nothing(session: Session, line: Line, deployed: FakeStore) -> None:
    assert fit(session, line, deployed, 1) == Deployment(1, None, None)


def test_rolling_back_goes_back_step_by_step_and_never_forward_to_the_bad_one(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
        promote(session, line, deployed, number)
    assert roll_back(session, line, deployed) == Deployment(2, 1, None)
    assert roll_back(session, line, deployed) == Deployment(1, None, None)
    with pytest.raises(UnknownVersion, match="no previous version") as caught:
        roll_back(session, line, deployed)
    assert "promote tiles --version" in caught.value.hint
    assert lines.aliases(session, line) == deployed.pointing == {"champion": 1}
    assert told(session, line) == ["promoted", "promoted", "rolled_back", "rolled_back"]


def test_a_person_who_moves_the_champion_is_followed_and_it_is_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.add(2, origin="retrain", base=1)
    deployed.pointing = {"champion": 2, "challenger": 2}
    for _ in range(2):
        assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert lines.get_version(session, line).number == 2
    assert lines.get_version(session, line).base_version == 1
    assert told(session, line) == ["promoted"]
    assert audit.history(session, line, actions=["promoted"])[0].actor == deployment.SOMEBODY


def test_what_a_person_replaced_becomes_previous_even_if_there_was_one(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    deployed.add(3)
    deployed.pointing["champion"] = 3
    assert follow(session, line, deployed, tmp_path) == Deployment(3, 2, None)


def test_a_person_who_moves_previous_too_is_left_to_it(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
        promote(session, line, deployed, number)
    deployed.add(4)
    deployed.pointing |= {"champion": 4, "previous": 1}
    assert follow(session, line, deployed, tmp_path) == Deployment(4, 1, None)


def test_a_rollback_in_the_mlflow_ui_is_a_rollback(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
        promote(session, line, deployed, number)
    deployed.pointing["champion"] = 2
    assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)


def test_a_rollback_that_was_killed_half_way_and_run_again_never_goes_forward(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    session.commit()
    deployed.set_alias(line.name, "champion", 1)  # and killed: nothing else was written
    follow(session, line, deployed, tmp_path)
    with pytest.raises(UnknownVersion, match="no previous version"):
        roll_back(session, line, deployed)
    assert deployed.pointing == {"champion": 1}


def test_who_moves_the_champion_back_in_mlflow_rolled_back_and_the_bad_version_is_nobodys_predecessor(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
        promote(session, line, deployed, number)
    deployed.pointing = {"champion": 2, "previous": 2}
    assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    entry = audit.history(session, line, actions=["rolled_back"])[-1]
    assert (entry.actor, entry.version, entry.document["from"]) == (deployment.SOMEBODY, 2, 3)
    assert live.probation_of(session, line) is None
    fit(session, line, deployed, 4)
    promote(session, line, deployed, 4)
    assert roll_back(session, line, deployed) == Deployment(2, 1, None)


def test_a_champion_alias_that_was_taken_away_is_put_back_and_told(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.pointing = {}
    assert follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
    assert deployed.pointing == {"champion": 1}
    follow(session, line, deployed, tmp_path)
    assert told(session, line) == ["champion_put_back"]


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
    assert follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
    assert deployed.pointing == {"champion": 1}
    (entry,) = audit.history(session, line, actions=["champion_put_back"])
    assert entry.document["found"] == 2
    assert told(session, line) == ["champion_put_back"]


def test_a_deleted_champion_goes_on_from_the_cache_and_is_told_once_not_every_minute(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.delete(1)
    for _ in range(3):
        assert follow(session, line, deployed, tmp_path).champion == 1
        assert following.champion_of(session, line, deployed, cache=tmp_path) == 1  # type: ignore[arg-type]
    assert told(session, line) == ["champion_lost"]


def test_while_mlflow_is_away_the_last_known_champion_is_the_champion(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.is_away = True
    assert following.champion_of(session, line, deployed, cache=tmp_path) == 1  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        follow(session, line, deployed, tmp_path)
    assert told(session, line) == []


def test_a_line_without_champion_has_none_when_mlflow_is_away_either(
    session: Session, line: Line, store: FakeStore, tmp_path: Path
) -> None:
    with pytest.raises(UnknownVersion, match="no champion yet"):
        following.champion_of(session, line, store, cache=tmp_path)  # type: ignore[arg-type]
    store.is_away = True
    with pytest.raises(StoreError):
        following.champion_of(session, line, store, cache=tmp_path)  # type: ignore[arg-type]


def _waiting(session: Session, line: Line, store: FakeStore) -> int:
    retrain = registered_retrain(session, line, store)
    assert promotion.offer(session, line, store, 2, kind="challenger_waits") == Deployment(1, None, 2)  # type: ignore[arg-type]
    retrains.advance(session, retrain, start="registered", to="waiting")
    return retrain


def test_a_challenger_that_waits_is_told_and_promoted_by_a_persons_move(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    retrain = _waiting(session, line, deployed)
    deployed.pointing["champion"] = 2
    assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert retrains.get(session, retrain).state == "promoted"
    assert told(session, line) == ["challenger_waits", "promoted"]


def test_a_challenger_is_out_of_the_race_when_another_version_was_promoted(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    retrain = _waiting(session, line, deployed)
    deployed.add(3)
    deployed.pointing["champion"] = 3
    follow(session, line, deployed, tmp_path)
    assert retrains.get(session, retrain).state == "rejected"


def test_a_deleted_champion_is_registered_again_from_this_machines_copy_and_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.copies.add(1)
    deployed.delete(1)
    for _ in range(3):
        assert follow(session, line, deployed, tmp_path) == Deployment(2, None, None)
    assert deployed.pointing == {"champion": 2}
    assert deployed.versions[2][TAG_RESTORED] == "1"
    assert lines.get_version(session, line).number == 2
    assert told(session, line) == ["champion_restored"]


def test_after_the_whole_model_was_deleted_a_number_never_means_two_versions(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.copies.add(1)
    deployed.delete(1)
    deployed.given.clear()  # MLflow counts from one again
    assert follow(session, line, deployed, tmp_path).champion == 1
    assert "champion" not in deployed.pointing
    assert told(session, line) == ["champion_lost"]


def test_what_somebody_does_to_the_other_aliases_is_recorded(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    deployed.set_alias(line.name, "previous", None)
    for _ in range(2):
        follow(session, line, deployed, tmp_path)
    (entry,) = audit.history(session, line, actions=["alias_moved"])
    assert (entry.actor, entry.document) == (
        deployment.SOMEBODY,
        {"alias": "previous", "from": 1, "to": None},
    )


def test_a_fit_takes_no_challengers_place_that_waits_for_a_person(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    retrain = _waiting(session, line, deployed)
    assert fit(session, line, deployed, 3) == Deployment(1, None, 2)
    assert follow(session, line, deployed, tmp_path).challenger == 2
    assert retrains.get(session, retrain).state == "waiting"


def test_a_promoted_version_that_is_deleted_stays_on_probation_as_its_copy_and_keeps_what_it_replaced(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    before = live.probation_of(session, line)
    deployed.copies.add(2)
    deployed.delete(2)
    assert follow(session, line, deployed, tmp_path).champion == 3
    watched = live.probation_of(session, line)
    assert before is not None and watched is not None
    assert (watched.version, watched.replaced, watched.since) == (3, 1, before.since)
    fit(session, line, deployed, 4)
    promote(session, line, deployed, 4)
    assert roll_back(session, line, deployed) == Deployment(3, 1, None)
    assert roll_back(session, line, deployed) == Deployment(1, None, None)


def test_aliases_that_somebody_moved_together_with_the_champions_are_recorded_as_well(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3, 4):
        fit(session, line, deployed, number)
    deployed.set_alias(line.name, "challenger", None)
    follow(session, line, deployed, tmp_path)
    n_before = len(audit.history(session, line, actions=["alias_moved"]))
    deployed.pointing = {"champion": 2, "previous": 3, "challenger": 4}
    follow(session, line, deployed, tmp_path)
    deployed.pointing = {"previous": 4, "challenger": 4}
    follow(session, line, deployed, tmp_path)
    moved = [entry.document for entry in audit.history(session, line, actions=["alias_moved"])[n_before:]]
    assert moved == [
        {"alias": "previous", "from": None, "to": 3},
        {"alias": "challenger", "from": None, "to": 4},
        {"alias": "previous", "from": 3, "to": 4},
    ]
