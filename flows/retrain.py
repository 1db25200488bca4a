"""The retrain flow: curate, fit, gate, register and conclude, each a task that can be killed and run again."""

from __future__ import annotations

from datetime import date
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.artifacts import show_retrain
from flows.challenger import run_retrain, run_step
from flows.progress import current_progress
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from halfsigma import DatabaseError, StoreError
from registry.tables import Retrain

RETRIES = 2
RETRY_DELAYS_S = [5.0, 30.0]
"""A registry or database that is being restarted is back within a minute; after that the next night tries again."""


def may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only a store or database that is away gets better by waiting; an altered file does not."""
    try:
        state.result()
    except (StoreError, DatabaseError):
        return True
    except Exception:  # noqa: BLE001  # whatever else it was will be the same in a minute; Prefect wants a verdict, not an error
        return False
    return False


@task(
    name="retrain step",
    task_run_name="{step} #{retrain_id}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
    tags=["halfsigma-retrain"],
)
def step_task(workspace: Workspace, retrain_id: int, step: str) -> Retrain:
    """One step of one retrain; the tag carries the concurrency limit of the machine's memory."""
    return run_step(workspace, retrain_id, progress=current_progress())


@flow(name="retrain", flow_run_name="retrain {line_name} {night}")
def retrain(line_name: str, night: date, base_version: int, reason: str) -> dict[str, Any]:
    """Bring one retrain as far as it goes by itself.

    Args:
        line_name: of the line.
        night: whose images are learned from.
        base_version: the champion that would be replaced.
        reason: shown to people and kept in the audit.
    """
    with open_workspace(Settings.from_environment()) as workspace:
        outcome = run_retrain(
            workspace, line_name, night=night, base_version=base_version, reason=reason, run=step_task
        ).to_dict()
    show_retrain(line_name, outcome)
    return outcome
