"""A line's night, read and measured: tonight's scores, and of the nights before it what was kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import bindparam, exists, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from drift.measurement import Measurement, measure_tonight
from drift.nights import Night, baseline, summarise
from drift.reference import Reference
from drift.settings import DriftSettings
from halfsigma import DatabaseError, DriftError, HalfsigmaError, UnknownVersion
from registry.database import Database
from registry.summaries import Kept, Summarised, kept_summaries, summary_key
from registry.tables import Retrain, Score, Version, table_of
from registry.windows import defects_by_night, last_nights, read_window, unreadable_counts

SCORE, VERSION, RETRAIN = table_of(Score), table_of(Version), table_of(Retrain)
REFERENCE_OF = select(VERSION.c.reference).where(
    VERSION.c.line_id == bindparam("line_id"), VERSION.c.number == bindparam("version")
)
SCORED_BY = select(VERSION.c.number).where(
    VERSION.c.line_id == bindparam("line_id"),
    exists().where(
        SCORE.c.line_id == VERSION.c.line_id,
        SCORE.c.version == VERSION.c.number,
        SCORE.c.night == bindparam("night"),
        SCORE.c.shadow.is_(False),
    ),
)
LEARNED_FROM = select(RETRAIN.c.new_version).where(
    RETRAIN.c.line_id == bindparam("line_id"),
    RETRAIN.c.night >= bindparam("night"),
    RETRAIN.c.new_version.is_not(None),
)
"""Versions made of this night, or of a later one, which takes earlier nights with it."""


@dataclass(frozen=True, slots=True)
class LineToMeasure:
    """A line and its champion."""

    line_id: int
    name: str
    champion: int


@dataclass(frozen=True, slots=True)
class MeasuredLine:
    """A line's night as `version` saw it, and the summaries that were not kept yet."""

    line_id: int
    name: str
    version: int
    measurement: Measurement
    summarised: tuple[Summarised, ...]


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A line that could not be measured, and why."""

    name: str
    error: HalfsigmaError


def measure_lines(url: str, several: Sequence[LineToMeasure], night: date) -> list[MeasuredLine | Unmeasured]:
    """Measure the lines one after the other; for a process of its own, so it opens the database at ``url`` itself.

    Raises:
        DatabaseError: the database is away; nothing can be said of any line.
    """
    outcomes: list[MeasuredLine | Unmeasured] = []
    with Database(url) as database, database.session() as session:
        for line in several:
            try:
                outcomes.append(measure_line(session, line, night))
            except (DriftError, UnknownVersion) as error:
                outcomes.append(Unmeasured(line.name, error))
            except (DatabaseError, SQLAlchemyError):
                raise
            except Exception as error:  # noqa: BLE001  # figures that nobody foresaw: one line's fault ends no other's night
                told = DriftError(
                    f"its night cannot be measured: {type(error).__name__}: {error}",
                    hint="look at that night's rows in the database's table score; if they are sound, report this",
                )
                outcomes.append(Unmeasured(line.name, told))
            session.rollback()  # nothing was written; a snapshot of PostgreSQL is not held for all lines
    return outcomes


def measure_line(session: Session, line: LineToMeasure, night: date, *, version: int | None = None) -> MeasuredLine:
    """Measure one line as ``version`` saw it, by default who judged that night; a night without images is measured as well.

    Raises:
        UnknownVersion: the version was never mirrored.
        DriftError: its reference cannot be compared with.
    """
    settings = DriftSettings()
    version = _judged_by(session, line, night) if version is None else version
    base = baseline(_reference(session, line, version))
    scored = last_nights(session, line.line_id, version, until=night, n_nights=settings.history_nights)
    first = min(scored, default=night)
    n_unreadable = unreadable_counts(session, line.line_id, first=first, until=night)
    # Before the scores, so that what is logged while they are read makes the summary one that is not kept.
    kept = kept_summaries(session, line.line_id, version, first=first, until=night)
    defects = defects_by_night(session, line.line_id, version)

    def known(of: date) -> tuple[Kept, str]:
        return kept.get(of, Kept()), summary_key(defects.get(of, set()))

    summaries: list[Night | None] = []
    new: list[Summarised] = []
    for earlier in sorted({*scored, *n_unreadable, night})[-settings.history_nights : -1]:
        before, key = known(earlier)
        if earlier not in scored:
            summaries.append(None)
        elif before.key == key:
            summaries.append(before.night)
        else:
            window = read_window(session, line.line_id, version, earlier, defects=defects.get(earlier, set()))
            summaries.append(summarise(base, window))
            new.append(Summarised(line.line_id, version, earlier, before.log_revision, key, summaries[-1]))
    window = read_window(
        session,
        line.line_id,
        version,
        night,
        defects=defects.get(night, set()),
        n_unreadable=n_unreadable.get(night, 0),
    )
    summaries.append(summarise(base, window))
    before, key = known(night)
    if night in scored and before.key != key:
        new.append(Summarised(line.line_id, version, night, before.log_revision, key, summaries[-1]))
    measurement = measure_tonight(base, summaries, window, settings=settings)
    return MeasuredLine(line.line_id, line.name, version, measurement, tuple(new))


def _judged_by(session: Session, line: LineToMeasure, night: date) -> int:
    """The champion, unless the night was scored by other versions only: a night is judged by who saw it.

    Not by a challenger that scored along: nobody was told what it says. And not by a version that learned from the night, when a
    folder was ingested once more since: it would be compared with its reference on images that it knows.
    """
    scored = set(session.scalars(SCORED_BY, {"line_id": line.line_id, "night": night}))
    if len(scored) > 1:
        scored -= set(session.scalars(LEARNED_FROM, {"line_id": line.line_id, "night": night}))
    return line.champion if line.champion in scored else max(scored, default=line.champion)


def _reference(session: Session, line: LineToMeasure, version: int) -> Reference:
    document = session.scalar(REFERENCE_OF, {"line_id": line.line_id, "version": version})
    if document is None:
        raise UnknownVersion(f"line {line.name!r} has no version {version}", hint=f"see halfsigma status {line.name}")
    return Reference.from_json(document)
