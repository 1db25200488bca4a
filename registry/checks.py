"""The verdict of a night on a version; checking again replaces it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry.columns import utc_now
from registry.database import insert
from registry.tables import VERDICTS, Line, NightCheck


@dataclass(frozen=True, slots=True)
class NewCheck:
    """A verdict to keep; in ``document`` undefined figures become null."""

    line_id: int
    version: int
    night: date
    verdict: str
    document: Mapping[str, Any]


def record_checks(session: Session, new: Iterable[NewCheck], *, at: datetime | None = None) -> None:
    """Keep each verdict in place of an earlier one of that line, version and night."""
    when = at or utc_now()
    rows = [
        {
            "line_id": each.line_id,
            "version": each.version,
            "night": each.night,
            "verdict": each.verdict,
            "document": dict(each.document),
            "checked_at": when,
        }
        for each in sorted(new, key=lambda each: (each.line_id, each.version, each.night))
    ]
    for row in rows:
        if row["verdict"] not in VERDICTS:
            raise UsageError(f"verdict {row['verdict']!r}, expected one of {', '.join(VERDICTS)}")
    if not rows:
        return
    statement = insert(session, NightCheck)
    excluded = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["line_id", "version", "night"],
        set_={"verdict": excluded.verdict, "document": excluded.document, "checked_at": excluded.checked_at},
    )
    session.execute(statement, rows)


def get_check(session: Session, line: Line, version: int, night: date) -> NightCheck | None:
    """The verdict of that night on that version, if it was checked."""
    return session.scalars(
        select(NightCheck)
        .where(NightCheck.line_id == line.id, NightCheck.version == version, NightCheck.night == night)
        .execution_options(populate_existing=True)
    ).one_or_none()


def list_checks(
    session: Session, line: Line, *, version: int | None = None, until: date | None = None
) -> list[NightCheck]:
    """The line's verdicts (of one version, up to a night), oldest first."""
    query = select(NightCheck).where(NightCheck.line_id == line.id)
    if version is not None:
        query = query.where(NightCheck.version == version)
    if until is not None:
        query = query.where(NightCheck.night <= until)
    return list(session.scalars(query.order_by(NightCheck.night, NightCheck.version)))


def checks_of_night(session: Session, night: date, *, without: Collection[int]) -> list[NightCheck]:
    """The last verdict of that night of every line but those whose ids are in ``without``."""
    of_night = select(NightCheck).where(NightCheck.night == night).order_by(NightCheck.checked_at)
    last = {check.line_id: check for check in session.scalars(of_night) if check.line_id not in without}
    return list(last.values())


def latest_checks(session: Session) -> dict[int, NightCheck]:
    """The last verdict of every line, by the line's id: one query for a status of all lines."""
    rank = (
        func.row_number()
        .over(
            partition_by=NightCheck.line_id,
            order_by=(NightCheck.night.desc(), NightCheck.checked_at.desc(), NightCheck.id.desc()),
        )
        .label("rank")
    )
    ranked = select(NightCheck.id, rank).subquery()
    last = select(NightCheck).join(ranked, ranked.c.id == NightCheck.id).where(ranked.c.rank == 1)
    return {check.line_id: check for check in session.scalars(last)}
