"""What a retrain leaves on this machine while it is under way, and how its state moves on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flows import locks
from flows.workspace import Workspace
from registry import retrains
from registry.tables import Retrain

CURATED = "curated.json"
LEARNED = "learned.json"
"""The curation without what the fit left out. The curation itself stays as it is: a fit that was killed begins with it again."""
GATES = "gates.json"
FITTED = "fitted_scores.json"
CHALLENGER, TWIN = "challenger", "twin"
"""Folders of versions."""
TRAINING = "training"
"""Checkpoints: a retrain that was killed goes on with its training."""
ADDED = "added"
"""In the document of a retrain that adds cleared images to the champion: SHA-256 → file."""


def folder_of(workspace: Workspace, retrain: Retrain) -> Path:
    """Where its files lie."""
    return workspace.work_folder(f"retrain-{retrain.id}")


@contextmanager
def alone(workspace: Workspace, retrain: Retrain) -> Iterator[None]:
    """While one process is at a retrain's files no other is.

    Raises:
        IllegalTransition: another one is at them.
    """
    with locks.alone(
        folder_of(workspace, retrain) / ".lock",
        refusal=f"retrain {retrain.id} is being worked on by another process",
        hint="see halfsigma status for how it goes on",
    ):
        yield


def write_curation(folder: Path, document: Mapping[str, object]) -> None:
    """Of a night that is asked for anew, in place of what an earlier fit left of it."""
    (folder / LEARNED).unlink(missing_ok=True)
    write_json(folder / CURATED, document)


def latest_curation(folder: Path) -> Path:
    """The curation's document: as the fit left it, once there was one."""
    learned = folder / LEARNED
    return learned if learned.exists() else folder / CURATED


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document, indent=1, default=str))
    unfinished.replace(path)


def advance(workspace: Workspace, retrain: Retrain, to: str, document: Mapping[str, object]) -> Retrain:
    """The state that a finished step leads to, in a transaction of its own."""
    with workspace.database.session() as session:
        return retrains.advance(session, retrain.id, start=retrain.state, to=to, document=document)
