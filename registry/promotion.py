"""How the champion is replaced and restored: MLflow's alias first, then the mirror, the audit and the alert together.

Every change is announced before MLflow is touched (registry/moves.py). So of two at once one wins and the other is told,
and a process that is killed in between leaves nothing that `following.follow` cannot record as whose it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from halfsigma import IllegalTransition, RegistryError, UnknownVersion
from registry import approval, audit, lines, moves, retrains
from registry.deployment import (
    SYSTEM,
    Deployment,
    leave_race,
    mirror,
    predecessor,
    set_previous,
    tell,
    unusable,
    was_champion,
)
from registry.store import MlflowStore
from registry.tables import Line


def deploy_first(
    session: Session, line: Line, store: MlflowStore, number: int, *, at: datetime | None = None
) -> Deployment:
    """The line's first version becomes champion; a later fit's waits as challenger, unless that of a retrain does: then it is
    only registered. Saying it again changes nothing.

    A champion whose alias was taken away in MLflow is still the line's: `follow` puts it back.
    """
    known = (store.aliases(line.name).get("champion"), lines.aliases(session, line).get("champion"))
    first = set(known) <= {None, number}
    offered = retrains.open_retrain(session, line)
    if not first and offered is not None and offered.state in retrains.OFFERED:
        return Deployment.of(store.aliases(line.name))
    store.set_alias(line.name, "champion" if first else "challenger", number)
    actual = store.aliases(line.name)
    if first:
        if lines.move_champion(session, line, start=None, to=number, at=at):
            audit.record(session, actor=SYSTEM, action="deployed", line=line, version=number, at=at)
        mirror(session, line, actual)
    # a champion that this database never saw is left to `follow`, which records its reference as well
    elif lines.set_alias(session, line, "challenger", number, at=at):
        audit.record(session, actor=SYSTEM, action="challenges", line=line, version=number, at=at)
    return Deployment.of(actual)


def promote(
    session: Session,
    line: Line,
    store: MlflowStore,
    number: int,
    *,
    replaces: int | None,
    actor: str,
    document: Mapping[str, Any],
    cache: Path,
    at: datetime | None = None,
) -> Deployment:
    """Make ``number`` the champion and the present champion ``previous``; promoting the champion again changes nothing.

    Commits what the session holds, then the announcement; the outcome is in the caller's transaction. The database is
    written last, so that its lock is not held while MLflow answers.

    Args:
        session: the caller's.
        line: whose champion it is.
        store: MLflow.
        number: of the version.
        replaces: the champion that the decision was about; with another one deployed meanwhile, nothing is done.
        actor: who decided.
        document: why, for the audit and the alert.
        cache: of downloaded versions.
        at: recorded instant; by default now.

    Raises:
        UnknownVersion: the line has no such version.
        RegistryError: its files cannot be used.
        IllegalTransition: somebody else is changing the champion, or has done so meanwhile.
        StoreError: MLflow is away; the next `follow` records what came of it.
    """
    refuse_unusable(session, line, store, number, cache=cache)
    details = dict(document)
    with moves.moving(
        session, line, action="promoted", start=replaces, to=number, actor=actor, document=details
    ) as move:
        before = store.aliases(line.name).get("champion")
        _refuse_another(session, line, before, replaces, number)
        move.check_lease()
        if before != number:
            store.set_alias(line.name, "champion", number)  # first: `follow` completes what is killed after it
        actual = _refuse_overtaken(line, store, number)
        if replaces not in (None, number):
            set_previous(session, line, store, replaces, not_these=[number])
        if actual.get("challenger") == number:
            store.set_alias(line.name, "challenger", None)
        leave_race(session, line, store, actual)
        actual = store.aliases(line.name)
    _record(session, line, "promoted", start=replaces, to=number, actor=actor, document=details, at=at)
    mirror(session, line, actual, promoted_by=actor)
    moves.end(session, line, move)
    return Deployment.of(actual)


def rollback(
    session: Session,
    line: Line,
    store: MlflowStore,
    *,
    replaces: int | None,
    actor: str,
    document: Mapping[str, Any],
    cache: Path,
    at: datetime | None = None,
) -> Deployment:
    """Make ``previous`` the champion again; the version rolled back carries no alias any more.

    ``previous`` then points to what the restored champion had itself replaced, if anything, so that rolling back twice
    goes two versions back and never forward to the bad one. Commits as `promote` does, and takes the same arguments.

    Raises:
        UnknownVersion: there is no previous version.
        RegistryError: its files cannot be used, or it never was champion and no person asked, or the line asks for several.
        IllegalTransition: somebody else is changing the champion, or has done so meanwhile.
        StoreError: MLflow is away; the next `follow` records what came of it.
    """
    target = store.aliases(line.name).get("previous")
    if target is None or target == replaces:
        raise UnknownVersion(
            f"line {line.name!r} has no previous version to roll back to",
            hint=f"name one: halfsigma promote {line.name} --version N",
        )
    refuse_unusable(session, line, store, target, cache=cache)
    missing = None
    if not was_champion(session, line, target):
        by_itself = "a person has to say that it may be" if actor == SYSTEM else None
        missing = by_itself or approval.is_missing(session, line, target, replaces=replaces)
    if missing is not None:
        raise RegistryError(
            f"version {target} of line {line.name!r} never was champion: somebody set the alias previous; {missing}",
            hint=f"halfsigma promote {line.name} --version N --by NAME",
        )
    details = dict(document)
    with moves.moving(
        session, line, action="rolled_back", start=replaces, to=target, actor=actor, document=details
    ) as move:
        _refuse_another(session, line, store.aliases(line.name).get("champion"), replaces, target)
        move.check_lease()
        store.set_alias(line.name, "champion", target)
        actual = _refuse_overtaken(line, store, target)
        earlier = predecessor(session, line, target, not_these=[replaces])
        set_previous(session, line, store, earlier, not_these=[target, replaces])
        leave_race(session, line, store, actual)
        actual = store.aliases(line.name)
    _record(session, line, "rolled_back", start=replaces, to=target, actor=actor, document=details, at=at)
    mirror(session, line, actual)
    moves.end(session, line, move)
    return Deployment.of(actual)


def offer(
    session: Session,
    line: Line,
    store: MlflowStore,
    number: int,
    *,
    kind: Literal["challenger_waits", "challenger_in_shadow"],
) -> Deployment:
    """Make ``number`` the challenger, which a person may promote at any time; told as ``kind``."""
    store.set_alias(line.name, "challenger", number)
    actual = store.aliases(line.name)
    tell(session, line, kind, actor=SYSTEM, version=number, document={})
    mirror(session, line, actual)
    return Deployment.of(actual)


def refuse_unusable(session: Session, line: Line, store: MlflowStore, number: int, *, cache: Path) -> None:
    """RegistryError for a version that cannot be deployed, UnknownVersion if it is none of those known here; one that MLflow has
    and this database has not, from another machine or since a backup, is mirrored."""
    refusal = unusable(session, line, store, number, cache=cache)
    if refusal is None:
        return
    known = [version.number for version in lines.list_versions(session, line)]
    kind = RegistryError if number in known else UnknownVersion
    raise kind(
        f"version {number} of line {line.name!r} cannot be deployed: {refusal}",
        hint=f"restore its files in MLflow, or deploy another version; known are {', '.join(map(str, known)) or 'none'}",
    )


def _record(
    session: Session,
    line: Line,
    action: str,
    *,
    start: int | None,
    to: int,
    actor: str,
    document: Mapping[str, Any],
    at: datetime | None,
) -> None:
    """Mirror and tell, unless `follow` in another process saw the move and recorded it as ours."""
    if lines.move_champion(session, line, start=start, to=to, at=at):
        details = {**document, "from": start, "to": to}
        tell(session, line, action, actor=actor, version=to, document=details, at=at)


def _refuse_overtaken(line: Line, store: MlflowStore, number: int) -> Mapping[str, int]:
    """The aliases after the champion's was moved: who waited long for MLflow's answer may have been followed by another move."""
    actual = store.aliases(line.name)
    if actual.get("champion") != number:
        raise IllegalTransition(
            f"line {line.name!r}: version {number} became champion, and another one did so before MLflow had answered",
            hint=f"see halfsigma history {line.name}",
        )
    return actual


def _refuse_another(session: Session, line: Line, found: int | None, replaces: int | None, wanted: int) -> None:
    """Who decided about one champion has decided nothing about another, be it in MLflow or only recorded already."""
    for champion in (found, lines.aliases(session, line).get("champion")):
        if champion in (replaces, wanted):
            continue
        shown = "no version" if champion is None else f"version {champion}"
        raise IllegalTransition(
            f"line {line.name!r}: {shown} became champion in the meantime, not by this call; version {wanted} was to "
            f"replace {replaces}",
            hint=f"see halfsigma history {line.name}, then decide again",
        )
