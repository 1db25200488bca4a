"""What a line has seen, by content, and what people said of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from halfsigma import UnknownImage, UsageError
from registry.columns import storable, utc_now
from registry.database import insert
from registry.tables import KIND_CHARS, LABELS, Image, Line, Score, table_of

KIND = re.compile(rf"[\w-]{{1,{KIND_CHARS}}}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAMES_LISTED = 5  # of the unknown images in an error message
HASHES_A_QUERY = 500  # SQLite's oldest limit on parameters is 999

IMAGE, SCORE = table_of(Image), table_of(Score)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal: an image's identity."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember(session: Session, line: Line, paths: Mapping[str, str]) -> None:
    """Note the images (sha256 -> path) as seen; a known one gets the new path and keeps its label."""
    if not paths:
        return
    statement = insert(session, Image)
    statement = statement.on_conflict_do_update(
        index_elements=["line_id", "sha256"],
        set_={"path": statement.excluded.path},
        where=IMAGE.c.path != statement.excluded.path,
    )
    rows = [{"line_id": line.id, "sha256": sha, "path": storable(path)} for sha, path in sorted(paths.items())]
    session.execute(statement, rows)


def label(
    session: Session,
    line: Line,
    targets: Sequence[str | Path],
    as_label: str,
    *,
    kind: str | None = None,
    at: datetime | None = None,
) -> int:
    """Say of images, given by file or by sha256, that they are good or a defect (of a kind); how many images that were.

    A file that is there is known by its content, wherever it lies; one that is gone by the path it was last
    seen at, if no other image was.

    Raises:
        UnknownImage: the line never saw one of them; then none is labelled.
        UsageError: several images lay at the path of a file that is gone; then none is labelled either.
    """
    if as_label not in LABELS:
        raise UsageError(
            f"label {as_label!r}, expected one of {', '.join(LABELS)}", hint="write --as good or --as defect"
        )
    if kind is not None and (as_label != "defect" or not KIND.fullmatch(kind)):
        raise UsageError(
            f"kind {kind!r} of a {as_label}, expected a defect's, in at most {KIND_CHARS} letters, digits, '-', '_'",
            hint="for example: --as defect --kind crack",
        )
    found: set[str] = set()
    unknown: list[str] = []
    for target in targets:
        hashes = _hashes_of(session, line, str(target))
        found.update(hashes)
        if not hashes:
            unknown.append(str(target))
    if unknown:
        more = f" and {len(unknown) - NAMES_LISTED} more" if len(unknown) > NAMES_LISTED else ""
        raise UnknownImage(
            f"line {line.name!r} never saw {', '.join(unknown[:NAMES_LISTED])}{more}; nothing was labelled",
            hint="label images that were ingested (or scored) before, by their path or their sha256",
        )
    when = at or utc_now()
    for some in _chunks(sorted(found)):
        session.execute(
            update(IMAGE)
            .where(IMAGE.c.line_id == line.id, IMAGE.c.sha256.in_(some))
            .values(label=as_label, labelled_at=when, kind=kind)
        )
    return len(found)


def find(session: Session, line: Line, hashes: Iterable[str]) -> dict[str, Image]:
    """What is known of these images, by sha256; unknown ones are left out."""
    return {
        image.sha256: image
        for some in _chunks(sorted(set(hashes)))
        for image in session.scalars(select(Image).where(Image.line_id == line.id, Image.sha256.in_(some)))
    }


def labelled(session: Session, line: Line, as_label: str) -> list[Image]:
    """The line's images of that label, in the order in which they were labelled."""
    return list(
        session.scalars(
            select(Image)
            .where(Image.line_id == line.id, Image.label == as_label)
            .order_by(Image.labelled_at, Image.sha256)
        )
    )


def golden_set(session: Session, line: Line, *, most: int) -> list[Image]:
    """At most so many labelled defects, of every kind in turn, the last labelled first: a rare kind is never crowded out."""
    by_kind: dict[str, list[Image]] = {}
    for image in reversed(labelled(session, line, "defect")):
        by_kind.setdefault(image.kind or "", []).append(image)
    taken: list[Image] = []
    for turn in range(max(map(len, by_kind.values()), default=0)):
        taken += [own[turn] for _, own in sorted(by_kind.items()) if turn < len(own)]
    return taken[:most]


def set_kept(session: Session, line: Line, kept_paths: Mapping[str, str]) -> None:
    """Note where the vault's copies of images (sha256 -> path) lie; UnknownImage for one never seen."""
    missing = kept_paths.keys() - find(session, line, kept_paths).keys()
    if missing:
        raise UnknownImage(f"line {line.name!r} never saw {', '.join(sorted(missing)[:NAMES_LISTED])}")
    for sha256, path in kept_paths.items():
        session.execute(
            update(IMAGE).where(IMAGE.c.line_id == line.id, IMAGE.c.sha256 == sha256).values(kept_path=storable(path))
        )


def _hashes_of(session: Session, line: Line, target: str) -> set[str]:
    """The images meant: by hash, by the content of the file, by the path it was last seen at."""
    known = select(IMAGE.c.sha256).where(IMAGE.c.line_id == line.id)
    if SHA256.fullmatch(target.lower()):
        return set(session.scalars(known.where(IMAGE.c.sha256 == target.lower())))
    path = Path(target)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # longer than a file's name can be, or with a NUL in it
        is_file = False
    if is_file:
        return set(session.scalars(known.where(IMAGE.c.sha256 == file_sha256(path))))
    lay_there = IMAGE.c.path.in_({storable(target), storable(str(path.absolute()))})
    found = set(session.scalars(known.where(lay_there)))
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} images lay at {target}, the file is gone, and its name does not say which one is meant; "
            "nothing was labelled",
            hint=f"give its SHA-256{_last_of(session, line, lay_there)}; "
            f"halfsigma curate {line.name} --night YYYY-MM-DD shows those of a night",
        )
    return found


def _last_of(session: Session, line: Line, condition: ColumnElement[bool]) -> str:
    """Which of these images was scored last, for people; empty when none was."""
    last = session.execute(
        select(SCORE.c.sha256, SCORE.c.night)
        .join(IMAGE, (IMAGE.c.line_id == SCORE.c.line_id) & (IMAGE.c.sha256 == SCORE.c.sha256))
        .where(SCORE.c.line_id == line.id, condition)
        .order_by(SCORE.c.night.desc(), SCORE.c.captured_at.desc(), SCORE.c.id.desc())
        .limit(1)
    ).first()
    return f": {last.sha256} is the last, of {last.night}" if last else ""


def _chunks(hashes: list[str]) -> Iterable[list[str]]:
    return (hashes[start : start + HASHES_A_QUERY] for start in range(0, len(hashes), HASHES_A_QUERY))
