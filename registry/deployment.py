"""What is deployed: MLflow's aliases are the truth, the database mirrors them, and every change is audited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from detectors.artifact import REFERENCE, read_manifest
from drift.reference import Reference
from halfsigma import ArtifactError, DriftError, RegistryError, StoreError, UnknownVersion
from registry import audit, lines, outbox, retrains
from registry.store import TAG_BASE, TAG_ORIGIN, MlflowStore
from registry.tables import Line

SYSTEM = "halfsigma"
FOREIGN = "foreign"
"""Of a line whose detector is not ours: it is watched, but it has no model in MLflow."""
SOMEBODY = "somebody in MLflow"


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


def follow(session: Session, line: Line, store: MlflowStore, *, cache: Path) -> Deployment:
    """Bring the mirror to where MLflow's aliases are; what a person moved there is recorded and told.

    A champion alias that was taken away, or that points to a version which cannot be loaded, is put back to the
    mirrored champion: a station must never be without one. Of several processes that see the same move, one tells it.

    Raises:
        StoreError: MLflow cannot be reached; the mirror stays as it is.
    """
    mirrored = lines.aliases(session, line)
    before = mirrored.get("champion")
    actual = store.aliases(line.name)
    wanted = actual.get("champion")
    if wanted == before:
        _mirror(session, line, actual)
        return Deployment.of(actual)
    refusal = "the alias was taken away" if wanted is None else _unusable(session, line, store, wanted, cache=cache)
    if refusal is not None:
        if before is None:
            raise UnknownVersion(
                f"MLflow's champion of line {line.name!r} cannot be used: {refusal}",
                hint="point the alias at a version that halfsigma registered",
            )
        return _put_back(session, line, store, before, found=wanted, reason=refusal)
    assert wanted is not None, "without a champion there was a refusal"
    if before is not None:
        _move_previous(session, line, store, before=before, wanted=wanted, mirrored=mirrored, actual=actual)
    if actual.get("challenger") == wanted:
        store.set_alias(line.name, "challenger", None)
    actual = store.aliases(line.name)
    if lines.set_alias(session, line, "champion", wanted):
        tell(session, line, "promoted", actor=SOMEBODY, version=wanted, document={"from": before, "to": wanted})
    _mirror(session, line, actual)
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


def deploy_first(session: Session, line: Line, store: MlflowStore, number: int) -> Deployment:
    """The line's first version becomes champion; a later fit's waits as challenger."""
    first = store.aliases(line.name).get("champion") in (None, number)
    store.set_alias(line.name, "champion" if first else "challenger", number)
    actual = store.aliases(line.name)
    audit.record(session, actor=SYSTEM, action="deployed" if first else "challenges", line=line, version=number)
    if first:
        _mirror(session, line, actual)
    else:  # a champion that this database never saw is left to `follow`, which records its reference as well
        lines.set_alias(session, line, "challenger", number)
    return Deployment.of(actual)


def promote(
    session: Session, line: Line, store: MlflowStore, number: int, *, actor: str, document: Mapping[str, Any]
) -> Deployment:
    """Make ``number`` the champion and the present champion ``previous``.

    MLflow is moved first and the mirror follows in the caller's transaction; killed between the two, the next
    `follow` finds the move and records it. Promoting the champion again changes nothing. The database is written
    last, so that its lock is not held while MLflow answers.
    """
    lines.get_version(session, line, number)
    found = store.aliases(line.name)
    before = found.get("champion")
    if before != number:
        if before is not None:
            store.set_alias(line.name, "previous", before)
        store.set_alias(line.name, "champion", number)
    if found.get("challenger") == number:
        store.set_alias(line.name, "challenger", None)
    actual = store.aliases(line.name)
    if lines.set_alias(session, line, "champion", number):
        details = {**document, "from": before, "to": number}
        tell(session, line, "promoted", actor=actor, version=number, document=details)
    _mirror(session, line, actual)
    return Deployment.of(actual)


def rollback(session: Session, line: Line, store: MlflowStore, *, actor: str, reason: str) -> Deployment:
    """Make ``previous`` the champion again; the version rolled back carries no alias any more.

    ``previous`` then points to what the restored champion had itself replaced, if anything, so that rolling back
    twice goes two versions back and never forward to the bad one.

    Raises:
        UnknownVersion: there is no previous version.
    """
    found = store.aliases(line.name)
    bad, target = found.get("champion"), found.get("previous")
    if target is None or target == bad:
        raise UnknownVersion(
            f"line {line.name!r} has no previous version to roll back to",
            hint=f"name one: halfsigma promote {line.name} --version N",
        )
    store.set_alias(line.name, "champion", target)
    store.set_alias(line.name, "previous", _predecessor(session, line, target, not_this=bad))
    actual = store.aliases(line.name)
    if lines.set_alias(session, line, "champion", target):
        tell(session, line, "rolled_back", actor=actor, version=target, document={"from": bad, "reason": reason})
    _mirror(session, line, actual)
    return Deployment.of(actual)


def wait_for_person(session: Session, line: Line, store: MlflowStore, number: int) -> Deployment:
    """Offer ``number`` as challenger: a person promotes it in the MLflow UI or with ``halfsigma promote``."""
    store.set_alias(line.name, "challenger", number)
    actual = store.aliases(line.name)
    tell(session, line, "challenger_waits", actor=SYSTEM, version=number, document={})
    _mirror(session, line, actual)
    return Deployment.of(actual)


def _predecessor(session: Session, line: Line, number: int, *, not_this: int | None) -> int | None:
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
        store.set_alias(line.name, "previous", _predecessor(session, line, wanted, not_this=before))
    elif previous in (None, mirrored.get("previous")):
        store.set_alias(line.name, "previous", before)


def refuse_foreign(line: Line) -> None:
    """RegistryError for a line whose detector is not ours: it has no model here to fit, score with or promote."""
    if line.detector == FOREIGN:
        raise RegistryError(
            f"line {line.name!r} is scored by a detector that is not halfsigma's",
            hint=f"log its scores: halfsigma log {line.name} --csv FILE; or fit a line of another name",
        )


def _unusable(session: Session, line: Line, store: MlflowStore, number: int, *, cache: Path) -> str | None:
    """Why a version cannot be deployed, or None; on the way a version that is new here is mirrored."""
    try:
        folder = store.fetch(line.name, number, cache=cache)
        mirror_version(session, line, number, folder, store.tags(line.name, number))
    except (ArtifactError, UnknownVersion) as error:
        return error.message
    except (DriftError, OSError, ValueError, KeyError, TypeError) as error:  # its reference is checked by no hash yet
        return f"its files cannot be read: {error}"
    return None


def _put_back(
    session: Session, line: Line, store: MlflowStore, number: int, *, found: int | None, reason: str
) -> Deployment:
    """Point the champion's alias back at ``number``; if MLflow has lost that version too, say so and go on scoring.

    Stations keep the version in their cache: a line is watched on, and a person has to act.
    """
    action = "champion_put_back"
    try:
        store.set_alias(line.name, "champion", number)
    except StoreError as error:
        action, reason = "champion_lost", f"{reason}; version {number} cannot be put back: {error.message}"
    actual = {**store.aliases(line.name), "champion": number}
    last = audit.last_entry(session, line, actions=[action])
    if action == "champion_put_back" or last is None or last.version != number:
        tell(session, line, action, actor=SYSTEM, version=number, document={"found": found, "reason": reason})
    _mirror(session, line, actual)
    return Deployment.of(actual)


def _mirror(session: Session, line: Line, actual: Mapping[str, int]) -> None:
    for alias in ("champion", "previous", "challenger"):
        lines.set_alias(session, line, alias, actual.get(alias))
    _settle_waiting(session, line, actual)


def _settle_waiting(session: Session, line: Line, actual: Mapping[str, int]) -> None:
    """A retrain that waited is over when its version was promoted, another champion took its base's place, or a person
    took the challenger's alias away from it: then the next drift may ask for another."""
    champion = actual.get("champion")
    waiting = retrains.open_retrain(session, line)
    if waiting is None or waiting.state != "waiting":
        return
    if waiting.new_version == champion:
        retrains.advance(session, waiting.id, start="waiting", to="promoted", reason="a person promoted it")
    elif waiting.base_version != champion:
        retrains.advance(session, waiting.id, start="waiting", to="rejected", reason="another version was promoted")
    elif waiting.new_version != actual.get("challenger"):
        retrains.advance(session, waiting.id, start="waiting", to="rejected", reason="it is the challenger no more")


def tell(session: Session, line: Line, action: str, *, actor: str, version: int, document: Mapping[str, Any]) -> None:
    """Audit and alert in the caller's transaction: neither without the other."""
    entry = audit.record(session, actor=actor, action=action, line=line, version=version, document=document)
    payload = {"line": line.name, "version": version, "actor": actor, **document}
    outbox.enqueue(session, kind=action, dedup_key=f"audit-{entry.id}", payload=payload, line=line)


def _read_reference(folder: Path) -> dict[str, Any]:
    import json

    document: dict[str, Any] = json.loads((folder / REFERENCE).read_text())
    return document
