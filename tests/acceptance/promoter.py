"""A process that promotes: reads a job a line on stdin, answers with a line on stdout.

A job is {"version": N, "replaces": N, "die": POINT or null}: with a point, this process is killed by SIGKILL there.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from flows.settings import Settings
from flows.workspace import open_workspace
from halfsigma import HalfsigmaError
from registry import lines, promotion
from registry.store import MlflowStore

move = MlflowStore.set_alias


def arm(point: str) -> None:
    """Die right after that alias moved in MLflow."""

    def move_and_die(self: MlflowStore, line: str, alias: str, number: int | None) -> None:
        move(self, line, alias, number)
        if alias == point:
            os.kill(os.getpid(), signal.SIGKILL)

    MlflowStore.set_alias = move_and_die  # type: ignore[method-assign]


def main(line: str, name: str) -> None:
    with open_workspace(Settings.from_environment()) as workspace:
        workspace.store.aliases(line)  # MLflow is imported before anybody is asked to be quick
        print("ready", flush=True)
        for text in sys.stdin:
            job = json.loads(text)
            if job["die"]:
                arm(job["die"])
            try:
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
                answer = "promoted"
            except HalfsigmaError as error:
                answer = f"{type(error).__name__}: {error.message}"
            print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
