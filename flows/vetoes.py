"""Images that a version learned from and that people have called defects since: it is not deployed, and learned again without."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from detectors.artifact import read_manifest
from flows import retrain_files
from flows.retrain_files import ADDED
from flows.workspace import Workspace
from halfsigma import AnotherVersion, ArtifactError, StoreError, UnknownVersion
from registry import deployment, images, lines, retrains
from registry.tables import Line, Retrain


def learned_defects(workspace: Workspace, session: Session, line: Line, retrain: Retrain) -> list[str]:
    """SHA-256 of the images that the retrain's version learned from, besides what it grew from, and that are labelled as defects
    now."""
    return _defects(session, line, _learned(workspace, line, retrain))


def learned_defects_of(workspace: Workspace, session: Session, line: Line, number: int) -> list[str]:
    """The same of a version that a retrain made, whatever became of the retrain: it may have been taken back, or asked for again."""
    made = [row for row in retrains.list_retrains(session, line) if row.new_version == number]
    if made:
        return learned_defects(workspace, session, line, made[-1])
    if lines.get_version(session, line, number).origin != "retrain":
        return []
    return _defects(session, line, _recorded(workspace, line, number, "fit_images_sha256"))


def tried_defects(workspace: Workspace, session: Session, line: Line, retrain: Retrain) -> list[str]:
    """As `learned_defects`, with those that were held back: they teach nothing, but the threshold and the gates are by them."""
    return _defects(session, line, _tried(workspace, line, retrain))


def _defects(session: Session, line: Line, hashes: Iterable[str]) -> list[str]:
    known = images.find(session, line, hashes)
    return sorted(sha256 for sha256, image in known.items() if image.label == "defect")


def _learned(workspace: Workspace, line: Line, retrain: Retrain) -> Iterable[str]:
    """By this machine's files; by the version's own where another machine made it, and none while nobody can say."""
    document = _curation(workspace, retrain)
    if ADDED in retrain.document:  # the fit leaves out what was called a defect before it
        return {*retrain.document[ADDED]} & {*(document["chosen"] if document else retrain.document[ADDED])}
    if document is not None:
        return {*document["chosen"], *document["core"]} - set(document["held_back"])
    if retrain.new_version is None:
        return ()
    return _recorded(workspace, line, retrain.new_version, "fit_images_sha256")


def _tried(workspace: Workspace, line: Line, retrain: Retrain) -> Iterable[str]:
    document = _curation(workspace, retrain)
    if document is not None:
        return {*document["chosen"], *document["core"]}
    if ADDED in retrain.document or retrain.new_version is None:
        return _learned(workspace, line, retrain)
    return _recorded(workspace, line, retrain.new_version, "fit_images_sha256", "reference_images_sha256")


def _curation(workspace: Workspace, retrain: Retrain) -> dict[str, Any] | None:
    """As it lies on this machine, if it does."""
    file = retrain_files.latest_curation(retrain_files.folder_of(workspace, retrain))
    return json.loads(file.read_text()) if file.exists() else None


def _recorded(workspace: Workspace, line: Line, number: int, *which: str) -> set[str]:
    """These images by the version's own manifest; none where it cannot be had."""
    try:
        provenance = read_manifest(workspace.store.fetch(line.name, number, cache=workspace.cache))["provenance"]
    except (StoreError, UnknownVersion, AnotherVersion, ArtifactError):
        return set()
    return {str(sha256) for each in which for sha256 in provenance[each]}


def phrase(vetoed: list[str]) -> str:
    """Why such a version is not deployed, for people."""
    return f"it learned from {len(vetoed)} images that people call defects, first {vetoed[0][:12]}…"


def may_start_again(
    workspace: Workspace, session: Session, line: Line, retrain: Retrain, *, is_growth: bool = False
) -> bool:
    """Whether a retrain that was rejected may be asked for once more: its images are not what they were thought to be.

    That, or the night is asked for where a person's own images were tried before in its place.
    """
    if retrain.state != "rejected":
        return False
    if ADDED in retrain.document and not is_growth:
        return True
    return bool(tried_defects(workspace, session, line, retrain))


def reject_offered(
    workspace: Workspace,
    session: Session,
    line: Line,
    retrain: Retrain,
    *,
    reason: str,
    found: dict[str, object] | None = None,
) -> Retrain:
    """Take back a challenger that waits or scores along, and tell why.

    Raises:
        StoreError: MLflow is away; then nothing was changed.
    """
    document = found or {}
    workspace.store.set_alias(line.name, "challenger", None)
    moved = retrains.advance(session, retrain.id, start=retrain.state, to="rejected", reason=reason, document=document)
    details = {"retrain": retrain.id, "reason": reason, **document}
    number = retrain.new_version
    assert number is not None, "what is offered is registered"
    deployment.tell(session, line, "challenger_rejected", actor=deployment.SYSTEM, version=number, document=details)
    lines.set_alias(session, line, "challenger", None)
    return moved
