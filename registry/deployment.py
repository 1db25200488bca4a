"""What is deployed, as the database mirrors it: versions, aliases, and an entry in the audit and an alert for every change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from detectors.artifact import REFERENCE, read_manifest, verify_version
from drift.reference import Reference
from halfsigma import AnotherVersion, ArtifactError, DriftError, RegistryError, UnknownVersion
from registry import audit, lines, outbox, retrains
from registry.history import DEPLOYING
from registry.new_version import TAG_BASE, TAG_ORIGIN
from registry.store import MlflowStore
from registry.tables import Line

SYSTEM = "halfsigma"
FOREIGN = "foreign"
"""Of a line whose detector is not ours: it is watched, but it has no model in MLflow."""
SOMEBODY = "somebody in MLflow"
UNREADABLE = (DriftError, OSError, ValueError, KeyError, TypeError)
"""What reading a reference raises that is none."""


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


def was_champion(session: Session, line: Line, number: int) -> bool:
    """Whether the audit knows the version as champion: the alias ``previous`` alone may have been set by anybody."""
    return any(entry.version == number for entry in audit.history(session, line, actions=DEPLOYING))


def restored_from(session: Session, line: Line, number: int) -> int:
    """The version that this one is a copy of, since MLflow had lost the champion; itself when it is none."""
    for entry in reversed(audit.history(session, line, actions=["champion_restored"])):
        if entry.version == number and entry.document.get("from") is not None:
            number = int(entry.document["from"])
    return number


def predecessor(session: Session, line: Line, number: int, *, not_these: Collection[int | None]) -> int | None:
    """What the version replaced when it was promoted, the last time that it was none of those."""
    number = restored_from(session, line, number)
    for entry in reversed(audit.history(session, line, actions=["promoted"])):
        before = entry.document.get("from")
        if entry.version == number and before is not None and before not in not_these:
            return int(before)
    return None


def set_previous(
    session: Session, line: Line, store: MlflowStore, number: int | None, *, not_these: Collection[int | None]
) -> None:
    """Point ``previous`` at a version; where MLflow has lost it, at what it had itself replaced, and so on, or at none.

    An old version may be deleted by anybody, and that must not keep the champion's own move from being recorded.
    """
    passed = {*not_these}
    while number is not None:
        try:
            store.set_alias(line.name, "previous", number)
            return
        except UnknownVersion:
            passed.add(number)
            number = predecessor(session, line, number, not_these=passed)
    store.set_alias(line.name, "previous", None)


def leave_race(session: Session, line: Line, store: MlflowStore, actual: Mapping[str, int]) -> None:
    """Take the alias off a retrain's challenger whose base is not the champion any more: its gates were against another one."""
    offered = retrains.open_retrain(session, line)
    if offered is None or offered.state not in retrains.OFFERED:
        return
    champion = actual.get("champion")
    if champion not in (offered.base_version, offered.new_version) and actual.get("challenger") == offered.new_version:
        store.set_alias(line.name, "challenger", None)


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
    except (ArtifactError, UnknownVersion, AnotherVersion) as error:
        return error.message
    except UNREADABLE as error:  # its reference is checked by no hash yet
        return f"its files cannot be read: {error}"
    return None


def mirror(session: Session, line: Line, actual: Mapping[str, int], *, promoted_by: str = SOMEBODY) -> None:
    """Follow the aliases beside the champion's, which moves only together with its entry in the audit."""
    for alias in ("previous", "challenger"):
        lines.set_alias(session, line, alias, actual.get(alias))
    _settle_offered(session, line, actual, promoted_by=promoted_by)


def _settle_offered(session: Session, line: Line, actual: Mapping[str, int], *, promoted_by: str) -> None:
    """A retrain that waited or scored along is over when its version was promoted, another champion took its base's place, or a person
    took the challenger's alias away from it: then the next drift may ask for another.

    One that is registered only is over when its version was promoted: its process was killed before it could write so, or a
    person was faster. Left open, it would be promoted again after a rollback.
    """
    champion = actual.get("champion")
    offered = retrains.open_retrain(session, line)
    if offered is None or offered.new_version is None:
        return
    state = offered.state
    if offered.new_version == champion:
        reason = f"{promoted_by} promoted it" if state in retrains.OFFERED else None  # else why it was asked for stays
        retrains.advance(session, offered.id, start=state, to="promoted", reason=reason)
    elif state not in retrains.OFFERED:
        return
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
