"""MLflow's aliases are the truth: people's moves are followed, told once, and undone where they would stop a station."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from detectors.artifact import MANIFEST
from halfsigma import IllegalTransition, RegistryError, StoreError, UnknownVersion
from registry import approval, audit, deployment, lines, moves, outbox, promotion, retrains
from registry.deployment import FOREIGN, Deployment
from registry.store import TAG_RESTORED
from registry.tables import Line
from tests.registry.fake_store import FakeStore

NIGHT = date(2026, 11, 23)


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
    return promotion.deploy_first(session, line, store, number)  # type: ignore[arg-type]


def _follow(session: Session, line: Line, store: FakeStore, cache: Path) -> Deployment:
    return deployment.follow(session, line, store, cache=cache)  # type: ignore[arg-type]


def _promote(session: Session, line: Line, store: FakeStore, number: int) -> Deployment:
    return promotion.promote(
        session,
        line,
        store,  # type: ignore[arg-type]
        number,
        replaces=lines.aliases(session, line).get("champion"),
        actor="ann",
        document={},
        cache=store.folder,
    )


def _roll_back(session: Session, line: Line, store: FakeStore) -> Deployment:
    return promotion.rollback(
        session,
        line,
        store,  # type: ignore[arg-type]
        replaces=lines.aliases(session, line).get("champion"),
        actor="ann",
        document={"reason": "it rejects everything"},
        cache=store.folder,
    )


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
    assert promotion.offer(session, line, store, 2, kind="challenger_waits") == Deployment(1, None, 2)  # type: ignore[arg-type]
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


def test_a_second_promoter_is_told_who_is_at_it_and_changes_nothing(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    with pytest.raises(IllegalTransition, match="bea .promoted, version 2. is changing the champion"):
        _promote(session, line, deployed, 3)
    assert deployed.pointing["champion"] == 1
    assert _told(session, line) == []


def test_the_same_promotion_is_finished_by_whoever_runs_it_again(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    _fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})  # and killed
    assert _promote(session, line, deployed, 2) == Deployment(2, 1, None)
    assert moves.pending(session, line) is None


def test_a_promoter_that_died_holds_nobody_up_after_its_lease(
    session: Session, line: Line, deployed: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
    monkeypatch.setattr(moves, "LEASE", timedelta())
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    monkeypatch.undo()
    assert _promote(session, line, deployed, 3) == Deployment(3, 1, None)


def test_an_announced_promotion_that_moved_nothing_is_forgotten_after_its_lease(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    _follow(session, line, deployed, tmp_path)
    assert moves.pending(session, line) is not None  # its process may still be at it
    monkeypatch.setattr(deployment, "utc_now", lambda: moves.utc_now() + moves.LEASE)
    _follow(session, line, deployed, tmp_path)
    assert moves.pending(session, line) is None


def test_a_promotion_that_was_killed_after_the_move_is_recorded_as_whose_it_was(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={"reason": "it is better"})
    deployed.set_alias(line.name, "champion", 2)  # and killed
    for _ in range(2):
        assert _follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    (entry,) = audit.history(session, line, actions=["promoted"])
    assert (entry.actor, entry.document["reason"]) == ("bea", "it is better")
    assert moves.pending(session, line) is None


def test_who_decided_about_another_champion_has_decided_nothing(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
    _promote(session, line, deployed, 2)
    with pytest.raises(IllegalTransition, match="version 2 became champion in the meantime"):
        promotion.promote(
            session,
            line,
            deployed,  # type: ignore[arg-type]
            3,
            replaces=1,
            actor="bea",
            document={},
            cache=tmp_path,
        )
    assert deployed.pointing["champion"] == 2
    assert _promote(session, line, deployed, 3).champion == 3  # nothing is left in the way


def test_a_look_at_the_aliases_from_before_a_promotion_does_not_undo_it(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(session, line, deployed, 2)
    ask = deployed.aliases

    def slow(name: str) -> dict[str, int]:
        seen = ask(name)
        monkeypatch.undo()
        _promote(session, line, deployed, 2)  # another process, while the answer is on its way
        return seen

    monkeypatch.setattr(deployed, "aliases", slow)
    _follow(session, line, deployed, tmp_path)
    assert _follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert _told(session, line) == ["promoted"]


def test_while_mlflow_is_away_a_promotion_changes_nothing_and_is_no_obstacle_later(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(session, line, deployed, 2)
    move = deployed.set_alias

    def lose_the_server(name: str, alias: str, number: int | None) -> None:
        deployed.is_away = alias == "champion"
        move(name, alias, number)

    monkeypatch.setattr(deployed, "set_alias", lose_the_server)
    with pytest.raises(StoreError):
        _promote(session, line, deployed, 2)
    monkeypatch.undo()
    deployed.is_away = False
    assert _follow(session, line, deployed, tmp_path).champion == 1
    assert _told(session, line) == []
    assert _promote(session, line, deployed, 2) == Deployment(2, 1, None)


def test_a_version_that_cannot_be_loaded_is_not_promoted(session: Session, line: Line, deployed: FakeStore) -> None:
    _fit(session, line, deployed, 2)
    deployed.damaged.add(2)
    with pytest.raises(RegistryError, match="version 2 of line 'tiles' cannot be deployed: version 2 was altered"):
        _promote(session, line, deployed, 2)
    assert deployed.pointing == {"champion": 1, "challenger": 2}


def test_a_deleted_champion_is_registered_again_from_this_machines_copy_and_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.copies.add(1)
    deployed.delete(1)
    for _ in range(3):
        assert _follow(session, line, deployed, tmp_path) == Deployment(2, None, None)
    assert deployed.pointing == {"champion": 2}
    assert deployed.versions[2][TAG_RESTORED] == "1"
    assert lines.get_version(session, line).number == 2
    assert _told(session, line) == ["champion_restored"]


def test_after_the_whole_model_was_deleted_a_number_never_means_two_versions(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.copies.add(1)
    deployed.delete(1)
    deployed.given.clear()  # MLflow counts from one again
    assert _follow(session, line, deployed, tmp_path).champion == 1
    assert "champion" not in deployed.pointing
    assert _told(session, line) == ["champion_lost"]


def test_what_somebody_does_to_the_other_aliases_is_recorded(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    _promote(session, line, deployed, 2)
    deployed.set_alias(line.name, "previous", None)
    for _ in range(2):
        _follow(session, line, deployed, tmp_path)
    (entry,) = audit.history(session, line, actions=["alias_moved"])
    assert (entry.actor, entry.document) == (
        deployment.SOMEBODY,
        {"alias": "previous", "from": 1, "to": None},
    )


def _approve(session: Session, line: Line, number: int, person: str) -> list[str]:
    champion = lines.aliases(session, line).get("champion")
    return approval.approve(session, line, number, replaces=champion, person=person)


def test_two_people_are_two_names_and_one_name_twice_is_one(session: Session, line: Line, deployed: FakeStore) -> None:
    _fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    assert [_approve(session, line, 2, person) for person in ("ann", "ann", "bea")] == [
        ["ann"],
        ["ann"],
        ["ann", "bea"],
    ]
    assert approval.is_missing(session, line, 2, replaces=1) is None
    assert "nobody approved version 3" in str(approval.is_missing(session, line, 3, replaces=1))


def test_an_approval_is_about_one_champion_and_ends_with_it(session: Session, line: Line, deployed: FakeStore) -> None:
    for number in (2, 3):
        _fit(session, line, deployed, number)
    _approve(session, line, 3, "ann")
    _promote(session, line, deployed, 2)
    assert _approve(session, line, 3, "bea") == ["bea"]
    _roll_back(session, line, deployed)
    assert _approve(session, line, 3, "cem") == ["cem"]  # the champion that Ann spoke of was away in between


def test_one_persons_move_in_mlflow_is_refused_where_two_are_asked_for(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    _approve(session, line, 2, "ann")
    deployed.pointing["champion"] = 2
    assert _follow(session, line, deployed, tmp_path).champion == 1
    (entry,) = audit.history(session, line, actions=["champion_put_back"])
    assert entry.document["reason"] == "the line asks for 2 people, and ann approved version 2 so far"
    _approve(session, line, 2, "bea")
    deployed.pointing["champion"] = 2
    assert _follow(session, line, deployed, tmp_path).champion == 2


def test_one_person_is_enough_to_roll_back_in_mlflow(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _fit(session, line, deployed, 2)
    _promote(session, line, deployed, 2)
    lines.update_line(session, line, counted={"approvals": 2})
    deployed.pointing["champion"] = 1
    assert _follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
