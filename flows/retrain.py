"""The retrain flow: curate, fit, gate, register and conclude, each a task that can be killed and run again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.artifacts import show_retrain
from flows.challenger import fail_retrain, next_step, request_retrain, run_step
from flows.history import publish_history
from flows.progress import current_progress
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from halfsigma import DatabaseError, HalfsigmaError, IllegalTransition, StoreError
from registry import retrains
from registry.tables import Retrain

RETRIES = 2
RETRY_DELAYS_S = [5.0, 30.0]
"""A registry or database that is being restarted is back within a minute; after that the next night tries again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a retrain stands."""

    id: int
    state: str
    reason: str
    base_version: int
    new_version: int | None
    document: dict[str, Any]

    @classmethod
    def of(cls, retrain: Retrain) -> Outcome:
        return cls(
            retrain.id, retrain.state, retrain.reason, retrain.base_version, retrain.new_version, dict(retrain.document)
        )

    def to_dict(self) -> dict[str, Any]:
        """The contract's document of a retrain."""
        return {
            "id": self.id,
            "state": self.state,
            "reason": self.reason,
            "base_version": self.base_version,
            "new_version": self.new_version,
            "gates": self.document.get("gates", []),
            "curation": self.document.get("curation"),
        }


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
        row = request_retrain(workspace, line_name, night=night, base_version=base_version, reason=reason)
        while (step := next_step(row.state)) is not None:
            try:
                row = step_task(workspace, row.id, step)
            except IllegalTransition:  # another process took this step: it goes on with the retrain, this one does not
                with workspace.database.session() as session:
                    row = retrains.get(session, row.id)
                break
            except HalfsigmaError as error:
                row = fail_retrain(workspace, row.id, reason=error.message)
            except Exception as error:  # noqa: BLE001  # one line's fault must neither end the night nor hold its retrain
                get_run_logger().exception("%s: the step %r failed", line_name, step)
                row = fail_retrain(
                    workspace, row.id, reason=f"step {step!r}: unexpected {type(error).__name__}: {error}"
                )
        if row.state == "promoted":
            publish_history(workspace, line_name)
        outcome = Outcome.of(row)
        show_retrain(line_name, outcome.to_dict())
        return outcome.to_dict()
