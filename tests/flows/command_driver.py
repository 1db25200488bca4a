"""Run several commands in one real process, each as `halfsigma` runs it: reads a list of jobs on stdin, prints one answer
a job. Starting Python with all its libraries costs seconds; a command line that is tested by forty commands starts a
few times.

A job is {"argv": [...], "env": {...}} or {"steps": LINE, "night": …, "kill": POINT}: the retrain's steps without Prefect,
with this process killed by SIGKILL at that point.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import detectors.calibration


@contextmanager
def _captured(descriptor: int, into: Path) -> Iterator[None]:
    """Also what libraries in C write."""
    saved = os.dup(descriptor)
    with into.open("w") as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            (sys.stdout if descriptor == 1 else sys.stderr).flush()
            os.dup2(saved, descriptor)
            os.close(saved)


def run(argv: list[str], env: dict[str, str]) -> dict[str, Any]:
    """One command; what it left in the environment is taken back, as the end of a process would."""
    from flows.cli import main

    before = dict(os.environ)
    os.environ.update(env)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        try:
            with _captured(1, out), _captured(2, err):
                status = main(argv)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return {"argv": argv, "status": status, "out": out.read_text(), "err": err.read_text()}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: str) -> None:
    """Kill this process at one point of the retrain."""
    import mlflow

    import flows.refitting
    import flows.retrain_files
    from registry.store import MlflowStore

    if point == "between the two fits":
        save, saved = flows.refitting.save_version, []

        def save_and_die(version: Any, folder: Path) -> str:
            if saved:
                _die()
            saved.append(save(version, folder))
            return saved[0]

        flows.refitting.save_version = save_and_die
    elif point == "before the step is written":
        flows.retrain_files.advance = lambda *_: _die()
    elif point == "before the version is created":
        mlflow.MlflowClient.create_model_version = lambda *_, **__: _die()
    elif point == "before the version is mirrored":
        register = MlflowStore.register
        MlflowStore.register = lambda self, *given: (register(self, *given), _die())[0]
    elif point == "after the champion's alias moved":
        move = MlflowStore.set_alias

        def move_and_die(self: MlflowStore, line: str, alias: str, number: int | None) -> None:
            move(self, line, alias, number)
            if alias == "champion":
                _die()

        MlflowStore.set_alias = move_and_die


def steps(line: str, night: str, kill: str) -> dict[str, Any]:
    """The retrain flow without Prefect."""
    from flows.challenger import next_step, request_retrain, run_step
    from flows.settings import Settings
    from flows.workspace import open_workspace

    _arm(kill)
    with open_workspace(Settings.from_environment()) as workspace:
        row = request_retrain(workspace, line, night=date.fromisoformat(night), base_version=1, reason="drift")
        while next_step(row.state) is not None:
            row = run_step(workspace, row.id)
    return {"state": row.state}


if __name__ == "__main__":  # not when pytest imports it to look for doctests: it would hold for every test
    detectors.calibration.MIN_FOLDS = detectors.calibration.MAX_FOLDS = 2  # quick, and of no matter to the command line
    for job in json.load(sys.stdin):
        answer = (
            steps(job["steps"], job["night"], job["kill"]) if "steps" in job else run(job["argv"], job.get("env", {}))
        )
        print(json.dumps(answer), flush=True)
