"""What a person says of images, with a copy of each kept: labels outlive the folders that the images lay in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.workspace import Workspace
from halfsigma import RegistryError
from registry import audit, images, lines


def label_images(
    workspace: Workspace, line_name: str, targets: Sequence[str], *, as_label: str, kind: str | None = None
) -> int:
    """Label images, given by file or SHA-256, good or a defect with its kind; how many. Of each that can be found a copy is kept.

    Raises:
        UnknownImage: the line never saw one of them; then none is labelled.
        UsageError: several images lay where a file that is gone lay; then none is labelled either.
        RegistryError: a file cannot be read; then none is labelled either. Or a copy cannot be written; then they are labelled.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        try:
            n_labelled = images.label(session, line, targets, as_label, kind=kind)
        except OSError as error:
            raise RegistryError(
                f"a file cannot be read, and nothing was labelled: {error}",
                hint="check its rights, or give its SHA-256",
            ) from error
        audit.record(
            session,
            actor="a person",
            action="labelled",
            line=line,
            document={"label": as_label, "kind": kind, "images": [str(target) for target in targets]},
        )
    # copied outside of the transaction: large photographs take longer than other writers wait
    given = {sha256: path for path in map(Path, targets) if (sha256 := _hash_of(path))}
    with workspace.database.session() as session:
        kept = {}
        for image in images.labelled(session, line, as_label):
            if image.kept_path is None:
                lay_at = Path(image.path)
                source = given.get(image.sha256) or (lay_at if _hash_of(lay_at) == image.sha256 else None)
                if source is not None:
                    kept[image.sha256] = str(workspace.vault.keep(line_name, source, image.sha256))
        images.set_kept(session, line, kept)
    return n_labelled


def _hash_of(path: Path) -> str | None:
    """None where there is no file that can be read: what was labelled stays labelled without a copy."""
    try:
        return images.file_sha256(path) if path.is_file() else None
    except (OSError, ValueError):  # a share that does not answer; longer than a file's name can be
        return None
