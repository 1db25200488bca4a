"""MLflow's aliases are the truth: what somebody moved there is followed, recorded and told, and undone where it would stop a station."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from detectors.artifact import load_version
from halfsigma import AnotherVersion, ArtifactError, StoreError, UnknownVersion
from registry import approval, audit, lines, moves, retrains
from registry.columns import utc_now
from registry.deployment import (
    FOREIGN,
    SOMEBODY,
    SYSTEM,
    UNREADABLE,
    Deployment,
    leave_race,
    mirror,
    mirror_version,
    predecessor,
    set_previous,
    tell,
    unusable,
    was_champion,
)
from registry.moves import Move
from registry.new_version import NewVersion
from registry.store import TAG_RESTORED, MlflowStore
from registry.tables import Line

MOVED_IN_MLFLOW = "the alias was moved in MLflow"
LOOKS = 5
"""At MLflow, while other processes promote; after so many the next one follows."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What MLflow said, and what the database knew both before it was asked and after it answered."""

    mirrored: Mapping[str, int]
    under_way: Move | None
    actual: Mapping[str, int]


def follow(session: Session, line: Line, store: MlflowStore, *, cache: Path, at: datetime | None = None) -> Deployment:
    """Bring the mirror to where MLflow's aliases are; what a person moved there is recorded and told.

    A champion alias that was taken away, or that points to a version which cannot be loaded, is put back to the
    mirrored champion; a champion whose version was deleted is registered again from this machine's copy: a station must
    never be without one. Of several processes that see the same move, one tells it. A promotion of ours that was killed
    after it moved the alias is recorded as whose it was. Commits: what was moved in MLflow stays moved, whatever becomes of
    what the caller does next.

    Raises:
        StoreError: MLflow cannot be reached; the mirror stays as it is.
    """
    deployed = _followed(session, line, store, cache=cache, at=at)
    session.commit()
    return deployed


def _followed(session: Session, line: Line, store: MlflowStore, *, cache: Path, at: datetime | None) -> Deployment:
    look = _look(session, line, store)
    if look is None:
        return Deployment.of(lines.aliases(session, line))
    mirrored, under_way, actual = look.mirrored, look.under_way, look.actual
    before, wanted = mirrored.get("champion"), actual.get("champion")
    if wanted == before:
        if under_way is not None and under_way.is_theirs(utc_now()):
            return Deployment.of(actual)  # the other aliases are theirs to move and to record
        if under_way is not None:
            moves.end(session, line, under_way)  # it never moved the alias, or was recorded
        _record_other_aliases(session, line, mirrored, actual, at=at)
        mirror(session, line, actual)
        return Deployment.of(actual)
    ours = under_way if under_way is not None and (under_way.start, under_way.to) == (before, wanted) else None
    refusal = "the alias was taken away" if wanted is None else unusable(session, line, store, wanted, cache=cache)
    is_rollback = wanted == mirrored.get("previous") and wanted is not None and was_champion(session, line, wanted)
    if refusal is None and wanted is not None and ours is None and not is_rollback:
        refusal = approval.is_missing(session, line, wanted, replaces=before)  # to roll back, one person is enough
    if refusal is not None:
        if before is None:
            raise UnknownVersion(
                f"MLflow's champion of line {line.name!r} cannot be used: {refusal}",
                hint="point the alias at a version that halfsigma registered",
            )
        if ours is None:
            _record_other_aliases(session, line, mirrored, actual, at=at)
        return _put_back(session, line, store, before, found=wanted, reason=refusal, cache=cache, at=at)
    assert wanted is not None, "without a champion there was a refusal"
    if ours is None:
        _record_other_aliases(session, line, mirrored, actual, at=at)
    if before is not None:
        if ours is not None and ours.action == "promoted":
            set_previous(session, line, store, before, not_these=[wanted])
        elif ours is not None:  # a rollback that was killed may have moved ``previous`` already, or have taken it away
            earlier = predecessor(session, line, wanted, not_these=[before])
            set_previous(session, line, store, earlier, not_these=[wanted, before])
        else:
            _move_previous(session, line, store, before=before, wanted=wanted, mirrored=mirrored, actual=actual)
    if actual.get("challenger") == wanted:
        store.set_alias(line.name, "challenger", None)
    leave_race(session, line, store, actual)
    actual = store.aliases(line.name)
    if lines.move_champion(session, line, start=before, to=wanted, at=at):
        # what was restored is on no probation, and nobody's successor
        theirs = "rolled_back" if is_rollback else "promoted"
        action, actor = (ours.action, ours.actor) if ours else (theirs, SOMEBODY)
        reason = {"reason": MOVED_IN_MLFLOW} if ours is None else {}
        details = {**reason, **(ours.document if ours else {}), "from": before, "to": wanted}
        tell(session, line, action, actor=actor, version=wanted, document=details, at=at)
    if ours is not None:
        moves.end(session, line, ours)
    mirror(session, line, actual, promoted_by=ours.actor if ours else SOMEBODY)
    return Deployment.of(actual)


def champion_of(session: Session, line: Line, store: MlflowStore, *, cache: Path) -> int:
    """The champion's number: as MLflow says, or while it is away, as it said last.

    A line goes on being watched when the registry's server is down; the version is in the cache.

    Raises:
        UnknownVersion: there is no champion yet.
    """
    if line.detector != FOREIGN:
        try:
            follow(session, line, store, cache=cache)
        except StoreError:
            if "champion" not in lines.aliases(session, line):
                raise
    return lines.get_version(session, line).number


def _look(session: Session, line: Line, store: MlflowStore) -> _Look | None:
    """At a moment in which the database did not change: an answer of MLflow is never taken for newer or older than what it is
    compared with. None when it changed during every one of `LOOKS`.

    Commits, so that every reading is of its own moment and none is held while MLflow answers.
    """
    for _ in range(LOOKS):
        before = _known(session, line)
        actual = store.aliases(line.name)
        if _known(session, line) == before:
            mirrored, under_way, _ = before
            return _Look(mirrored, under_way, actual)
    return None


def _known(session: Session, line: Line) -> tuple[Mapping[str, int], Move | None, tuple[int, str] | None]:
    """The mirrored aliases, the move that is under way, and the retrain that is: what a promotion or an offer changes."""
    session.commit()
    offered = retrains.open_retrain(session, line)
    return (
        lines.aliases(session, line),
        moves.pending(session, line),
        None if offered is None else (offered.id, offered.state),
    )


def _move_previous(
    session: Session,
    line: Line,
    store: MlflowStore,
    *,
    before: int,
    wanted: int,
    mirrored: Mapping[str, int],
    actual: Mapping[str, int],
) -> None:
    """After somebody moved the champion: what it replaced becomes ``previous``, unless they moved that alias as well.

    Who moved the champion to ``previous`` rolled back, in the MLflow UI or by a command that was killed half way: then
    ``previous`` goes further back, never forward to the version that was rolled back.
    """
    previous = actual.get("previous")
    if previous == wanted:
        earlier = predecessor(session, line, wanted, not_these=[before])
        set_previous(session, line, store, earlier, not_these=[wanted, before])
    elif previous in (None, mirrored.get("previous")):
        set_previous(session, line, store, before, not_these=[wanted])


def _put_back(
    session: Session,
    line: Line,
    store: MlflowStore,
    number: int,
    *,
    found: int | None,
    reason: str,
    cache: Path,
    at: datetime | None,
) -> Deployment:
    """Point the champion's alias back at ``number``, or at a copy of it if MLflow has lost that version too.

    Without a copy, say so and go on: a line is watched on, and a person has to act.
    """
    if store.aliases(line.name).get("champion") != found:
        # somebody moved it on while `found` was looked at: the next look is at that
        return Deployment.of(lines.aliases(session, line))
    action, now = "champion_put_back", number
    try:
        with suppress(ArtifactError, *UNREADABLE):  # its files do not matter here, but that they are no other version's
            mirror_version(
                session, line, number, store.fetch(line.name, number, cache=cache), store.tags(line.name, number)
            )
        store.set_alias(line.name, "champion", number)
    except (StoreError, UnknownVersion, AnotherVersion) as error:
        restored = _restore(session, line, store, number, cache=cache)
        if restored is None:
            action, reason = "champion_lost", f"{reason}; version {number} cannot be put back: {error.message}"
        else:
            store.set_alias(line.name, "champion", restored)
            action, now = "champion_restored", restored
            reason = f"{reason}; version {number} is gone from MLflow and was registered again from this machine's copy"
    actual = {**store.aliases(line.name), "champion": now}
    document = {"found": found, "reason": reason}
    if action == "champion_restored":
        if lines.move_champion(session, line, start=number, to=now, at=at):
            document |= {"from": number, "to": now}
            tell(session, line, action, actor=SYSTEM, version=now, document=document, at=at)
    else:
        last = audit.last_entry(session, line, actions=[action])
        if action == "champion_put_back" or last is None or last.version != number:
            tell(session, line, action, actor=SYSTEM, version=number, document=document, at=at)
    mirror(session, line, actual)
    return Deployment.of(actual)


def _restore(session: Session, line: Line, store: MlflowStore, number: int, *, cache: Path) -> int | None:
    """Register this machine's checked copy of a version that MLflow has lost; its new number, or None without a copy."""
    try:
        folder = store.fetch(line.name, number, cache=cache)
        load_version(folder)  # every file is what its manifest says
    except (ArtifactError, UnknownVersion, AnotherVersion):
        return None
    lost = lines.get_version(session, line, number)
    known = {version.number for version in lines.list_versions(session, line)}
    copy = NewVersion(folder, lost.origin, base_version=lost.base_version, tags={TAG_RESTORED: str(number)})
    restored = store.register(line.name, copy)
    if (
        restored in known
    ):  # the whole model was deleted, and MLflow counts from one again: numbers would mean two things
        return None
    mirror_version(session, line, restored, folder, store.tags(line.name, restored))
    return restored


def _record_other_aliases(
    session: Session,
    line: Line,
    mirrored: Mapping[str, int],
    actual: Mapping[str, int],
    *,
    at: datetime | None,
) -> None:
    """What somebody did to the aliases beside the champion's; it is recorded, and nobody is woken for it.

    A retrain's own offer, seen before its process has said so, is nobody's doing.
    """
    retrain = retrains.open_retrain(session, line)
    offered = retrain.new_version if retrain is not None and retrain.state == "registered" else None
    for alias in ("previous", "challenger"):
        is_moved = lines.set_alias(session, line, alias, actual.get(alias), at=at)
        if is_moved and not (alias == "challenger" and offered is not None and actual.get(alias) == offered):
            document = {"alias": alias, "from": mirrored.get(alias), "to": actual.get(alias)}
            version = actual.get(alias)
            audit.record(
                session, actor=SOMEBODY, action="alias_moved", line=line, version=version, document=document, at=at
            )
