"""A process that promotes: reads a job a line on stdin, answers with a line on stdout.

A job is {"version": N, "replaces": N, "die": POINT}: with a point, this process is killed by SIGKILL there; or
{"policy": P, "retrain": ID, "night": …}: the promotion that is missing of a retrain under that policy.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import date, timedelta
from typing import Any

from flows.challenger import run_step
from flows.deploying import promote_version
from flows.settings import Settings
from flows.watching import settle_shadow
from flows.workspace import Workspace, open_workspace
from halfsigma import HalfsigmaError
from registry import lines, promotion, retrains
from registry.store import MlflowStore

move = MlflowStore.set_alias


def promote_pending(workspace: Workspace, line: str, *, policy: str, retrain: int, by: str, night: date) -> None:
    """Promote a retrain's version: by the retrain's last step, by a person, or by the run of the shadow's last night."""
    if policy == "auto":
        run_step(workspace, retrain)
    elif policy == "manual":
        with workspace.database.session() as session:
            number = retrains.get(session, retrain).new_version
        promote_version(workspace, line, number, by=by)
    else:
        with workspace.database.session() as session:
            n_nights = lines.get_line(session, line).shadow_nights
        settle_shadow(workspace, line, night=night + timedelta(n_nights))


def arm(point: str) -> None:
    """Die right after that alias moved in MLflow."""

    def move_and_die(self: MlflowStore, line: str, alias: str, number: int | None) -> None:
        move(self, line, alias, number)
        if alias == point:
            os.kill(os.getpid(), signal.SIGKILL)

    MlflowStore.set_alias = move_and_die  # type: ignore[method-assign]


def _do(workspace: Workspace, line: str, name: str, job: dict[str, Any]) -> None:
    if "policy" in job:
        night = date.fromisoformat(job["night"])
        promote_pending(workspace, line, policy=job["policy"], retrain=job["retrain"], by=name, night=night)
        return
    if "die" in job:
        arm(job["die"])
    with workspace.database.session() as session:
        promotion.promote(
            session,
            lines.get_line(session, line),
            workspace.store,
            job["version"],
            replaces=job["replaces"],
            actor=name,
            document={"reason": f"{name} wants {job['version']}"},
            cache=workspace.cache,
        )


def main(line: str, name: str) -> None:
    with open_workspace(Settings.from_environment()) as workspace:
        workspace.store.aliases(line)  # MLflow is imported before anybody is asked to be quick
        print("ready", flush=True)
        for text in sys.stdin:
            try:
                _do(workspace, line, name, json.loads(text))
                answer = "promoted"
            except HalfsigmaError as error:
                answer = f"{type(error).__name__}: {error.message}"
            print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
