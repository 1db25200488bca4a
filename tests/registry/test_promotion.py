"""A promotion is done once and whole: killed half way, tried twice, by two at once, or with MLflow away."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from halfsigma import IllegalTransition, RegistryError, StoreError, UnknownVersion
from registry import audit, deployment, following, lines, moves, promotion, retrains
from registry.deployment import FOREIGN, Deployment
from registry.tables import Line, Version
from tests.registry.deployments import fit, follow, promote, roll_back, told
from tests.registry.fake_store import FakeStore

NIGHT = date(2026, 11, 23)


def test_a_promotion_moves_three_aliases_and_is_told_once(session: Session, line: Line, deployed: FakeStore) -> None:
    fit(session, line, deployed, 2)
    for _ in range(2):
        assert promote(session, line, deployed, 2) == Deployment(champion=2, previous=1, challenger=None)
    assert lines.aliases(session, line) == deployed.pointing == {"champion": 2, "previous": 1}
    assert told(session, line) == ["promoted"]
    entry = audit.last_entry(session, line, actions=["promoted"])
    assert entry is not None
    assert (entry.actor, entry.version, entry.document) == ("ann", 2, {"from": 1, "to": 2})


def test_a_promotion_that_is_killed_between_its_two_aliases_leaves_something_to_roll_back_to(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    promote(session, line, deployed, 2)
    move, moved = deployed.set_alias, []

    def lose_the_server(name: str, alias: str, number: int | None) -> None:
        if moved:
            raise StoreError("MLflow is away")
        moved.append(alias)
        move(name, alias, number)

    monkeypatch.setattr(deployed, "set_alias", lose_the_server)
    with pytest.raises(StoreError):
        promote(session, line, deployed, 3)
    monkeypatch.undo()
    assert moved == ["champion"]
    assert follow(session, line, deployed, tmp_path) == Deployment(3, 2, None)
    assert roll_back(session, line, deployed).champion == 2


def test_the_version_before_promoted_again_and_killed_between_the_aliases_is_no_rollback(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=2, to=1, actor="bea", document={})
    deployed.set_alias(line.name, "champion", 1)  # and killed
    assert follow(session, line, deployed, tmp_path) == Deployment(1, 2, None)


def test_a_second_process_completes_a_promotion_that_was_killed_between_the_aliases(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    promote(session, line, deployed, 2)
    deployed.set_alias(line.name, "champion", 3)  # and killed
    assert promote(session, line, deployed, 3) == Deployment(3, 2, None)


def test_a_fit_while_the_champions_alias_is_gone_deploys_nothing(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    del deployed.pointing["champion"]
    assert fit(session, line, deployed, 2) == Deployment(None, None, 2)
    assert follow(session, line, deployed, tmp_path) == Deployment(1, None, 2)
    assert told(session, line) == ["champion_put_back"]


def test_a_lines_detector_is_its_champions(session: Session, line: Line, deployed: FakeStore) -> None:
    fit(session, line, deployed, 2)
    session.execute(update(Version).where(Version.number == 2).values(detector="padim"))
    promote(session, line, deployed, 2)
    assert lines.get_line(session, line.name).detector == "padim"
    roll_back(session, line, deployed)
    assert lines.get_line(session, line.name).detector == "patchcore"


def test_only_a_version_of_the_line_can_be_promoted(session: Session, line: Line, deployed: FakeStore) -> None:
    with pytest.raises(UnknownVersion, match="version 9 of line 'tiles' cannot be deployed: no version 9") as caught:
        promote(session, line, deployed, 9)
    assert caught.value.hint.endswith("known are 1")
    assert deployed.pointing == {"champion": 1}


def test_a_version_of_mlflow_that_this_database_has_never_seen_may_be_promoted(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    deployed.add(2, origin="retrain", base=1)
    assert promote(session, line, deployed, 2) == Deployment(2, 1, None)
    assert lines.get_version(session, line, 2).base_version == 1


def test_a_promotion_that_was_killed_half_way_and_run_again_is_told_once(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    deployed.set_alias(line.name, "previous", 1)
    deployed.set_alias(line.name, "champion", 2)  # and killed: the mirror knows nothing of it
    assert promote(session, line, deployed, 2) == Deployment(2, 1, None)
    follow(session, line, deployed, tmp_path)
    assert told(session, line) == ["promoted"]


def test_a_detector_that_is_not_ours_has_nothing_here_to_promote(session: Session) -> None:
    watched = lines.create_line(session, "press", detector=FOREIGN)
    with pytest.raises(RegistryError, match="not halfsigma's"):
        deployment.refuse_foreign(watched)


def test_a_second_promoter_is_told_who_is_at_it_and_changes_nothing(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    with pytest.raises(IllegalTransition, match="bea .promoted, version 2. is changing the champion"):
        promote(session, line, deployed, 3)
    assert deployed.pointing["champion"] == 1
    assert told(session, line) == []


def test_the_same_promotion_is_finished_by_whoever_runs_it_again(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})  # and killed
    assert promote(session, line, deployed, 2) == Deployment(2, 1, None)
    assert moves.pending(session, line) is None


def test_a_promoter_that_died_holds_nobody_up_after_its_lease(
    session: Session, line: Line, deployed: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    monkeypatch.setattr(moves, "LEASE", timedelta())
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    monkeypatch.undo()
    assert promote(session, line, deployed, 3) == Deployment(3, 1, None)


def test_an_announced_promotion_that_moved_nothing_is_forgotten_after_its_lease(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={})
    follow(session, line, deployed, tmp_path)
    assert moves.pending(session, line) is not None  # its process may still be at it
    monkeypatch.setattr(following, "utc_now", lambda: moves.utc_now() + moves.LEASE)
    follow(session, line, deployed, tmp_path)
    assert moves.pending(session, line) is None


def test_a_promotion_that_was_killed_after_the_move_is_recorded_as_whose_it_was(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    moves.begin(session, line, action="promoted", start=1, to=2, actor="bea", document={"reason": "it is better"})
    deployed.set_alias(line.name, "champion", 2)  # and killed
    for _ in range(2):
        assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    (entry,) = audit.history(session, line, actions=["promoted"])
    assert (entry.actor, entry.document["reason"]) == ("bea", "it is better")
    assert moves.pending(session, line) is None


def test_what_a_person_does_to_other_aliases_is_recorded_although_a_move_failed_before(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    fit(session, line, deployed, 2)
    with (
        pytest.raises(StoreError),
        moves.moving(session, line, action="promoted", start=1, to=2, actor="bea", document={}),
    ):
        raise StoreError("MLflow is away")
    deployed.set_alias(line.name, "previous", 2)
    follow(session, line, deployed, tmp_path)
    (entry,) = audit.history(session, line, actions=["alias_moved"])
    assert (entry.actor, entry.document) == (deployment.SOMEBODY, {"alias": "previous", "from": None, "to": 2})


def test_a_champion_that_was_moved_on_meanwhile_is_not_put_back(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a version that cannot be used is downloaded and looked at, somebody promotes another."""
    fit(session, line, deployed, 2)
    deployed.add(9)
    deployed.pointing["champion"] = 9
    real = deployment.unusable

    def slow(*given: object, **named: object) -> str | None:
        if given[3] == 9:
            deployed.pointing["champion"] = 2
            return "its files are gone"
        return real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(following, "unusable", slow)
    follow(session, line, deployed, tmp_path)
    assert deployed.pointing["champion"] == 2
    assert follow(session, line, deployed, tmp_path).champion == 2
    assert not audit.history(session, line, actions=["champion_put_back"])


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_rollback_that_was_killed_after_either_move_never_leads_forward(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, killed_after: int
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    moves.begin(session, line, action="rolled_back", start=2, to=1, actor="ann", document={})
    deployed.set_alias(line.name, "champion", 1)
    if killed_after == 2:
        deployed.set_alias(line.name, "previous", None)
    for _ in range(2):
        assert follow(session, line, deployed, tmp_path) == Deployment(1, None, None)
    (entry,) = audit.history(session, line, actions=["rolled_back"])
    assert (entry.actor, entry.version) == ("ann", 1)
    assert deployed.pointing == {"champion": 1}


def test_a_version_whose_model_file_was_altered_is_put_back_although_its_manifest_is_whole(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    deployed.add(2, origin="retrain", base=1)
    broken = Path(shutil.copytree(deployed.folder, tmp_path / "broken"))
    model = next(broken.glob("*.safetensors"))
    model.write_bytes(model.read_bytes()[:-10])
    whole, deployed.folder = deployed.folder, broken
    deployed.pointing = {"champion": 2}
    assert follow(session, line, deployed, tmp_path).champion == 1
    assert "SHA-256" in audit.history(session, line, actions=["champion_put_back"])[0].document["reason"]
    deployed.folder = whole


def test_who_decided_about_another_champion_has_decided_nothing(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    promote(session, line, deployed, 2)
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
    assert promote(session, line, deployed, 3).champion == 3  # nothing is left in the way


def test_a_look_at_the_aliases_from_before_a_promotion_does_not_undo_it(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(session, line, deployed, 2)
    ask = deployed.aliases

    def slow(name: str) -> dict[str, int]:
        seen = ask(name)
        monkeypatch.undo()
        promote(session, line, deployed, 2)  # another process, while the answer is on its way
        return seen

    monkeypatch.setattr(deployed, "aliases", slow)
    follow(session, line, deployed, tmp_path)
    assert follow(session, line, deployed, tmp_path) == Deployment(2, 1, None)
    assert told(session, line) == ["promoted"]


def test_while_mlflow_is_away_a_promotion_changes_nothing_and_is_no_obstacle_later(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(session, line, deployed, 2)
    move = deployed.set_alias

    def lose_the_server(name: str, alias: str, number: int | None) -> None:
        deployed.is_away = alias == "champion"
        move(name, alias, number)

    monkeypatch.setattr(deployed, "set_alias", lose_the_server)
    with pytest.raises(StoreError):
        promote(session, line, deployed, 2)
    monkeypatch.undo()
    deployed.is_away = False
    assert follow(session, line, deployed, tmp_path).champion == 1
    assert told(session, line) == []
    assert promote(session, line, deployed, 2) == Deployment(2, 1, None)


def test_a_version_that_cannot_be_loaded_is_not_promoted(session: Session, line: Line, deployed: FakeStore) -> None:
    fit(session, line, deployed, 2)
    deployed.damaged.add(2)
    with pytest.raises(RegistryError, match="version 2 of line 'tiles' cannot be deployed: version 2 was altered"):
        promote(session, line, deployed, 2)
    assert deployed.pointing == {"champion": 1, "challenger": 2}


def _promoted(session: Session, line: Line, store: FakeStore, *numbers: int) -> None:
    for number in numbers:
        fit(session, line, store, number)
        promote(session, line, store, number)


def test_a_rollback_whose_predecessor_was_deleted_goes_further_back(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    _promoted(session, line, deployed, 2, 3, 4)
    deployed.delete(2)
    assert roll_back(session, line, deployed) == Deployment(3, 1, None)
    assert lines.aliases(session, line) == deployed.pointing == {"champion": 3, "previous": 1}


def test_a_rollback_without_any_predecessor_left_is_one_all_the_same(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    _promoted(session, line, deployed, 2, 3)
    deployed.delete(1)
    assert roll_back(session, line, deployed) == Deployment(2, None, None)
    assert follow(session, line, deployed, tmp_path) == Deployment(2, None, None)
    assert told(session, line)[-1] == "rolled_back"


@pytest.mark.parametrize("moved_to", [2, 4])
def test_a_champion_that_was_moved_in_mlflow_is_followed_although_the_version_before_was_deleted(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path, moved_to: int
) -> None:
    """Back to the one before, whose own predecessor is gone, and on to another one, after which the former is deleted."""
    _promoted(session, line, deployed, 2, 3)
    fit(session, line, deployed, 4)
    deployed.set_alias(line.name, "champion", moved_to)
    deployed.delete(1 if moved_to == 2 else 3)
    expected = Deployment(2, None, 4) if moved_to == 2 else Deployment(4, 2, None)
    assert follow(session, line, deployed, tmp_path) == expected
    assert deployment.Deployment.of(lines.aliases(session, line)) == expected


def test_a_promotion_that_mlflow_answers_after_another_one_leaves_that_one_its_predecessor(
    session: Session, line: Line, deployed: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3):
        fit(session, line, deployed, number)
    move = deployed.set_alias

    def overtaken(name: str, alias: str, number: int | None) -> None:
        move(name, alias, number)
        if (alias, number) == ("champion", 2):
            move(name, "champion", 3)
            move(name, "previous", 2)

    monkeypatch.setattr(deployed, "set_alias", overtaken)
    with pytest.raises(IllegalTransition, match="another one did so before MLflow had answered"):
        promote(session, line, deployed, 2)
    assert (deployed.pointing["champion"], deployed.pointing["previous"]) == (3, 2)


def test_a_challenger_against_a_champion_that_was_rolled_back_loses_its_alias(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    _promoted(session, line, deployed, 2)
    retrain = retrains.request(session, line, night=NIGHT, base_version=2, reason="drift")
    fit(session, line, deployed, 3)
    for start, to in pairwise(("requested", "curated", "fitted", "gated", "registered", "waiting")):
        retrains.advance(session, retrain.id, start=start, to=to, new_version=3 if to == "registered" else None)
    assert roll_back(session, line, deployed) == Deployment(1, None, None)
    assert retrains.get(session, retrain.id).state == "rejected"


def test_while_a_promotion_is_under_way_the_other_aliases_are_not_followed(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    """They are recorded by it, or after its lease: never mirrored without an entry of the audit."""
    _promoted(session, line, deployed, 2)
    fit(session, line, deployed, 3)
    move = moves.begin(session, line, action="promoted", start=2, to=3, actor="bea", document={})
    deployed.set_alias(line.name, "previous", None)  # a person, in MLflow
    follow(session, line, deployed, tmp_path)
    assert lines.aliases(session, line)["previous"] == 1
    moves.end(session, line, move)
    follow(session, line, deployed, tmp_path)
    assert "previous" not in lines.aliases(session, line)
    (entry,) = audit.history(session, line, actions=["alias_moved"])
    assert entry.document == {"alias": "previous", "from": 1, "to": None}


def test_nothing_is_rolled_back_by_itself_to_what_never_was_champion(
    session: Session, line: Line, deployed: FakeStore
) -> None:
    fit(session, line, deployed, 2)
    promote(session, line, deployed, 2)
    fit(session, line, deployed, 3)
    deployed.set_alias(line.name, "previous", 3)
    by_itself = {"replaces": 2, "actor": deployment.SYSTEM, "document": {}, "cache": deployed.folder}
    with pytest.raises(RegistryError, match="version 3 .* never was champion: .* a person has to say"):
        promotion.rollback(session, line, deployed, **by_itself)  # type: ignore[arg-type]
    assert deployed.pointing["champion"] == 2
    assert roll_back(session, line, deployed).champion == 3
