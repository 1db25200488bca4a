"""Defects that may lie among the good images that somebody names: nothing is fitted on them or judged by them as goods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy.orm import Session

from registry import images
from registry.tables import Line


def known_defects(session: Session, line: Line | None, defect_paths: Sequence[Path]) -> frozenset[str]:
    """SHA-256 of the line's labelled defects, where it exists, and of the files in a folder of defects.

    Folders are read with all below them: one of defects may lie in that of the goods.
    """
    hashes = {image.sha256 for image in images.labelled(session, line, "defect")} if line else set()
    for path in defect_paths:
        with suppress(OSError):  # whoever reads it will say so
            hashes.add(images.file_sha256(path))
    return frozenset(hashes)
