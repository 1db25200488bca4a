"""What a person says of a line: promote, roll back, configure."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy.orm import Session

from flows import vetoes
from flows.history import publish_history
from flows.workspace import Workspace
from halfsigma import IllegalTransition, RegistryError, UnknownVersion, UsageError
from registry import approval, audit, deployment, following, lines, moves, promotion, retrains, scores
from registry.deployment import Deployment
from registry.tables import Line


def promote_version(
    workspace: Workspace, line_name: str, number: int | None, *, by: str | None = None
) -> dict[str, Any]:
    """Promote ``number``, or the challenger, by a person's name, by default the user's.

    Where the line asks for several people, it is promoted by the last of them; until then the state is ``approved``.

    Raises:
        UnknownVersion: there is no such version, or no challenger.
        RegistryError: a retrain made it of images that people have called defects since.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        deployed = following.follow(session, line, workspace.store, cache=workspace.cache)
        wanted = number if number is not None else deployed.challenger
        if wanted is None:
            raise UnknownVersion(
                f"line {line_name!r} has no challenger to promote",
                hint=f"name a version: halfsigma promote {line_name} --version N",
            )
        _refuse_vetoed(workspace, session, line, wanted)
        person = _person() if by is None else " ".join(by.split())
        if not person:
            raise UsageError("the name of who promotes is empty", hint="halfsigma promote LINE --by NAME")
        people = [person]
        if line.approvals > 1 and wanted != deployed.champion:
            lines.get_version(session, line, wanted)
            people = approval.approve(session, line, wanted, replaces=deployed.champion, person=person)
            if len(people) < line.approvals:
                return {**_document(line_name, deployed, state="approved"), "approved_by": people, "of": line.approvals}
        after = promotion.promote(
            session,
            line,
            workspace.store,
            wanted,
            replaces=deployed.champion,
            actor=" and ".join(people),
            document={"reason": "a person asked for it", "people": people},
            cache=workspace.cache,
        )
    publish_history(workspace, line_name)
    return _document(line_name, after, state="promoted")


def roll_back(workspace: Workspace, line_name: str) -> dict[str, Any]:
    """Restore the previous champion; a rollback that was interrupted is finished, and not followed by a second one.

    Raises:
        UnknownVersion: there is none.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        begun = moves.pending(session, line)
        after = following.follow(session, line, workspace.store, cache=workspace.cache)
        if begun is None or (begun.action, begun.to) != ("rolled_back", after.champion):
            after = promotion.rollback(
                session,
                line,
                workspace.store,
                replaces=after.champion,
                actor=_person(),
                document={"reason": "a person asked for it"},
                cache=workspace.cache,
            )
    publish_history(workspace, line_name)
    return _document(line_name, after, state="rolled_back")


def describe(workspace: Workspace, line_name: str) -> dict[str, Any]:
    """What is deployed on a line, and where its last retrain stands."""
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployed = Deployment.of(lines.aliases(session, line))
        last = retrains.latest_retrains(session).get(line.id)
    return _document(line_name, deployed, state=last.state if last else "none")


def last_night(workspace: Workspace, line_name: str) -> tuple[int, date]:
    """The champion, and the last night that it scored.

    Raises:
        UnknownVersion: there is no champion, or it has scored nothing yet.
        IllegalTransition: a retrain of this champion on that night is over.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        nights = scores.nights_scored(session, line, version=number)
        answered = [
            row
            for row in retrains.list_retrains(session, line)
            if nights
            and (row.night, row.base_version) == (nights[-1], number)
            and row.state in retrains.FINAL
            and not vetoes.may_start_again(workspace, session, line, row)
        ]
    if answered:
        raise IllegalTransition(
            f"retrain {answered[0].id} has learned from the night of {nights[-1]} already: {answered[0].state}",
            hint=f"ingest another night, or deploy its version: halfsigma promote {line_name} "
            f"--version {answered[0].new_version}",
        )
    if not nights:
        raise UnknownVersion(
            f"version {number} of line {line_name!r} has scored no image yet",
            hint=f"ingest a night first: halfsigma ingest {line_name} DIR --night YYYY-MM-DD",
        )
    return number, nights[-1]


def configure_line(
    workspace: Workspace,
    line_name: str,
    *,
    policy: str | None,
    time_zone: str | None,
    fpr_budget: float | None,
    latency_budget_ms: float | None,
    counted: Mapping[str, int | None],
) -> dict[str, Any]:
    """Change a line's settings, and record who did."""
    with workspace.database.session() as session:
        line = lines.update_line(
            session,
            lines.get_line(session, line_name),
            policy=policy,
            time_zone=time_zone,
            fpr_budget=fpr_budget,
            latency_budget_ms=latency_budget_ms,
            counted=counted,
        )
        document = {
            "policy": line.policy,
            "time_zone": line.time_zone,
            "fpr_budget": line.fpr_budget,
            "latency_budget_ms": line.latency_budget_ms,
            **{name: getattr(line, name) for name in lines.COUNTED},
        }
        audit.record(session, actor=_person(), action="configured", line=line, document=document)
    return {"line": line_name, **document}


def _refuse_vetoed(workspace: Workspace, session: Session, line: Line, number: int) -> None:
    """What was champion before may be so again: to go back must always be possible."""
    if deployment.was_champion(session, line, number):
        return
    vetoed = vetoes.learned_defects_of(workspace, session, line, number)
    if vetoed:
        raise RegistryError(
            f"version {number} of line {line.name!r} is not promoted: {vetoes.phrase(vetoed)}",
            hint=f"learn again without them: halfsigma retrain {line.name}",
        )


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "somebody at the command line"


def _document(line_name: str, deployed: Deployment, *, state: str) -> dict[str, Any]:
    return {
        "line": line_name,
        "champion": deployed.champion,
        "previous": deployed.previous,
        "challenger": deployed.challenger,
        "state": state,
    }
