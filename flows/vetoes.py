"""Images that a version learned from and that people have called defects since: it is not deployed, and learned again without."""

from __future__ import annotations

import json
from collections.abc import Iterable

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
    return _defects(session, line, _fitted_on(workspace, line, number))


def _defects(session: Session, line: Line, learned: Iterable[str]) -> list[str]:
    known = images.find(session, line, learned)
    return sorted(sha256 for sha256, image in known.items() if image.label == "defect")


def _learned(workspace: Workspace, line: Line, retrain: Retrain) -> Iterable[str]:
    """By this machine's files; by the version's own where another machine made it, and none while nobody can say."""
    file = retrain_files.latest_curation(retrain_files.folder_of(workspace, retrain))
    document = json.loads(file.read_text()) if file.exists() else None
    if ADDED in retrain.document:  # the fit leaves out what was called a defect before it
        return {*retrain.document[ADDED]} & {*(document["chosen"] if document else retrain.document[ADDED])}
    if document is not None:
        return {*document["chosen"], *document["core"]} - set(document["held_back"])
    return () if retrain.new_version is None else _fitted_on(workspace, line, retrain.new_version)


def _fitted_on(workspace: Workspace, line: Line, number: int) -> Iterable[str]:
    try:
        folder = workspace.store.fetch(line.name, number, cache=workspace.cache)
        return list(map(str, read_manifest(folder)["provenance"]["fit_images_sha256"]))
    except (StoreError, UnknownVersion, AnotherVersion, ArtifactError):
        return ()


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
    return bool(learned_defects(workspace, session, line, retrain))


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
