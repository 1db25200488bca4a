"""What is asked for a second time: a retrain of another night, by two processes, a rollback that was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from detectors.artifact import FORMAT, MANIFEST
from flows import retrain_files
from flows.challenger import fail_retrain, request_retrain, run_retrain, run_step
from flows.deploying import night_to_learn, roll_back
from flows.retrain_files import ADDED, CURATED, LEARNED
from flows.vetoes import learned_defects, tried_defects
from halfsigma import DetectorError, IllegalTransition, StoreError
from registry import images, lines, retrains
from registry.tables import Retrain
from tests.flows.simulated_plant import FIRST, LINE, Plant, simulated_plant


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    with simulated_plant(tmp_path, monkeypatch) as made:
        yield made


def _ask(plant: Plant, days: int = 0, **document: object) -> Retrain:
    return request_retrain(
        plant.workspace,
        LINE,
        night=FIRST + timedelta(days),
        base_version=1,
        reason="drift",
        document=document or None,
    )


def _put_into(plant: Plant, retrain: Retrain, *states: str) -> Retrain:
    with plant.workspace.database.session() as session:
        for state in states:
            retrain = retrains.advance(session, retrain.id, start=retrain.state, to=state, document={"gates": []})
    return retrain


def test_a_retrain_that_was_killed_in_an_earlier_night_is_given_up_for_tonights(plant: Plant) -> None:
    left = _put_into(plant, _ask(plant), "curated")
    tonight = _ask(plant, days=25)
    assert (tonight.night, tonight.state) == (FIRST + timedelta(25), "requested")
    with plant.workspace.database.session() as session:
        assert retrains.get(session, left.id).state == "failed"
    assert plant.told() == {"retrain_failed": 1}
    assert _ask(plant, days=25).id == _ask(plant).id == tonight.id  # an earlier night is over


def test_a_retrain_that_a_process_is_at_is_nobody_elses(plant: Plant) -> None:
    under_way = _put_into(plant, _ask(plant), "curated")
    with retrain_files.alone(plant.workspace, under_way):
        assert _ask(plant, days=1).id == under_way.id
        with pytest.raises(IllegalTransition, match="another process"):
            run_step(plant.workspace, under_way.id)
        outcome = run_retrain(plant.workspace, LINE, night=FIRST, base_version=1, reason="a person asked for it")
    assert (outcome.id, outcome.state) == (under_way.id, "curated")
    assert plant.told() == {}


def test_who_fails_after_another_process_went_on_spoils_nothing(plant: Plant) -> None:
    row = _ask(plant)
    _put_into(plant, row, "curated", "fitted")
    with pytest.raises(IllegalTransition):
        fail_retrain(plant.workspace, row.id, start="requested", reason="its files are gone")
    assert plant.told() == {}

    def lose(*_: object) -> Retrain:
        _put_into(plant, _ask(plant), "gated")  # the winner
        raise DetectorError("its files are gone")

    outcome = run_retrain(plant.workspace, LINE, night=FIRST, base_version=1, reason="", run=lose)
    assert (outcome.state, plant.told()) == ("gated", {})


def test_a_failed_growth_does_not_become_the_nights_retrain(plant: Plant) -> None:
    grown = _ask(plant, **{ADDED: {"ab" * 32: "a.png"}})
    fail_retrain(plant.workspace, grown.id, start="requested", reason="the disk is full")
    night = _ask(plant)
    assert (night.id, night.state, night.document) == (grown.id, "requested", {})


def test_a_rejected_growth_does_not_stand_in_the_way_of_the_nights_retrain(plant: Plant) -> None:
    grown = _put_into(
        plant, _ask(plant, **{ADDED: {"ab" * 32: "a.png"}}), "curated", "fitted", "gated", "registered", "rejected"
    )
    assert (_ask(plant).id, _ask(plant).state) == (grown.id, "requested")


def test_a_rejected_retrain_stays_rejected_unless_a_label_says_otherwise(plant: Plant) -> None:
    row = _put_into(plant, _ask(plant), "curated", "fitted", "gated")
    with plant.workspace.database.session() as session:
        retrains.advance(session, row.id, start="gated", to="registered", new_version=plant.add(0.0, base=1))
        retrains.advance(session, row.id, start="registered", to="rejected")
    assert _ask(plant).state == "rejected"
    plant.vetoed = ["ab" * 32]
    assert _ask(plant).state == "requested"


def test_a_rollback_that_was_cut_off_is_finished_and_not_followed_by_a_second(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deployment.unusable", lambda *_, **__: None)
    for number in (plant.add(0.0), plant.add(0.0)):
        plant.promote(number)
    move = plant.store.set_alias

    def move_and_lose_the_server(line: str, alias: str, number: int | None) -> None:
        move(line, alias, number)
        raise StoreError("MLflow is away")

    monkeypatch.setattr(plant.store, "set_alias", move_and_lose_the_server)
    with pytest.raises(StoreError):
        roll_back(plant.workspace, LINE)
    monkeypatch.setattr(plant.store, "set_alias", move)
    assert roll_back(plant.workspace, LINE)["champion"] == 2
    assert [action for action, _, _ in plant.changes()].count("rolled_back") == 1
    assert roll_back(plant.workspace, LINE)["champion"] == 1  # asked for anew


def test_a_night_that_waited_for_labels_is_learned_from_when_it_has_them_although_a_newer_one_was_begun(
    plant: Plant,
) -> None:
    for days in range(3):
        plant.photograph(FIRST + timedelta(days))

    def fail(days: int, **document: object) -> None:
        row = _ask(plant, days)
        with plant.workspace.database.session() as session:
            retrains.advance(session, row.id, start="requested", to="failed", document=document)

    def say(sha256: str, as_label: str) -> date:
        with plant.workspace.database.session() as session:
            images.label(session, lines.get_line(session, LINE), [sha256], as_label)
        return night_to_learn(plant.workspace, LINE)[1]

    with plant.workspace.database.session() as session:
        images.remember(session, lines.get_line(session, LINE), {sha256: f"{sha256[:2]}.png" for sha256 in (A, B)})
    last = FIRST + timedelta(2)
    fail(0, suspects=[{"sha256": A, "path": "aa.png"}, {"sha256": B, "path": "bb.png"}])
    assert say(A, "defect") == last, "half of the answer is none"
    assert say(B, "good") == FIRST
    fail(1)  # too few images
    assert night_to_learn(plant.workspace, LINE) == (1, FIRST)
    assert _ask(plant).state == "requested"
    fail(0)
    assert night_to_learn(plant.workspace, LINE) == (1, last), "it was taken up"


def test_a_night_that_waited_is_over_when_a_later_retrain_came_further(plant: Plant, labelled: Retrain) -> None:
    for days in range(3):
        plant.photograph(FIRST + timedelta(days))
    with plant.workspace.database.session() as session:
        asked = {"suspects": [{"sha256": B, "path": "bb.png"}]}
        retrains.advance(session, labelled.id, start="requested", to="failed", document=asked)
    assert night_to_learn(plant.workspace, LINE) == (1, FIRST)
    _put_into(plant, _ask(plant, days=1), "curated", "fitted", "gated", "registered", "rejected")
    assert night_to_learn(plant.workspace, LINE) == (1, FIRST + timedelta(2))


A, B, C, D = (letter * 64 for letter in "abcd")


@pytest.fixture
def labelled(plant: Plant) -> Retrain:
    """A retrain, and images of the line of which B, C and D are called defects."""
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        images.remember(session, line, {sha256: f"{sha256[:2]}.png" for sha256 in (A, B, C, D)})
        images.label(session, line, [B, C, D], "defect")
    return _ask(plant)


def _found(plant: Plant, retrain: Retrain) -> list[str]:
    with plant.workspace.database.session() as session:
        return learned_defects(plant.workspace, session, lines.get_line(session, LINE), retrain)


def test_what_was_learned_is_held_against_what_people_say_today(plant: Plant, labelled: Retrain) -> None:
    """What was held back was not learned; what a growth adds is asked about, not what the champion knew already."""
    curated = {"chosen": {A: "a.png", B: "b.png", C: "c.png"}, "held_back": [C], "core": {D: "d.png"}}
    folder = retrain_files.folder_of(plant.workspace, labelled)
    retrain_files.write_json(folder / CURATED, curated)
    assert _found(plant, labelled) == [B, D]
    labelled.document = {ADDED: {A: "a.png", C: "c.png"}}
    assert _found(plant, labelled) == [C]
    del curated["chosen"][C]  # the fit left it out, since it was called a defect before
    retrain_files.write_json(folder / LEARNED, curated)
    assert _found(plant, labelled) == []


def test_a_defect_among_what_was_held_back_opens_a_rejected_retrain_again(
    plant: Plant, labelled: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates tried the version on it; it learned nothing from it, so who promotes the version is not refused for that."""
    monkeypatch.setattr("flows.vetoes.tried_defects", tried_defects)
    plant.photograph(FIRST)
    curated = {"chosen": {A: "a.png", B: "b.png"}, "held_back": [B], "core": {}}
    retrain_files.write_json(retrain_files.folder_of(plant.workspace, labelled) / LEARNED, curated)
    rejected = _put_into(plant, labelled, "curated", "fitted", "gated", "registered", "rejected")
    assert _found(plant, rejected) == []
    assert night_to_learn(plant.workspace, LINE) == (1, FIRST)
    assert _ask(plant).state == "requested"


def test_where_another_machine_made_the_version_it_says_itself_what_it_learned(plant: Plant, labelled: Retrain) -> None:
    labelled.new_version = 1
    assert _found(plant, labelled) == [], "its files cannot be read"
    manifest = {
        "format": FORMAT,
        "provenance": {"fit_images_sha256": [A, B], "reference_images_sha256": [B, C]},
    }
    (plant.store.folder / MANIFEST).write_text(json.dumps(manifest))
    assert _found(plant, labelled) == [B]
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        assert tried_defects(plant.workspace, session, line, labelled) == [B, C]
    plant.store.is_away = True
    assert _found(plant, labelled) == []


def test_while_mlflow_is_away_a_challenger_goes_on_waiting(plant: Plant) -> None:
    row = _put_into(plant, _ask(plant), "curated", "fitted", "gated")
    with plant.workspace.database.session() as session:
        retrains.advance(session, row.id, start="gated", to="registered", new_version=plant.add(0.0, base=1))
        retrains.advance(session, row.id, start="registered", to="waiting")
    plant.vetoed = [B]
    plant.store.is_away = True
    assert _ask(plant, days=1).state == "waiting"
    plant.store.is_away = False
    again = _ask(plant, days=1)
    assert (again.state, again.night) == ("requested", FIRST)
