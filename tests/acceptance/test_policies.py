"""What may happen in the middle of a promotion, under each policy, against a real MLflow server."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta

import pytest

from halfsigma import IllegalTransition, StoreError
from registry import deployment, lines, retrains
from registry.new_version import model_name
from tests.acceptance.conftest import AWAY_S
from tests.acceptance.mlflow_server import Server
from tests.acceptance.plant import NIGHT, Plant
from tests.acceptance.promoter_process import PromoterProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("policy", ["auto", "manual", "shadow"])]

WHO = {"auto": deployment.SYSTEM, "manual": "ann", "shadow": deployment.SYSTEM}


def test_a_person_who_deploys_another_version_meanwhile_is_followed_and_the_pending_one_is_out(
    plant: Plant, policy: str
) -> None:
    retrain = plant.bring_to_the_brink(policy)
    other = plant.add(2)
    plant.person.set_registered_model_alias(model_name(plant.line), "champion", str(other))
    for _ in range(2):
        if policy != "manual":  # there it is the person who would promote, and she has decided otherwise
            with suppress(IllegalTransition):  # it is told that another version became champion
                plant.promote_pending(policy, retrain)
        assert plant.follow().champion == other
    assert plant.state_of(retrain) == "rejected"
    assert [(entry.actor, entry.version) for entry in plant.entries("promoted")] == [(deployment.SOMEBODY, other)]


def test_a_champion_that_is_deleted_meanwhile_is_restored_and_what_was_tried_against_it_is_out(
    plant: Plant, policy: str
) -> None:
    retrain = plant.bring_to_the_brink(policy)
    plant.person.delete_model_version(model_name(plant.line), "1")
    for _ in range(2):
        if policy != "manual":
            with suppress(IllegalTransition):
                plant.promote_pending(policy, retrain)
        assert plant.follow().champion == 3
    assert plant.state_of(retrain) == "rejected"
    assert plant.told().count("champion_restored") == 1
    assert plant.entries("promoted") == []


def test_a_champions_alias_that_is_deleted_meanwhile_is_put_back_and_the_pending_one_is_promoted(
    plant: Plant, policy: str
) -> None:
    retrain = plant.bring_to_the_brink(policy)
    plant.person.delete_registered_model_alias(model_name(plant.line), "champion")
    if policy == "shadow":  # the night's check looks first which version is deployed
        assert plant.champion() == 1
    plant.promote_pending(policy, retrain)
    assert plant.follow().champion == 2
    assert plant.state_of(retrain) == "promoted"
    assert [each for each in plant.told() if each.startswith(("champion", "promoted"))] == [
        "champion_put_back",
        "promoted",
    ]


def test_while_the_server_is_away_nothing_half_happens_and_when_it_is_back_it_is_done_once(
    plant: Plant, server: Server, policy: str
) -> None:
    retrain = plant.bring_to_the_brink(policy)
    before = plant.state_of(retrain)
    server.stop()
    try:
        for _ in range(2):
            time.sleep(AWAY_S)
            with pytest.raises(StoreError):
                plant.promote_pending(policy, retrain)
            assert plant.champion() == 1
        if policy == "shadow":  # it goes on scoring along
            assert plant.workspace.store.fetch(plant.line, 2, cache=plant.workspace.cache).is_dir()
        assert plant.state_of(retrain) == before
        assert plant.entries("promoted") == []
    finally:
        server.start()
    time.sleep(AWAY_S)
    for _ in range(2):
        plant.promote_pending(policy, retrain)
        assert plant.champion() == 2
    assert plant.state_of(retrain) == "promoted"
    assert [entry.actor for entry in plant.entries("promoted")] == [WHO[policy]]
    assert plant.told().count("promoted") == 1


def test_of_two_processes_that_promote_at_once_there_is_one_promotion_and_one_entry(plant: Plant, policy: str) -> None:
    processes = {name: PromoterProcess(plant.workspace.settings, plant.line, name) for name in ("ann", "bea")}
    try:
        assert {each.said() for each in processes.values()} == {"ready"}
        champion = 1
        for n_promoted in range(1, 4):
            night = NIGHT + timedelta(10 * n_promoted)
            retrain = plant.bring_to_the_brink(policy, base=champion, night=night)
            for each in processes.values():
                each.ask(policy=policy, retrain=retrain, night=night.isoformat())
            said = [each.said() for each in processes.values()]
            assert "promoted" in said
            assert all(answer == "promoted" or answer.startswith("IllegalTransition: ") for answer in said), said
            with plant.workspace.database.session() as session:
                row = retrains.get(session, retrain)
                mirrored = lines.aliases(session, lines.get_line(session, plant.line))
            assert (row.state, row.new_version) == ("promoted", mirrored["champion"])
            assert plant.in_mlflow() == {"champion": row.new_version, "previous": champion}
            assert len(plant.entries("promoted")) == plant.told().count("promoted") == n_promoted
            assert plant.entries("promoted")[-1].actor in ({"ann", "bea"} if policy == "manual" else {WHO[policy]})
            champion = row.new_version or 0
    finally:
        for each in processes.values():
            each.kill()
