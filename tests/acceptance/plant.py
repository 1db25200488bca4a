"""One line at a real MLflow server, and the people and processes that want to change its champion."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from mlflow import MlflowClient

from detectors.artifact import save_version
from detectors.version import DetectorVersion
from flows.challenger import run_step
from flows.workspace import Workspace
from registry import audit, deployment, following, history, lines, outbox, promotion, retrains, scores
from registry.deployment import Deployment
from registry.new_version import NewVersion, model_name
from registry.scores import ScoreRow
from tests.acceptance.promoter import promote_pending

NIGHT = date(2026, 11, 23)
SHADOW_NIGHTS = 3
"""What a line asks for by default."""


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
        retrain = self.register_retrain(policy)
        run_step(self.workspace, retrain)
        return retrain

    def register_retrain(self, policy: str, *, base: int = 1, night: date = NIGHT) -> int:
        """A retrain that passed its gates and is registered, its policy not applied yet."""
        number = self.add(night.toordinal(), base=base)
        with self.workspace.database.session() as session:
            line = lines.update_line(session, lines.get_line(session, self.line), policy=policy)
            row = retrains.request(session, line, night=night, base_version=base, reason="the lamp aged")
            for start, to in (("requested", "curated"), ("curated", "fitted"), ("fitted", "gated")):
                retrains.advance(session, row.id, start=start, to=to, document={"gates": []})
            retrains.advance(session, row.id, start="gated", to="registered", new_version=number)
        return row.id

    def bring_to_the_brink(self, policy: str, *, base: int = 1, night: date = NIGHT) -> int:
        """A retrain of which only the promotion is missing: by the system, by a person, or by the shadow's last night."""
        retrain = self.register_retrain(policy, base=base, night=night)
        if policy != "auto":
            run_step(self.workspace, retrain)
        if policy == "shadow":
            number = self.in_mlflow()["challenger"]
            for days in range(1, SHADOW_NIGHTS + 1):
                self.log_night(base, night + timedelta(days), shift_sd=0.0, shadow=False)
                self.log_night(number, night + timedelta(days), shift_sd=0.0, shadow=True)
        return retrain

    def promote_pending(self, policy: str, retrain: int, *, by: str = "ann", night: date = NIGHT) -> None:
        """The step that is missing then, as whoever takes it."""
        promote_pending(self.workspace, self.line, policy=policy, retrain=retrain, by=by, night=night)

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
            return following.follow(session, line, self.workspace.store, cache=self.workspace.cache)

    def champion(self) -> int:
        with self.workspace.database.session() as session:
            line = lines.get_line(session, self.line)
            return following.champion_of(session, line, self.workspace.store, cache=self.workspace.cache)

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
