"""Policies, people and races against a real MLflow server: never two champions, never none, never an unaudited change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from detectors.artifact import save_version
from detectors.version import DetectorVersion
from flows.challenger import run_step
from flows.settings import Settings
from flows.watching import settle_shadow
from flows.workspace import Workspace
from halfsigma import StoreError
from registry import audit, deployment, history, lines, outbox, promotion, retrains, scores
from registry.database import open_database
from registry.deployment import Deployment
from registry.scores import ScoreRow
from registry.store import TAG_RESTORED, MlflowStore, NewVersion, model_name
from tests.acceptance.mlflow_server import Server

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
NIGHT = date(2026, 11, 23)
AWAY_S = 0.2
"""Instead of half a minute: how long a failed look at MLflow stands."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("mlflow"))
    running.start()
    yield running
    running.stop()


class Plant:
    """One line at that server, with a person who has MLflow's own client."""

    def __init__(self, workspace: Workspace, line: str, version: DetectorVersion) -> None:
        self.workspace, self.line = workspace, line
        self.person = MlflowClient(tracking_uri=workspace.settings.tracking_uri)
        self._version = version

    def add(self, seed: int, *, base: int | None = None) -> int:
        """Register another version: the same scores, another manifest."""
        folder = self.workspace.work_folder("made") / f"{self.line}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        save_version(replace(self._version, provenance={**self._version.provenance, "seed": seed}), folder)
        new = NewVersion(folder, "fit" if base is None else "retrain", base_version=base)
        number = self.workspace.store.register(self.line, new)
        with self.workspace.database.session() as session:
            line = lines.find_line(session, self.line) or lines.create_line(session, self.line, detector="patchcore")
            tags = self.workspace.store.tags(self.line, number)
            deployment.mirror_version(session, line, number, folder, tags)
        self.workspace.store.fetch(self.line, number, cache=self.workspace.cache)
        return number

    def deploy_first(self) -> None:
        number = self.add(0)
        with self.workspace.database.session() as session:
            promotion.deploy_first(session, lines.get_line(session, self.line), self.workspace.store, number)

    def retrain(self, policy: str) -> int:
        """A retrain of version 1 that passed its gates and is registered as version 2, concluded under the policy."""
        number = self.add(1, base=1)
        with self.workspace.database.session() as session:
            line = lines.update_line(session, lines.get_line(session, self.line), policy=policy)
            row = retrains.request(session, line, night=NIGHT, base_version=1, reason="the lamp aged")
            for start, to in (("requested", "curated"), ("curated", "fitted"), ("fitted", "gated")):
                retrains.advance(session, row.id, start=start, to=to, document={"gates": []})
            retrains.advance(session, row.id, start="gated", to="registered", new_version=number)
        run_step(self.workspace, row.id)
        return row.id

    def log_night(self, number: int, night: date, *, shift_sd: float, shadow: bool, n: int = 60) -> None:
        """Scores as if the version had judged a night, so far from its reference."""
        reference = self._version.reference_scores
        bulk = np.sort(reference)[len(reference) // 10 : -len(reference) // 10]
        drawn = np.random.default_rng(night.toordinal()).choice(bulk, n) + shift_sd * reference.std(ddof=1)
        start = lines.night_start(night, "UTC")
        rows = [
            ScoreRow(
                sha256=f"{night.toordinal() * 1000 + k:064x}",
                name=f"{k}.png",
                captured_at=start,
                night=night,
                score=float(score),
                rejected=bool(score > self._version.threshold.value),
                shadow=shadow,
            )
            for k, score in enumerate(drawn)
        ]
        with self.workspace.database.session() as session:
            scores.log_scores(session, lines.get_line(session, self.line), number, rows)

    def state_of(self, retrain: int) -> str:
        with self.workspace.database.session() as session:
            return retrains.get(session, retrain).state

    def follow(self) -> Deployment:
        with self.workspace.database.session() as session:
            line = lines.get_line(session, self.line)
            return deployment.follow(session, line, self.workspace.store, cache=self.workspace.cache)

    def champion(self) -> int:
        with self.workspace.database.session() as session:
            line = lines.get_line(session, self.line)
            return deployment.champion_of(session, line, self.workspace.store, cache=self.workspace.cache)

    def in_mlflow(self) -> dict[str, int]:
        """As MLflow's own client tells it."""
        found = self.person.get_registered_model(model_name(self.line)).aliases
        return {alias: int(number) for alias, number in found.items()}

    def entries(self, *actions: str) -> list[Any]:
        with self.workspace.database.session() as session:
            return audit.history(session, lines.get_line(session, self.line), actions=actions or None)

    def told(self) -> list[str]:
        with self.workspace.database.session() as session:
            return [alert.kind for alert in outbox.list_alerts(session, line=lines.get_line(session, self.line))]

    def assert_whole(self) -> None:
        """One champion, the same in MLflow, in the mirror and at the end of an unbroken audit."""
        with self.workspace.database.session() as session:
            line = lines.get_line(session, self.line)
            mirrored = lines.aliases(session, line)
            changes = history.deployments(session, line)
        assert self.in_mlflow()["champion"] == mirrored["champion"] == changes[-1].version
        assert [change.replaced for change in changes] == [None, *(change.version for change in changes[:-1])]


@pytest.fixture
def plant(server: Server, tmp_path: Path, version: DetectorVersion, request: pytest.FixtureRequest) -> Iterator[Plant]:
    home = tmp_path / "home"
    home.mkdir()
    settings = Settings(home, f"sqlite:///{home / 'halfsigma.db'}", server.url)
    with open_database(settings.database_url) as database:
        line = f"line_{abs(hash(request.node.name)) % 10**8}"
        made = Plant(Workspace(settings, database, MlflowStore(server.url, away_s=AWAY_S)), line, version)
        made.deploy_first()
        yield made
        made.assert_whole()


def test_a_command_at_a_server_prints_one_document_and_nothing_beside_it(
    server: Server, good_folder: Path, tmp_path: Path
) -> None:
    home = {"HALFSIGMA_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": server.url}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "fit", "printed", "--good", str(good_folder), "--detector", "padim", "--json"],
        env={**{k: v for k, v in os.environ.items() if not k.startswith(("HALFSIGMA_", "MLFLOW_"))}, **home},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1


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


def _promoter(plant: Plant, name: str) -> subprocess.Popen[str]:
    """A process of its own, ready to promote."""
    settings = plant.workspace.settings
    addresses = {"HALFSIGMA_HOME": str(settings.home), "MLFLOW_TRACKING_URI": settings.tracking_uri}
    promoter = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("promoter.py")), plant.line, name],
        env={**os.environ, **addresses, "HALFSIGMA_DATABASE_URL": settings.database_url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert promoter.stdout is not None
    return promoter


def _ask(promoter: subprocess.Popen[str], version: int, *, replaces: int, die: str | None = None) -> None:
    assert promoter.stdin is not None
    promoter.stdin.write(json.dumps({"version": version, "replaces": replaces, "die": die}) + "\n")
    promoter.stdin.flush()


def _said(promoter: subprocess.Popen[str]) -> str:
    assert promoter.stdout is not None
    return promoter.stdout.readline().strip()


def test_of_two_promoters_at_once_one_wins_and_the_other_is_told_and_one_that_is_killed_is_named(plant: Plant) -> None:
    for seed in (1, 2):
        plant.add(seed)
    promoters = {name: _promoter(plant, name) for name in ("ann", "bea")}
    try:
        assert {_said(each) for each in promoters.values()} == {"ready"}
        champion = 1
        for _ in range(4):
            wanted = dict(zip(promoters, sorted({1, 2, 3} - {champion}), strict=True))
            for name, promoter in promoters.items():
                _ask(promoter, wanted[name], replaces=champion)
            said = {name: _said(promoter) for name, promoter in promoters.items()}
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
        _ask(promoters["ann"], wanted_last, replaces=champion, die="champion")
        assert promoters["ann"].wait(60) == -signal.SIGKILL
        assert plant.follow().champion == wanted_last
        assert plant.entries("promoted")[-1].actor == "ann"
        assert plant.entries("promoted")[-1].document["reason"] == f"ann wants {wanted_last}"
    finally:
        for promoter in promoters.values():
            promoter.kill()
            promoter.communicate()
