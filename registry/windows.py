"""A version's nights as the statistics take them, read from the score log a night at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import CursorResult, Result, Select, bindparam, func, literal, select
from sqlalchemy.orm import Session

from drift.window import Window
from registry.tables import COVARIATES, Image, Score, Unreadable, table_of

MIN_MEASURED_SHARE = 0.5  # of a night's images; below it a covariate says too little to be filled up

SCORE = table_of(Score)
UNREADABLE = table_of(Unreadable)
IMAGE = table_of(Image)


def windows(session: Session, line_id: int, version: int, *, until: date, n_nights: int | None = None) -> list[Window]:
    """The version's nights up to ``until``, oldest first, each in capture order, labelled defects left out.

    A night is there when the version scored images in it, or when images of it could not be read after the
    version's first night. ``n_nights`` takes the last so many nights with scores (idle days do not count).
    """
    scored = last_nights(session, line_id, version, until=until, n_nights=n_nights)
    n_unreadable = unreadable_counts(session, line_id, first=min(scored, default=until), until=until)
    defects = defect_hashes(session, line_id)
    return [
        read_window(session, line_id, version, night, defects=defects, n_unreadable=n_unreadable.get(night, 0))
        for night in sorted({*scored, *n_unreadable})
    ]


def read_window(
    session: Session, line_id: int, version: int, night: date, *, defects: Set[str], n_unreadable: int = 0
) -> Window:
    """One night in capture order: (captured_at, natural order of the names); the hashes in ``defects`` are left out.

    A covariate that some images of a night lack is filled with the night's median; one that most lack is left out.
    """
    rows = _plain_rows(session.execute(SCORES_OF_NIGHT, {"line_id": line_id, "version": version, "night": night}))
    kept = [row for row in rows if row[0] not in defects] if defects else rows
    columns: list[Any] = list(zip(*kept, strict=True)) if kept else [()] * (2 + len(COVARIATES))
    covariates = dict(_covariates(columns[2:]))
    return Window(
        night=night,
        scores=np.array(columns[1], dtype=np.float64),
        covariates=covariates,
        # where no picture was measured the detector is not ours, and its hashes are of names, which may come again
        image_hashes=tuple(columns[0]) if covariates else (),
        n_unreadable=n_unreadable,
        n_known_defects=len(rows) - len(kept),
    )


def last_nights(
    session: Session, line_id: int, version: int, *, until: date, n_nights: int | None = None
) -> list[date]:
    """The nights up to ``until`` in which the version scored images, oldest first; the last ``n_nights`` of them."""
    given = {"line_id": line_id, "version": version, "until": until}
    limit = {"n_nights": n_nights if n_nights is not None else 2**31 - 1}
    return sorted(session.scalars(LAST_NIGHTS, {**given, **limit}))


def unreadable_counts(session: Session, line_id: int, *, first: date, until: date) -> dict[date, int]:
    """How many images could not be read, by night; only nights with any."""
    rows = session.execute(UNREADABLE_COUNTS, {"line_id": line_id, "first": first, "until": until})
    return {night: int(n) for night, n in rows}


def defect_hashes(session: Session, line_id: int) -> set[str]:
    """SHA-256 of every image of the line that a person labelled a defect."""
    return set(session.scalars(DEFECT_HASHES, {"line_id": line_id}))


def defects_by_night(session: Session, line_id: int, version: int) -> dict[date, set[str]]:
    """The labelled defects among what the version scored, by night; only nights with any."""
    found: dict[date, set[str]] = {}
    for night, sha256 in session.execute(DEFECTS_SCORED, {"line_id": line_id, "version": version}):
        found.setdefault(night, set()).add(sha256)
    return found


def _plain_rows(found: Result[Any]) -> list[tuple[Any, ...]]:
    """As the driver gives them: text and floats need no processing, and Row objects take as long again as the reading."""
    assert isinstance(found, CursorResult) and found.cursor is not None, "a SELECT of columns has a cursor"
    with _collector_paused():
        return list(found.cursor.fetchall())


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A night's rows are tens of thousands of objects without a cycle: the collector's rounds over them cost an eighth of a
    wide night's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _last_nights() -> Select[Any]:
    """Nights with scores, found by hopping back along the index, one seek a night."""
    mine = (SCORE.c.line_id == bindparam("line_id")) & (SCORE.c.version == bindparam("version"))
    latest = select(func.max(SCORE.c.night).label("night"), literal(1).label("k"))
    hop = latest.where(mine, SCORE.c.night <= bindparam("until")).cte("hop", recursive=True)
    earlier = select(func.max(SCORE.c.night)).where(mine, SCORE.c.night < hop.c.night).correlate(hop)
    goes_on = hop.c.night.is_not(None) & (hop.c.k < bindparam("n_nights"))
    hop = hop.union_all(select(earlier.scalar_subquery(), hop.c.k + 1).where(goes_on))
    return select(hop.c.night).where(hop.c.night.is_not(None))


def _defects_scored() -> Select[Any]:
    """One seek per labelled defect: the subquery keeps SQLite from walking through every score of the version."""
    defects = select(IMAGE.c.sha256).where(IMAGE.c.line_id == bindparam("line_id"), IMAGE.c.label == "defect")
    return select(SCORE.c.night, SCORE.c.sha256).where(
        SCORE.c.line_id == bindparam("line_id"), SCORE.c.version == bindparam("version"), SCORE.c.sha256.in_(defects)
    )


# Made once: a wide night asks them of a thousand lines.
LAST_NIGHTS = _last_nights()
DEFECTS_SCORED = _defects_scored()
DEFECT_HASHES = select(IMAGE.c.sha256).where(IMAGE.c.line_id == bindparam("line_id"), IMAGE.c.label == "defect")
UNREADABLE_COUNTS = (
    select(UNREADABLE.c.night, func.count())
    .where(
        UNREADABLE.c.line_id == bindparam("line_id"),
        UNREADABLE.c.night.between(bindparam("first"), bindparam("until")),
    )
    .group_by(UNREADABLE.c.night)
)
SCORES_OF_NIGHT = (
    select(SCORE.c.sha256, SCORE.c.score, *(SCORE.c[name] for name in COVARIATES))
    .where(
        SCORE.c.line_id == bindparam("line_id"),
        SCORE.c.version == bindparam("version"),
        SCORE.c.night == bindparam("night"),
    )
    .order_by(SCORE.c.captured_at, SCORE.c.name_order, SCORE.c.id)
)


def _covariates(columns: Iterable[Any]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for name, column in zip(COVARIATES, columns, strict=True):
        values = np.array(column, dtype=np.float64)  # None becomes NaN
        missing = np.isnan(values)
        if not missing.any():
            if len(values):
                yield name, values
        elif missing.mean() <= 1.0 - MIN_MEASURED_SHARE:
            yield name, np.where(missing, np.median(values[~missing]), values)
