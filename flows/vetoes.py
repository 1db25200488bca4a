"""Images that a version learned from and that people have called defects since: it is not deployed, and learned again without."""

from __future__ import annotations

from sqlalchemy.orm import Session

from detectors.artifact import read_manifest
from flows.retrain_files import ADDED
from flows.workspace import Workspace
from registry import deployment, images, lines, retrains
from registry.tables import Line, Retrain


def learned_defects(workspace: Workspace, session: Session, line: Line, number: int) -> list[str]:
    """SHA-256 of the images that the version learned from and that are labelled as defects now.

    Raises:
        StoreError: MLflow is away, and this machine has no copy of the version.
    """
    folder = workspace.store.fetch(line.name, number, cache=workspace.cache)
    learned = read_manifest(folder)["provenance"]["fit_images_sha256"]
    return sorted(sha256 for sha256, image in images.find(session, line, learned).items() if image.label == "defect")


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
    number = retrain.new_version
    return number is not None and bool(learned_defects(workspace, session, line, number))


def reject_offered(
    workspace: Workspace,
    session: Session,
    line: Line,
    retrain: Retrain,
    *,
    reason: str,
    found: dict[str, object] | None = None,
) -> Retrain:
    """Take back a challenger that waits or scores along, and tell why."""
    document = found or {}
    workspace.store.set_alias(line.name, "challenger", None)
    moved = retrains.advance(session, retrain.id, start=retrain.state, to="rejected", reason=reason, document=document)
    details = {"retrain": retrain.id, "reason": reason, **document}
    number = retrain.new_version
    assert number is not None, "what is offered is registered"
    deployment.tell(session, line, "challenger_rejected", actor=deployment.SYSTEM, version=number, document=details)
    lines.set_alias(session, line, "challenger", None)
    return moved
