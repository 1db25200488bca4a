"""Nights after a promotion, simulated: what is bad is rolled back once, what is good stays, and nothing flaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from flows import watching
from flows.challenger import request_retrain
from flows.check import check_line
from flows.deploying import promote_version
from halfsigma import RegistryError
from registry import checks, following, lines, live, moves, retrains, scores
from registry.checks import NewCheck
from registry.scores import ScoreRow
from tests.flows.simulated_plant import FIRST, LINE, Plant, simulated_plant


class KilledError(BaseException):
    """As SIGKILL: nothing that handles errors may see it."""


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    with simulated_plant(tmp_path, monkeypatch) as made:
        yield made


def _nights(n: int, *, start: int = 0) -> list[date]:
    return [FIRST + timedelta(start + day) for day in range(n)]


def test_a_good_promotion_passes_its_probation_and_is_told_so_once(plant: Plant) -> None:
    for night in _nights(3):
        plant.live(night)
    plant.light = 2.0
    assert plant.live(FIRST + timedelta(3)).retrain == {"id": 1, "state": "promoted"}
    outcomes = [plant.live(night, times=2).probation for night in _nights(7, start=4)]
    assert [each and each.outcome for each in outcomes] == ["watching"] * 4 + ["passed", None, None]
    assert plant.champion() == 2
    assert plant.told() == {"drift": 1, "promoted": 1, "probation_passed": 1}


def test_a_version_that_is_bad_on_live_data_is_rolled_back_within_one_night_and_exactly_once(plant: Plant) -> None:
    plant.learns[2] = 6.0  # it passed its gates, and is wrong all the same
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    assert plant.champion() == 2
    bad = plant.live(FIRST + timedelta(2), times=3)
    assert plant.champion() == 1
    assert bad.retrain is None
    assert plant.told()["rolled_back"] == 1
    assert plant.changes() == [
        ("deployed", 1, "halfsigma"),
        ("promoted", 2, "halfsigma"),
        ("rolled_back", 1, "halfsigma"),
    ]
    held = plant.live(FIRST + timedelta(3))
    assert (held.action, held.retrain) == ("alert", None)
    assert held.held_back is not None and held.held_back.startswith("cool-down")
    again = plant.live(FIRST + timedelta(4))
    assert again.retrain == {"id": 2, "state": "promoted"}
    assert plant.live(FIRST + timedelta(5)).probation.outcome == "watching"  # type: ignore[union-attr]
    assert plant.champion() == 3


def test_a_rollback_that_is_killed_after_it_moved_the_alias_is_finished_once_by_the_next_run(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.learns[2] = 6.0
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    move = plant.store.set_alias

    def move_and_die(line: str, alias: str, number: int | None) -> None:
        move(line, alias, number)
        if alias == "champion":
            raise KilledError

    monkeypatch.setattr(plant.store, "set_alias", move_and_die)
    with pytest.raises(KilledError):
        plant.live(FIRST + timedelta(2))
    monkeypatch.setattr(plant.store, "set_alias", move)
    plant.live(FIRST + timedelta(2), times=2)
    assert plant.champion() == 1
    assert plant.changes()[-1] == ("rolled_back", 1, "halfsigma")
    assert plant.told()["rolled_back"] == 1


def test_while_somebody_else_is_changing_the_champion_nothing_is_rolled_back_and_the_next_run_looks_again(
    plant: Plant,
) -> None:
    plant.learns[2] = 6.0
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        other = moves.begin(session, line, action="promoted", start=2, to=3, actor="bea", document={})
    contested = plant.live(FIRST + timedelta(2))
    assert contested.probation is not None
    assert contested.probation.outcome == "watching"
    assert "bea (promoted, version 3) is changing the champion" in contested.probation.reason
    assert plant.champion() == 2
    with plant.workspace.database.session() as session:
        moves.end(session, lines.get_line(session, LINE), other)
    plant.live(FIRST + timedelta(2))
    assert plant.champion() == 1


def test_what_a_person_promotes_again_after_that_is_the_persons_affair(plant: Plant) -> None:
    plant.learns[2] = 6.0
    plant.live(FIRST)
    plant.light = 2.0
    for night in _nights(2, start=1):
        plant.live(night)
    plant.promote(2)
    plant.live(FIRST + timedelta(3))
    assert plant.champion() == 2
    assert plant.told()["rolled_back"] == 1


def _reject(plant: Plant, night: date, version: int, n: int) -> None:
    """So many more images of the night, of usual scores, that the version rejected: the bulk and the tail stay."""
    with plant.workspace.database.session() as session:
        rows = [
            ScoreRow(
                sha256=f"{10**9 + k:064x}",
                name=f"more{k}.png",
                captured_at=lines.night_start(night, "UTC"),
                night=night,
                score=10.0,
                rejected=True,
            )
            for k in range(n)
        ]
        scores.log_scores(session, lines.get_line(session, LINE), version, rows)


def test_what_it_rejects_alone_rolls_a_version_back(plant: Plant) -> None:
    plant.live(FIRST)
    plant.add(0.0)
    plant.promote(2)
    _reject(plant, FIRST + timedelta(1), 2, 16)
    done = plant.live(FIRST + timedelta(1), times=2)
    assert (plant.champion(), done.retrain) == (1, None)
    entry = plant.changes()[-1]
    assert entry == ("rolled_back", 1, "halfsigma")


def test_a_version_that_rejects_less_than_what_it_replaced_stays_and_it_is_told(plant: Plant) -> None:
    plant.live(FIRST)
    plant.light = 3.0
    plant.live(FIRST + timedelta(1))  # version 1 rejects most of it
    _reject(plant, FIRST + timedelta(2), 2, 16)
    done = plant.live(FIRST + timedelta(2), times=2)
    assert done.probation is not None
    assert done.probation.outcome == "outside"
    assert plant.champion() == 2
    assert (plant.told()["rolled_back"], plant.told()["probation_outside"]) == (0, 1)


def test_the_lines_usual_defects_are_no_false_positives(plant: Plant) -> None:
    for night in _nights(4):
        _reject(plant, night, 1, 16)
        plant.live(night)
    plant.add(0.0)
    plant.promote(2)
    _reject(plant, FIRST + timedelta(4), 2, 16)
    done = plant.live(FIRST + timedelta(4))
    assert done.probation is not None
    assert done.probation.outcome == "watching"


def test_the_lines_usual_defects_are_known_although_the_replaced_version_judged_nothing(plant: Plant) -> None:
    for night in _nights(4):
        _reject(plant, night, 1, 16)
        plant.live(night)
    for number in (2, 3):  # the wrong one, and within the hour the right one
        plant.add(0.0)
        plant.promote(number)
    _reject(plant, FIRST + timedelta(4), 3, 16)
    done = plant.live(FIRST + timedelta(4))
    assert done.probation is not None
    assert (done.probation.outcome, plant.champion()) == ("watching", 3)


def test_to_a_version_that_never_judged_an_image_nothing_is_rolled_back_for_what_may_be_usual(plant: Plant) -> None:
    for number in (2, 3):
        plant.add(0.0)
        plant.promote(number)
    _reject(plant, FIRST, 3, 16)
    done = plant.live(FIRST, times=2)
    assert done.probation is not None
    assert (done.probation.outcome, plant.champion()) == ("outside", 3)
    assert "nobody knows how much this line usually rejects" in done.probation.reason
    assert plant.told()["probation_outside"] == 1


def test_an_earlier_nights_burst_of_defects_is_no_false_positive(plant: Plant) -> None:
    plant.live(FIRST)
    plant.add(0.0)
    plant.promote(2)
    _reject(plant, FIRST + timedelta(1), 2, 30)
    plant.photograph(FIRST + timedelta(1))
    _say(plant, FIRST + timedelta(1), "defect_burst", share=0.2)
    done = plant.live(FIRST + timedelta(2))
    assert done.probation is not None
    assert (done.probation.outcome, plant.champion()) == ("watching", 2)


def test_what_was_rejected_while_the_camera_was_at_fault_says_nothing_of_the_version(plant: Plant) -> None:
    plant.live(FIRST)
    plant.add(0.0)
    plant.promote(2)
    _reject(plant, FIRST + timedelta(1), 2, 60)
    _say(plant, FIRST + timedelta(1), "sensor_fault")
    done = plant.live(FIRST + timedelta(2))
    assert done.probation is not None
    assert (done.probation.outcome, done.probation.night_of_probation, plant.champion()) == ("watching", 1, 2)


def test_a_version_that_a_person_promotes_again_is_not_judged_by_its_earlier_nights(plant: Plant) -> None:
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))  # version 1 rejects much of it, and is replaced
    assert plant.champion() == 2
    plant.light = 0.0  # the lamp is mended
    plant.promote(1)
    done = plant.live(FIRST + timedelta(2))
    assert done.probation is not None
    assert (done.probation.outcome, done.probation.night_of_probation, plant.champion()) == ("watching", 1, 1)


def test_where_nothing_says_what_to_go_back_to_a_person_is_told(plant: Plant) -> None:
    plant.live(FIRST)
    plant.add(6.0)
    plant.promote(2)
    plant.store.set_alias(LINE, "previous", None)  # in the MLflow UI
    done = plant.live(FIRST + timedelta(1))
    assert done.probation is not None
    assert done.probation.outcome == "outside"
    assert "no previous version" in done.probation.reason
    assert plant.told()["probation_outside"] == 1


def _say(plant: Plant, night: date, verdict: str, *, share: float = 0.0) -> None:
    """As if the night's check had said so."""
    found = check_line(plant.workspace, LINE, night=night)
    document = {**found.verdict.to_dict(), "verdict": verdict, "defect_share": share}
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        checks.record_checks(session, [NewCheck(line.id, found.version, night, verdict, document)])


def test_a_line_that_drifts_every_night_is_reported_as_a_fault_and_not_retrained_every_night(plant: Plant) -> None:
    plant.configure(retrain_budget=4)
    plant.live(FIRST)
    retrained = []
    for number, night in enumerate(_nights(60, start=1)):
        plant.light = 3.0 * (number % 7 + 1)  # another light every night
        done = plant.live(night)
        if done.retrain is not None:
            retrained.append(night)
        plant.champion()
    for night in retrained:
        assert sum(night <= other < night + timedelta(watching.BUDGET_NIGHTS) for other in retrained) <= 4
    assert 4 <= len(retrained) <= 8
    assert 1 <= plant.told()["restless_line"] <= 3
    rolled_back = [version for action, version, _ in plant.changes() if action == "rolled_back"]
    assert len(rolled_back) == plant.told()["rolled_back"] <= len(retrained)


def test_a_person_may_ask_for_a_retrain_in_spite_of_the_budget(plant: Plant) -> None:
    plant.configure(retrain_budget=1, cooldown_nights=0, probation_nights=0)
    plant.live(FIRST)
    for day in (1, 2):
        plant.light = 3.0 * day
        plant.live(FIRST + timedelta(day))
    assert plant.champion() == 2
    with plant.workspace.database.session() as session:
        line = lines.get_line(session, LINE)
        asked = retrains.request(session, line, night=FIRST + timedelta(2), base_version=2, reason="a person asked")
    assert watching.held_back(plant.workspace, LINE, night=FIRST + timedelta(2), base_version=2) is None
    assert asked.state == "requested"


@pytest.mark.parametrize(("learned", "state", "champion"), [(2.0, "promoted", 2), (6.0, "rejected", 1)])
def test_a_challenger_in_shadow_is_judged_by_its_own_live_nights(
    plant: Plant, learned: float, state: str, champion: int
) -> None:
    plant.learns[2] = learned
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="shadow", counted={"shadow_nights": 2})
    plant.live(FIRST)
    plant.light = 2.0
    states = [plant.live(night, times=2).retrain for night in _nights(3, start=1)]
    assert [each and each["state"] for each in states] == ["shadow", "shadow", state]
    assert plant.champion() == champion
    with plant.workspace.database.session() as session:
        row = retrains.get(session, 1)
    assert {gate["name"] for gate in row.document["live_gates"]} >= {"live_false_positives", "live_shift_sd"}
    assert len(row.document["shadow_nights"]) == 2


def test_a_shadow_of_nights_with_hardly_an_image_proves_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="shadow", counted={"shadow_nights": 1})
    plant.live(FIRST)
    plant.light = 2.0
    assert plant.live(FIRST + timedelta(1), times=2).retrain == {"id": 1, "state": "shadow"}
    monkeypatch.setattr("tests.flows.simulated_plant.N_NIGHT", 5)
    for night in _nights(2, start=2):
        plant.live(night)
        assert plant.champion() == 1
    monkeypatch.setattr("tests.flows.simulated_plant.N_NIGHT", 120)
    told = plant.live(FIRST + timedelta(4)).retrain
    assert told and told["state"] == "promoted"


def test_of_several_shadow_nights_a_drift_outweighs_a_last_one_without_images(plant: Plant) -> None:
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    drifted, quiet = (check_line(plant.workspace, LINE, night=FIRST + timedelta(day)).verdict for day in (1, 0))
    empty = replace(quiet, kind="insufficient")
    assert live.that_speaks([drifted, quiet, empty]) is drifted
    assert live.that_speaks([quiet, empty]) is quiet
    assert live.that_speaks([empty]) is empty


def test_a_person_who_promotes_the_challenger_in_shadow_ends_its_shadow(plant: Plant) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="shadow")
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    plant.store.set_alias(LINE, "champion", 2)
    with plant.workspace.database.session() as session:
        lines_row = lines.get_line(session, LINE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(following, "unusable", lambda *_, **__: None)
            following.follow(session, lines_row, plant.store, cache=plant.workspace.cache)  # type: ignore[arg-type]
        assert retrains.get(session, 1).state == "promoted"
    assert plant.champion() == 2


def test_a_challenger_that_learned_what_people_call_a_defect_now_is_not_deployed_and_learned_again(
    plant: Plant,
) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="manual")
    plant.live(FIRST)
    plant.light = 2.0
    night = FIRST + timedelta(1)
    plant.live(night)
    plant.vetoed = ["ab" * 32]
    with pytest.raises(RegistryError, match="version 2 .* is not promoted: it learned from 1 images"):
        promote_version(plant.workspace, LINE, None)
    again = request_retrain(plant.workspace, LINE, night=night, base_version=1, reason="a person asked for it")
    assert (again.id, again.state, again.new_version, again.document) == (1, "requested", None, {})
    assert plant.store.pointing == {"champion": 1}
    assert plant.told() == {"drift": 1, "challenger_waits": 1, "challenger_rejected": 1}
    plant.vetoed = []
    plant.retrain(LINE, night, 1, "a person asked for it")
    assert promote_version(plant.workspace, LINE, None)["champion"] == 3


def test_a_challenger_that_was_taken_back_for_what_it_learned_is_not_promoted_by_its_number(plant: Plant) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="manual")
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    plant.promote(plant.add(2.0))  # another one, by a person: the challenger is out of the race
    assert plant.store.pointing == {"champion": 3, "previous": 1}
    plant.vetoed = ["ab" * 32]
    with pytest.raises(RegistryError, match="version 2 .* is not promoted: it learned from 1 images"):
        promote_version(plant.workspace, LINE, 2)
    assert promote_version(plant.workspace, LINE, 1)["champion"] == 1  # what was champion may be so again


def test_a_shadow_ends_with_a_person_where_the_policy_became_manual_meanwhile(plant: Plant) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="shadow", counted={"shadow_nights": 1})
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="manual")
    settled = plant.live(FIRST + timedelta(2)).retrain
    assert settled is not None
    assert (settled["state"], settled["reason"]) == ("waiting", "policy manual: a person promotes")
    assert plant.champion() == 1
    assert plant.told()["challenger_waits"] == 1


def test_a_shadow_that_learned_a_defect_ends_rejected(plant: Plant) -> None:
    with plant.workspace.database.session() as session:
        lines.update_line(session, lines.get_line(session, LINE), policy="shadow", counted={"shadow_nights": 1})
    plant.live(FIRST)
    plant.light = 2.0
    plant.live(FIRST + timedelta(1))
    plant.vetoed = ["ab" * 32]
    settled = plant.live(FIRST + timedelta(2)).retrain
    assert settled is not None
    assert settled["state"] == "rejected"
    assert "people call defects" in settled["reason"]
    assert plant.champion() == 1


@pytest.mark.parametrize("policy", ["auto", "shadow"])
def test_where_two_people_are_asked_for_no_policy_promotes_and_the_second_does(plant: Plant, policy: str) -> None:
    with plant.workspace.database.session() as session:
        counted = {"approvals": 2, "shadow_nights": 1}
        lines.update_line(session, lines.get_line(session, LINE), policy=policy, counted=counted)
    plant.live(FIRST)
    plant.light = 2.0
    for night in _nights(2, start=1):
        plant.live(night)
    assert plant.champion() == 1
    first = promote_version(plant.workspace, LINE, None, by="ann")
    assert (first["state"], first["approved_by"], first["champion"]) == ("approved", ["ann"], 1)
    assert promote_version(plant.workspace, LINE, None, by="ann")["state"] == "approved"
    second = promote_version(plant.workspace, LINE, None, by="bea")
    assert (second["state"], second["champion"], second["challenger"]) == ("promoted", 2, None)
    assert plant.changes()[-1] == ("promoted", 2, "ann and bea")
    with plant.workspace.database.session() as session:
        assert retrains.get(session, 1).state == "promoted"
