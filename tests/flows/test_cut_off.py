"""What was cut off when it had moved the champion's alias is finished once, whoever looks next; a rollback after it stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from flows import nightly, watching
from flows.challenger import request_retrain, run_retrain, run_step
from flows.check import check_line
from flows.deploying import night_to_learn, promote_version, roll_back
from halfsigma import StoreError, UnknownVersion
from registry import following, lines, retrains
from registry.deployment import Deployment
from registry.tables import Retrain
from tests.flows.simulated_plant import FIRST, LINE, Plant, simulated_plant

NIGHT = FIRST + timedelta(1)


class KilledError(BaseException):
    """As SIGKILL: nothing that handles errors may see it."""


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A line that drifts in its second night."""
    with simulated_plant(tmp_path, monkeypatch) as made:
        monkeypatch.setattr("registry.following.unusable", lambda *_, **__: None)  # these versions have no files
        made.live(FIRST)
        made.light = 2.0
        made.photograph(NIGHT)
        yield made


@contextmanager
def _cut_off(plant: Plant, fault: BaseException) -> Iterator[None]:
    """Right after the champion's alias moved."""
    move = plant.store.set_alias

    def move_and_fail(line: str, alias: str, number: int | None) -> None:
        move(line, alias, number)
        if alias == "champion":
            raise fault

    with pytest.MonkeyPatch.context() as patch, pytest.raises(type(fault)):
        patch.setattr(plant.store, "set_alias", move_and_fail)
        yield
    assert plant.store.pointing["champion"] == 2


def _run_night(plant: Plant) -> nightly.LineNight:
    return nightly._respond(plant.workspace, check_line(plant.workspace, LINE, night=NIGHT))


def _retrain(plant: Plant) -> Retrain:
    with plant.workspace.database.session() as session:
        return retrains.get(session, 1)


def _follow(plant: Plant) -> Deployment:
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        return following.follow(session, line, plant.store, cache=plant.workspace.cache)  # type: ignore[arg-type]


def _set_policy(plant: Plant, policy: str) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy=policy)


def test_who_rolls_back_what_a_killed_retrain_deployed_is_not_overruled_by_the_nights_run(plant: Plant) -> None:
    with _cut_off(plant, KilledError()):
        _run_night(plant)
    assert _follow(plant).champion == 2  # halfsigma status
    assert _retrain(plant).state == "promoted"
    assert roll_back(plant.workspace, LINE)["champion"] == 1
    _run_night(plant)
    assert plant.champion() == 1
    assert [change[:2] for change in plant.changes()] == [("deployed", 1), ("promoted", 2), ("rolled_back", 1)]


def test_a_killed_retrain_that_is_champion_counts_for_the_cool_down_and_says_why_it_was_asked_for(plant: Plant) -> None:
    with _cut_off(plant, KilledError()):
        _run_night(plant)
    reason = _retrain(plant).reason
    _follow(plant)
    held = watching.held_back(plant.workspace, LINE, night=NIGHT + timedelta(1), base_version=2)
    assert held is not None
    assert held.startswith("cool-down")
    assert _retrain(plant).reason == reason


def test_a_killed_retrain_is_not_offered_once_it_is_champion_whatever_the_policy_says_now(plant: Plant) -> None:
    with _cut_off(plant, KilledError()):
        _run_night(plant)
    _set_policy(plant, "manual")
    assert run_step(plant.workspace, 1).state == "promoted"
    assert plant.store.pointing == {"champion": 2, "previous": 1}
    assert plant.told() == {"drift": 1, "promoted": 1}


def _registered(plant: Plant) -> None:
    """All but the last step of the night's retrain."""
    row = request_retrain(plant.workspace, LINE, night=NIGHT, base_version=1, reason="drift")
    number = plant.add(plant.light, base=1)
    with plant.workspace.database.session() as session:
        for start, to in (("requested", "curated"), ("curated", "fitted"), ("fitted", "gated")):
            retrains.advance(session, row.id, start=start, to=to, document={"gates": []})
        retrains.advance(session, row.id, start="gated", to="registered", new_version=number)


def test_a_retrain_does_not_fail_because_mlflow_goes_away_when_the_alias_has_moved(plant: Plant) -> None:
    _registered(plant)
    with _cut_off(plant, StoreError("MLflow is away")):
        run_retrain(plant.workspace, LINE, night=NIGHT, base_version=1, reason="drift")
    assert (_retrain(plant).state, plant.told()["retrain_failed"]) == ("registered", 0)
    _follow(plant)
    assert _retrain(plant).state == "promoted"


def test_a_persons_retrain_that_was_cut_off_and_is_asked_for_again_is_told_as_promoted(plant: Plant) -> None:
    _registered(plant)
    with _cut_off(plant, StoreError("MLflow is away")):
        run_retrain(plant.workspace, LINE, night=NIGHT, base_version=1, reason="drift")
    version, night = night_to_learn(plant.workspace, LINE)
    done = run_retrain(plant.workspace, LINE, night=night, base_version=version, reason="drift")
    assert (done.id, done.state, done.new_version) == (1, "promoted", 2)
    assert plant.told()["promoted"] == 1
    with pytest.raises(UnknownVersion, match="version 2 .* has scored no image yet"):
        night_to_learn(plant.workspace, LINE)  # asked for anew


def test_a_retrain_whose_promotion_was_cut_off_is_not_given_up_while_mlflow_stays_away(plant: Plant) -> None:
    _registered(plant)
    with _cut_off(plant, StoreError("MLflow is away")):
        run_retrain(plant.workspace, LINE, night=NIGHT, base_version=1, reason="drift")
    plant.store.is_away = True
    next_night = NIGHT + timedelta(1)
    with pytest.raises(StoreError):
        run_retrain(plant.workspace, LINE, night=next_night, base_version=1, reason="drift")
    plant.store.is_away = False
    _follow(plant)
    assert (_retrain(plant).night, _retrain(plant).state) == (NIGHT, "promoted")


def test_a_promotion_that_was_cut_off_and_is_asked_for_again_is_finished(plant: Plant) -> None:
    plant.store.set_alias(LINE, "challenger", plant.add(0.0))
    with _cut_off(plant, StoreError("MLflow is away")):
        promote_version(plant.workspace, LINE, None, by="ann")
    done = promote_version(plant.workspace, LINE, None, by="ann")
    assert (done["state"], done["champion"], done["previous"], done["challenger"]) == ("promoted", 2, 1, None)
    assert plant.changes() == [("deployed", 1, "halfsigma"), ("promoted", 2, "ann")]
    with pytest.raises(UnknownVersion, match="no challenger"):
        promote_version(plant.workspace, LINE, None, by="ann")  # asked for anew


def test_what_was_moved_in_mlflow_is_recorded_although_the_command_that_saw_it_fails(plant: Plant) -> None:
    plant.store.set_alias(LINE, "champion", plant.add(0.0))
    with pytest.raises(UnknownVersion, match="no challenger"):
        promote_version(plant.workspace, LINE, None, by="ann")
    assert plant.champion() == 2
    assert plant.changes()[-1][:2] == ("promoted", 2)


@pytest.mark.parametrize("approvals", [1, 2])
def test_a_challenger_that_this_database_has_never_seen_may_be_promoted(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, approvals: int
) -> None:
    """Its backup is older, or another machine fitted it."""
    plant.configure(approvals=approvals)
    plant.store.versions[2] = {}
    plant.store.set_alias(LINE, "challenger", 2)

    def mirror_it(*_: object, **__: object) -> None:
        if 2 not in plant.expects:
            plant.add(0.0)

    monkeypatch.setattr("registry.promotion.unusable", mirror_it)
    for person in ("ann", "bea")[:approvals]:
        done = promote_version(plant.workspace, LINE, None, by=person)
    assert (done["state"], done["champion"]) == ("promoted", 2)
