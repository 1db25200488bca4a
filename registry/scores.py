"""The score log: written so that logging twice changes nothing, read at nearly the driver's speed.

What makes a score the same score is told in docs/decisions/score-identity.md. Scores are Core rows, never ORM
objects: a night of 1,000 lines is two million of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session, aliased

from halfsigma import ScoreError, UsageError
from registry.columns import storable
from registry.database import insert
from registry.summaries import forget_summaries
from registry.tables import COVARIATES, Image, Line, Score, Unreadable, table_of

BATCH_ROWS = 2_000  # one INSERT's worth: some 3 MB of parameters

SCORE = table_of(Score)
UNREADABLE = table_of(Unreadable)
IMAGE = table_of(Image)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One image scored once; ``captured_at`` (aware) is EXIF's, else ``lines.night_start``.

    A covariate that is missing or not finite is stored as "not measured".
    """

    sha256: str
    name: str  # the path relative to the ingested folder, with "/" between folders
    captured_at: datetime
    night: date
    score: float
    rejected: bool = False
    covariates: Mapping[str, float] = field(default_factory=dict)
    judged_at: datetime | None = None
    """When it was scored, aware; None: when it was photographed."""
    shadow: bool = False
    """Scored along by a challenger, whose verdict moves no part."""


@dataclass(frozen=True, slots=True)
class NightImage:
    """One scored image of a night as curation needs it; ``path`` is None when it was never remembered."""

    sha256: str
    name: str
    path: str | None
    kept_path: str | None
    label: str | None
    captured_at: datetime
    score: float
    rejected: bool
    covariates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class NightCount:
    """What a version scored in a night."""

    n_scored: int
    n_rejected: int


def log_scores(session: Session, line: Line, version: int, rows: Iterable[ScoreRow]) -> int:
    """How many of the scores were new; the others were logged before and are left as they are.

    Raises ScoreError, having written nothing, when a score is NaN or infinite. An image that could not be
    read before and is scored now is no longer counted as unreadable.
    """
    n_new = 0
    statement = insert(session, Score).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    prepared = sorted((_parameters(line.id, version, row) for row in rows), key=_capture_order)
    was_unreadable = _unreadable_names(session, line, {row["night"] for row in prepared})
    for start in range(0, len(prepared), BATCH_ROWS):
        batch = prepared[start : start + BATCH_ROWS]
        n_new += session.execute(statement, batch).rowcount  # type: ignore[attr-defined]
    if n_new:
        forget_summaries(session, line.id, version, (row["night"] for row in prepared))
    for row in prepared if was_unreadable else ():
        if (row["night"], row["name"]) in was_unreadable:
            session.execute(
                delete(UNREADABLE).where(
                    UNREADABLE.c.line_id == line.id,
                    UNREADABLE.c.night == row["night"],
                    UNREADABLE.c.name == row["name"],
                )
            )
    return n_new


def log_unreadable(session: Session, line: Line, night: date, reasons: Mapping[str, str]) -> int:
    """Note the names of images that could not be read that night, and why; how many were new."""
    rows = [
        {"line_id": line.id, "night": night, "name": storable(name), "reason": storable(reason)}
        for name, reason in reasons.items()
    ]
    if not rows:
        return 0
    statement = insert(session, Unreadable).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return int(session.execute(statement, rows).rowcount)  # type: ignore[attr-defined]


def unreadable(session: Session, line: Line, night: date) -> dict[str, str]:
    """Name and reason of every image that could not be read that night."""
    rows = session.execute(
        select(UNREADABLE.c.name, UNREADABLE.c.reason)
        .where(UNREADABLE.c.line_id == line.id, UNREADABLE.c.night == night)
        .order_by(UNREADABLE.c.id)
    )
    return {row[0]: row[1] for row in rows}


def night_images(session: Session, line: Line, version: int, night: date) -> list[NightImage]:
    """Every image the version scored that night, in capture order, labelled defects included."""
    image = aliased(IMAGE)
    rows = session.execute(
        select(
            SCORE.c.sha256,
            SCORE.c.name,
            image.c.path,
            image.c.kept_path,
            image.c.label,
            SCORE.c.captured_at,
            SCORE.c.score,
            SCORE.c.rejected,
            *(SCORE.c[name] for name in COVARIATES),
        )
        .outerjoin(image, (image.c.line_id == SCORE.c.line_id) & (image.c.sha256 == SCORE.c.sha256))
        .where(*_of(line, version), SCORE.c.night == night)
        .order_by(SCORE.c.captured_at, SCORE.c.name_order, SCORE.c.id)
    )
    return [
        NightImage(
            sha256=row.sha256,
            name=row.name,
            path=row.path,
            kept_path=row.kept_path,
            label=row.label,
            captured_at=row.captured_at,
            score=row.score,
            rejected=row.rejected,
            covariates=_measured(row[-len(COVARIATES) :]),
        )
        for row in rows
    ]


def nights_scored(session: Session, line: Line, *, version: int | None = None) -> list[date]:
    """The nights in which the line (or that version of it) scored images, oldest first."""
    conditions = [SCORE.c.line_id == line.id] + ([SCORE.c.version == version] if version is not None else [])
    return list(session.scalars(select(SCORE.c.night).where(*conditions).distinct().order_by(SCORE.c.night)))


def count(session: Session, line: Line, version: int, night: date) -> NightCount:
    """How many images the version scored that night, and how many of them it rejected."""
    n, n_rejected = session.execute(
        select(func.count(), func.count().filter(SCORE.c.rejected)).where(*_of(line, version), SCORE.c.night == night)
    ).one()
    return NightCount(n_scored=int(n), n_rejected=int(n_rejected))


def natural_order(name: str) -> str:
    """A key whose plain text order is the names' natural order, and that no two names share.

    >>> sorted(["img10.png", "img2.png", "img1.png"], key=natural_order)
    ['img1.png', 'img2.png', 'img10.png']
    """
    zeros: list[int] = []

    def by_length(match: re.Match[str]) -> str:
        digits = match[0].lstrip("0") or "0"
        zeros.append(len(match[0]) - len(digits))
        return f"{len(digits):03d}{digits}"

    key = re.sub(r"[0-9]+", by_length, name)
    return f"{key}\x01{','.join(map(str, zeros))}" if any(zeros) else key


def _of(line: Line, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return SCORE.c.line_id == line.id, SCORE.c.version == version


def _parameters(line_id: int, version: int, row: ScoreRow) -> dict[str, Any]:
    if not math.isfinite(row.score):
        raise ScoreError(
            f"the score of {row.name} on {row.night} is {row.score}, expected a finite number",
            hint="nothing was logged; correct or leave out this score",
        )
    if row.captured_at.tzinfo is None:
        raise UsageError(
            f"the instant {row.captured_at.isoformat()} of {row.name} has no time zone",
            hint="nothing was logged; say which zone, e.g. 2026-11-24T02:00:00+01:00",
        )
    name = storable(row.name)
    parameters: dict[str, Any] = {
        "line_id": line_id,
        "version": version,
        "sha256": row.sha256,
        "name": name,
        "name_order": natural_order(name),
        "captured_at": row.captured_at,
        "night": row.night,
        "score": float(row.score),
        "rejected": bool(row.rejected),
        "judged_at": row.judged_at,
        "shadow": row.shadow,
    }
    for covariate in COVARIATES:
        value = row.covariates.get(covariate)
        parameters[covariate] = float(value) if value is not None and math.isfinite(value) else None
    return parameters


def _capture_order(parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    """One order for all writers: two that log the same night cannot deadlock; rows lie as they are read."""
    return tuple(parameters[column] for column in ("night", "captured_at", "name_order", "sha256"))


def _unreadable_names(session: Session, line: Line, nights: Collection[date]) -> set[tuple[date, str]]:
    return {(night, name) for night in sorted(nights) for name in unreadable(session, line, night)}


def _measured(values: Iterable[float | None]) -> dict[str, float]:
    return {name: value for name, value in zip(COVARIATES, values, strict=True) if value is not None}
