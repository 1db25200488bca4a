"""What a person says of a line: promote, roll back, configure."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal

from sqlalchemy.orm import Session

from flows import vetoes
from flows.history import publish_history
from flows.workspace import Workspace
from halfsigma import IllegalTransition, RegistryError, UnknownVersion, UsageError
from registry import approval, audit, deployment, following, images, lines, moves, promotion, retrains, scores
from registry.deployment import Deployment
from registry.tables import Line, Retrain


def promote_version(
    workspace: Workspace, line_name: str, number: int | None, *, by: str | None = None
) -> dict[str, Any]:
    """Promote ``number``, or the challenger, by a person's name, by default the user's; a promotion that was interrupted is
    finished.

    Where the line asks for several people, it is promoted by the last of them; until then the state is ``approved``.

    Raises:
        UnknownVersion: there is no such version, or no challenger.
        RegistryError: a retrain made it of images that people have called defects since.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        begun = moves.pending(session, line)
        deployed = following.follow(session, line, workspace.store, cache=workspace.cache)
        if number is None and _is_finished(begun, "promoted", deployed.champion):
            number = deployed.champion
        wanted = number if number is not None else deployed.challenger
        if wanted is None:
            raise UnknownVersion(
                f"line {line_name!r} has no challenger to promote",
                hint=f"name a version: halfsigma promote {line_name} --version N",
            )
        promotion.refuse_unusable(session, line, workspace.store, wanted, cache=workspace.cache)
        session.commit()  # one that is new here was mirrored: SQLite is not locked while MLflow is asked about it
        _refuse_vetoed(workspace, session, line, wanted)
        person = _person() if by is None else " ".join(by.split())
        if not person:
            raise UsageError("the name of who promotes is empty", hint="halfsigma promote LINE --by NAME")
        people = [person]
        if line.approvals > 1 and wanted != deployed.champion:
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
        if not _is_finished(begun, "rolled_back", after.champion):
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


def night_to_learn(workspace: Workspace, line_name: str) -> tuple[int, date]:
    """The champion, and the night whose retrain waited for labels that are there now; else the last night that it scored.

    Of a retrain that was interrupted in its promotion, which is finished now, what that one learned from.

    Raises:
        UnknownVersion: there is no champion, or it has scored nothing yet.
        IllegalTransition: a retrain of this champion on that night is over.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        begun = moves.pending(session, line)
        number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        known = retrains.list_retrains(session, line)
        made = [row for row in known if row.new_version == number and row.state == "promoted"]
        if made and _is_finished(begun, "promoted", number):
            return made[-1].base_version, made[-1].night
        nights = scores.nights_scored(session, line, version=number)
        if not nights:
            raise UnknownVersion(
                f"version {number} of line {line_name!r} has scored no image yet",
                hint=f"ingest a night first: halfsigma ingest {line_name} DIR --night YYYY-MM-DD",
            )
        own = [row for row in known if row.base_version == number]
        night = _labelled_since(session, line, own) or nights[-1]
        over = [
            row
            for row in own
            if row.night == night
            and row.state in retrains.FINAL
            and not vetoes.may_start_again(workspace, session, line, row)
        ]
    if over:
        raise IllegalTransition(
            f"retrain {over[0].id} has learned from the night of {night} already: {over[0].state}",
            hint=f"ingest another night, or deploy its version: halfsigma promote {line_name} "
            f"--version {over[0].new_version}",
        )
    return number, night


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


def _labelled_since(session: Session, line: Line, own: Sequence[Retrain]) -> date | None:
    """The night of the last of these retrains that waited for labels, where all were given and no later one came further."""
    for row in reversed(own):
        if row.state != "failed":
            return None
        asked = {each["sha256"] for each in row.document.get("suspects", ())}
        known = images.find(session, line, asked)
        if asked and all(sha256 in known and known[sha256].label is not None for sha256 in asked):
            return row.night
    return None


def _is_finished(begun: moves.Move | None, action: Literal["promoted", "rolled_back"], champion: int | None) -> bool:
    """Whether a move that was cut off is done now that MLflow was followed: who asks for it again asks for no second one."""
    return begun is not None and (begun.action, begun.to) == (action, champion)


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
