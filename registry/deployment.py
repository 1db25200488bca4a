"""What is deployed: MLflow's aliases are the truth, the database mirrors them, and every change is audited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from detectors.artifact import REFERENCE, load_version, read_manifest, verify_version
from drift.reference import Reference
from halfsigma import ArtifactError, DriftError, RegistryError, StoreError, UnknownVersion
from registry import approval, audit, lines, moves, outbox, retrains
from registry.columns import utc_now
from registry.history import DEPLOYING
from registry.store import TAG_BASE, TAG_ORIGIN, TAG_RESTORED, MlflowStore, NewVersion
from registry.tables import Line

SYSTEM = "halfsigma"
FOREIGN = "foreign"
"""Of a line whose detector is not ours: it is watched, but it has no model in MLflow."""
SOMEBODY = "somebody in MLflow"
MOVED_IN_MLFLOW = "the alias was moved in MLflow"


@dataclass(frozen=True, slots=True)
class Deployment:
    """The versions that a line's aliases point to."""

    champion: int | None
    previous: int | None
    challenger: int | None

    @classmethod
    def of(cls, aliases: Mapping[str, int]) -> Deployment:
        return cls(aliases.get("champion"), aliases.get("previous"), aliases.get("challenger"))


def mirror_version(session: Session, line: Line, number: int, folder: Path, tags: Mapping[str, str]) -> None:
    """Record a registered version and its reference, so that a check needs no MLflow.

    Args:
        session: the caller's transaction.
        line: whose version it is.
        number: MLflow's.
        folder: the version's files.
        tags: the version's tags in MLflow.
    """
    manifest = read_manifest(folder)
    reference = Reference.from_json(_read_reference(folder))
    base = tags.get(TAG_BASE)
    lines.record_version(
        session,
        line,
        number,
        detector=manifest["family"],
        threshold=manifest["threshold"]["value"],
        mean_ref=reference.mean,
        sd_ref=reference.sd,
        n_reference=reference.n,
        reference=reference.to_json(),
        origin=tags.get(TAG_ORIGIN, "fit"),
        base_version=None if base is None else int(base),
    )


def follow(session: Session, line: Line, store: MlflowStore, *, cache: Path, at: datetime | None = None) -> Deployment:
    """Bring the mirror to where MLflow's aliases are; what a person moved there is recorded and told.

    A champion alias that was taken away, or that points to a version which cannot be loaded, is put back to the
    mirrored champion; a champion whose version was deleted is registered again from this machine's copy: a station must
    never be without one. Of several processes that see the same move, one tells it. A promotion of ours that was killed
    after it moved the alias is recorded as whose it was.

    Raises:
        StoreError: MLflow cannot be reached; the mirror stays as it is.
    """
    mirrored = lines.aliases(session, line)
    before = mirrored.get("champion")
    under_way = moves.pending(session, line)
    actual = store.aliases(line.name)
    wanted = actual.get("champion")
    if wanted == before:
        if under_way is None:
            _record_other_aliases(session, line, mirrored, actual, at=at)
        elif not under_way.is_theirs(utc_now()):
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
        return _put_back(session, line, store, before, found=wanted, reason=refusal, cache=cache, at=at)
    assert wanted is not None, "without a champion there was a refusal"
    if before is not None:
        if ours is not None and ours.action == "promoted":
            store.set_alias(line.name, "previous", before)
        elif ours is not None:  # a rollback that was killed may have moved ``previous`` already, or have taken it away
            store.set_alias(line.name, "previous", predecessor(session, line, wanted, not_this=before))
        else:
            _move_previous(session, line, store, before=before, wanted=wanted, mirrored=mirrored, actual=actual)
    if actual.get("challenger") == wanted:
        store.set_alias(line.name, "challenger", None)
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


def was_champion(session: Session, line: Line, number: int) -> bool:
    """Whether the audit knows the version as champion: the alias ``previous`` alone may have been set by anybody."""
    return any(entry.version == number for entry in audit.history(session, line, actions=DEPLOYING))


def predecessor(session: Session, line: Line, number: int, *, not_this: int | None) -> int | None:
    for entry in reversed(audit.history(session, line, actions=["promoted"])):
        before = entry.document.get("from")
        if entry.version == number and before not in (None, not_this):
            return int(before)
    return None


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
        store.set_alias(line.name, "previous", predecessor(session, line, wanted, not_this=before))
    elif previous in (None, mirrored.get("previous")):
        store.set_alias(line.name, "previous", before)


def refuse_foreign(line: Line) -> None:
    """RegistryError for a line whose detector is not ours: it has no model here to fit, score with or promote."""
    if line.detector == FOREIGN:
        raise RegistryError(
            f"line {line.name!r} is scored by a detector that is not halfsigma's",
            hint=f"log its scores: halfsigma log {line.name} --csv FILE; or fit a line of another name",
        )


def unusable(session: Session, line: Line, store: MlflowStore, number: int, *, cache: Path) -> str | None:
    """Why a version cannot be deployed, or None; on the way a version that is new here is mirrored."""
    try:
        folder = store.fetch(line.name, number, cache=cache)
        verify_version(folder)
        mirror_version(session, line, number, folder, store.tags(line.name, number))
    except (ArtifactError, UnknownVersion) as error:
        return error.message
    except (DriftError, OSError, ValueError, KeyError, TypeError) as error:  # its reference is checked by no hash yet
        return f"its files cannot be read: {error}"
    return None


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
        store.set_alias(line.name, "champion", number)
    except StoreError as error:
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
    except (ArtifactError, UnknownVersion):
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


def mirror(session: Session, line: Line, actual: Mapping[str, int], *, promoted_by: str = SOMEBODY) -> None:
    """Follow the aliases beside the champion's, which moves only together with its entry in the audit."""
    for alias in ("previous", "challenger"):
        lines.set_alias(session, line, alias, actual.get(alias))
    _settle_offered(session, line, actual, promoted_by=promoted_by)


def _record_other_aliases(
    session: Session,
    line: Line,
    mirrored: Mapping[str, int],
    actual: Mapping[str, int],
    *,
    at: datetime | None,
) -> None:
    """What somebody did to the aliases beside the champion's; it is recorded, and nobody is woken for it."""
    for alias in ("previous", "challenger"):
        if lines.set_alias(session, line, alias, actual.get(alias), at=at):
            document = {"alias": alias, "from": mirrored.get(alias), "to": actual.get(alias)}
            version = actual.get(alias)
            audit.record(
                session, actor=SOMEBODY, action="alias_moved", line=line, version=version, document=document, at=at
            )


def _settle_offered(session: Session, line: Line, actual: Mapping[str, int], *, promoted_by: str) -> None:
    """A retrain that waited or scored along is over when its version was promoted, another champion took its base's place, or a person
    took the challenger's alias away from it: then the next drift may ask for another."""
    champion = actual.get("champion")
    offered = retrains.open_retrain(session, line)
    if offered is None or offered.state not in retrains.OFFERED:
        return
    state = offered.state
    if offered.new_version == champion:
        retrains.advance(session, offered.id, start=state, to="promoted", reason=f"{promoted_by} promoted it")
    elif offered.base_version != champion:
        retrains.advance(session, offered.id, start=state, to="rejected", reason="another version was promoted")
    elif offered.new_version != actual.get("challenger"):
        retrains.advance(session, offered.id, start=state, to="rejected", reason="it is the challenger no more")


def tell(
    session: Session,
    line: Line,
    action: str,
    *,
    actor: str,
    version: int,
    document: Mapping[str, Any],
    at: datetime | None = None,
) -> None:
    """Audit and alert in the caller's transaction: neither without the other."""
    entry = audit.record(session, actor=actor, action=action, line=line, version=version, document=document, at=at)
    payload = {"line": line.name, "version": version, "actor": actor, **document}
    outbox.enqueue(session, kind=action, dedup_key=f"audit-{entry.id}", payload=payload, line=line)


def _read_reference(folder: Path) -> dict[str, Any]:
    import json

    document: dict[str, Any] = json.loads((folder / REFERENCE).read_text())
    return document
