"""Where every line stands: what is deployed, what was found last, what waits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy.orm import Session

from flows.workspace import Workspace
from halfsigma import StoreError, UnknownVersion
from registry import champions, checks, deployment, following, lines, retrains
from registry.deployment import Deployment
from registry.tables import Line, NightCheck, Retrain


def status(workspace: Workspace, line_name: str | None) -> list[dict[str, Any]]:
    """The contract's document of one line, or of all.

    What a person moved in the MLflow UI is followed on the way; while MLflow is away, what it said last is shown, with
    ``mlflow`` telling so; MLflow is asked once for all of them.

    Raises:
        UnknownLine: there is no such line.
    """
    with workspace.database.session() as session:
        shown = lines.list_lines(session) if line_name is None else [lines.get_line(session, line_name)]
    moved = champions.moved_lines(workspace.database, workspace.store, shown)
    with workspace.database.session() as session:
        followed = {line.id: _followed(workspace, session, line, moved) for line in shown}
        aliases = lines.all_aliases(session)
        last_checks, last_retrains = checks.latest_checks(session), retrains.latest_retrains(session)
        return [
            _document(
                line,
                Deployment.of(aliases.get(line.id, {})),
                last_checks.get(line.id),
                last_retrains.get(line.id),
                followed=followed[line.id],
            )
            for line in shown
        ]


def _followed(workspace: Workspace, session: Session, line: Line, moved: Collection[str] | None) -> str:
    """``followed``, ``away``, or why the line cannot be: one line's fault hides no other."""
    if line.detector == deployment.FOREIGN:
        return "followed"
    if moved is None:
        return "away"
    try:
        if line.name in moved:
            following.follow(session, line, workspace.store, cache=workspace.cache)
    except StoreError:
        return "away"
    except UnknownVersion as error:
        return error.message
    return "followed"


def _document(
    line: Line, deployed: Deployment, check: NightCheck | None, retrain: Retrain | None, *, followed: str
) -> dict[str, Any]:
    return {
        "line": line.name,
        "detector": line.detector,
        "champion": deployed.champion,
        "challenger": deployed.challenger,
        "previous": deployed.previous,
        "policy": line.policy,
        "mlflow": followed,
        "last_check": check.document if check else None,
        "last_retrain": None
        if retrain is None
        else {
            "id": retrain.id,
            "night": retrain.night.isoformat(),
            "state": retrain.state,
            "reason": retrain.reason,
            "base_version": retrain.base_version,
            "new_version": retrain.new_version,
        },
    }
