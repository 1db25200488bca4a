"""Policies, people and races against a real MLflow server: never two champions, never none, never an unaudited change."""

from __future__ import annotations

import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flows.watching import settle_shadow
from halfsigma import StoreError
from registry import deployment, lines, promotion
from registry.deployment import Deployment
from registry.new_version import model_name
from registry.store import TAG_RESTORED
from tests.acceptance.conftest import AWAY_S
from tests.acceptance.mlflow_server import Server
from tests.acceptance.plant import NIGHT, Plant
from tests.acceptance.promoter_process import PromoterProcess
from tests.acceptance.station import Station

pytestmark = pytest.mark.acceptance


def test_a_line_that_was_fitted_at_a_server_judges_its_first_night_without_it(
    server: Server, good_folder: Path, tmp_path: Path
) -> None:
    """By commands; each prints its document and nothing beside it, although MLflow likes to tell of runs at a server."""
    station = Station(tmp_path / "home", MLFLOW_TRACKING_URI=server.url)
    assert station("fit", "fitted_only", "--good", good_folder, "--detector", "padim")["version"] == 1
    server.stop()
    try:
        judged = station("ingest", "fitted_only", good_folder, "--night", "2026-11-23")
    finally:
        server.start()
    assert (judged["version"], judged["n_new"]) == (1, len(list(good_folder.iterdir())))


def test_auto_promotes_what_passed_its_gates(plant: Plant) -> None:
    retrain = plant.retrain("auto")
    assert plant.in_mlflow() == {"champion": 2, "previous": 1}
    assert plant.state_of(retrain) == "promoted"
    (entry,) = plant.entries("promoted")
    assert (entry.actor, entry.document["reason"], entry.document["retrain"]) == ("halfsigma", "the lamp aged", retrain)


def test_manual_waits_until_a_person_moves_the_alias_in_mlflow(plant: Plant) -> None:
    retrain = plant.retrain("manual")
    assert plant.in_mlflow() == {"champion": 1, "challenger": 2}
    assert plant.state_of(retrain) == "waiting"
    plant.person.set_registered_model_alias(model_name(plant.line), "champion", "2")
    assert plant.follow() == plant.follow() == Deployment(2, 1, None)
    assert plant.in_mlflow() == {"champion": 2, "previous": 1}
    assert plant.state_of(retrain) == "promoted"
    assert [entry.actor for entry in plant.entries("promoted")] == [deployment.SOMEBODY]
    assert plant.told() == ["challenger_waits", "promoted"]


@pytest.mark.parametrize(
    ("shift_sd", "state", "aliases"),
    [(0.0, "promoted", {"champion": 2, "previous": 1}), (3.0, "rejected", {"champion": 1})],
)
def test_shadow_scores_along_for_its_nights_and_is_then_judged_by_them(
    plant: Plant, shift_sd: float, state: str, aliases: dict[str, int]
) -> None:
    retrain = plant.retrain("shadow")
    assert plant.in_mlflow() == {"champion": 1, "challenger": 2}
    for days in range(1, 4):
        night = NIGHT + timedelta(days)
        assert plant.state_of(retrain) == "shadow"
        plant.log_night(1, night, shift_sd=5.0, shadow=False)
        plant.log_night(2, night, shift_sd=shift_sd, shadow=True)
        for _ in range(2):
            settle_shadow(plant.workspace, plant.line, night=night)
    assert plant.state_of(retrain) == state
    assert plant.in_mlflow() == aliases
    last = {"promoted": "promoted", "rejected": "challenger_rejected"}[state]
    assert plant.told() == ["challenger_in_shadow", last]
    assert {gate["name"] for gate in plant.entries(last)[0].document["live_gates"]} == {
        "live_false_positives",
        "live_shift_sd",
    }


def test_an_alias_that_a_person_deletes_or_points_at_strange_files_is_put_back_with_the_reason(plant: Plant) -> None:
    name = model_name(plant.line)
    plant.person.delete_registered_model_alias(name, "champion")
    assert plant.follow() == plant.follow() == Deployment(1, None, None)
    run = plant.person.get_run(plant.person.get_model_version(name, "1").run_id)
    strange = plant.person.create_model_version(
        name, source=f"{run.info.artifact_uri}/reference", run_id=run.info.run_id
    )
    plant.person.set_registered_model_alias(name, "champion", strange.version)
    assert plant.champion() == plant.champion() == 1
    taken, altered = plant.entries("champion_put_back")
    assert taken.document == {"found": None, "reason": "the alias was taken away"}
    assert altered.document["found"] == 2
    assert "holds 0 manifests" in altered.document["reason"]
    assert plant.told() == ["champion_put_back"] * 2


def test_a_deleted_champion_comes_back_under_a_new_number(plant: Plant) -> None:
    before = plant.workspace.load(plant.line, 1)
    plant.person.delete_model_version(model_name(plant.line), "1")
    assert plant.in_mlflow() == {}
    assert plant.champion() == plant.champion() == 2
    assert plant.in_mlflow() == {"champion": 2}
    assert plant.person.get_model_version(model_name(plant.line), "2").tags[TAG_RESTORED] == "1"
    assert plant.workspace.load(plant.line, 2).threshold == before.threshold
    assert plant.told() == ["champion_restored"]


def test_while_the_server_is_away_the_line_goes_on_and_no_promotion_half_happens(plant: Plant, server: Server) -> None:
    plant.add(1)
    server.stop()
    try:
        for _ in range(3):
            time.sleep(AWAY_S)
            assert plant.champion() == 1
            with pytest.raises(StoreError), plant.workspace.database.session() as session:
                promotion.promote(
                    session,
                    lines.get_line(session, plant.line),
                    plant.workspace.store,
                    2,
                    replaces=1,
                    actor="ann",
                    document={},
                    cache=plant.workspace.cache,
                )
        assert plant.told() == []
    finally:
        server.start()
    time.sleep(AWAY_S)
    plant.person.set_registered_model_alias(model_name(plant.line), "champion", "2")
    assert plant.champion() == 2
    assert plant.told() == ["promoted"]


def test_of_two_promoters_at_once_one_wins_and_the_other_is_told_and_one_that_is_killed_is_named(plant: Plant) -> None:
    for seed in (1, 2):
        plant.add(seed)
    promoters = {name: PromoterProcess(plant.workspace.settings, plant.line, name) for name in ("ann", "bea")}
    try:
        assert {each.said() for each in promoters.values()} == {"ready"}
        champion = 1
        for _ in range(4):
            wanted = dict(zip(promoters, sorted({1, 2, 3} - {champion}), strict=True))
            for name, promoter in promoters.items():
                promoter.ask(version=wanted[name], replaces=champion)
            said = {name: promoter.said() for name, promoter in promoters.items()}
            (winner,) = [name for name, answer in said.items() if answer == "promoted"]
            (loser,) = [answer for answer in said.values() if answer != "promoted"]
            assert loser.startswith("IllegalTransition: ")
            assert (
                f"{winner} (promoted, version {wanted[winner]})" in loser or "became champion in the meantime" in loser
            )
            champion = wanted[winner]
            plant.assert_whole()
            assert plant.entries("promoted")[-1].actor == winner
        assert len(plant.entries("promoted")) == 4

        wanted_last = min({1, 2, 3} - {champion})
        promoters["ann"].ask(version=wanted_last, replaces=champion, die="champion")
        assert promoters["ann"].exit_status() == -signal.SIGKILL
        assert plant.follow().champion == wanted_last
        assert plant.entries("promoted")[-1].actor == "ann"
        assert plant.entries("promoted")[-1].document["reason"] == f"ann wants {wanted_last}"
    finally:
        for promoter in promoters.values():
            promoter.kill()
