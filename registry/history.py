"""Which version was deployed when, why, and which one judged an image: told from the audit and the score log alone.

MLflow is not asked: it forgets who carried an alias before (mlflow #2169), and it may be away or have been changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry import audit
from registry.lines import check_time_zone
from registry.tables import Audit, Line, Score, Version, table_of

DEPLOYING = ("deployed", "promoted", "rolled_back", "champion_restored", "watched")
"""Actions of the audit after which another version is champion."""
MAKING = ("fitted", "registered")
"""Actions of the audit that tell how a version was made."""
A_DAY = timedelta(days=1)

SCORE, VERSION = table_of(Score), table_of(Version)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that became champion: when, instead of which, by whom and why.

    Attributes:
        document: the audit entry's own.
        made: the audit entry's document of how the version was made: gates, images, code; empty if it was not made here.
    """

    at: datetime
    version: int
    replaced: int | None
    action: str
    actor: str
    reason: str
    document: dict[str, Any]
    made: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One image, judged once by one version."""

    version: int
    night: date
    name: str
    captured_at: datetime
    judged_at: datetime
    """When it was scored; for scores of older installations and of other detectors, when it was photographed."""
    score: float
    threshold: float
    rejected: bool
    shadow: bool
    """Whether the version was only scoring along: then its verdict moved no part."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `history` says of an instant, and of an image if one was given."""

    version: int | None
    """That judged the image by then, or without an image, that was champion."""
    deployment: Deployed | None
    """Which brought that version there."""
    judgement: Judgement | None


def deployments(session: Session, line: Line, *, until: datetime | None = None) -> list[Deployed]:
    """Every change of the line's champion up to an instant, oldest first."""
    made: dict[int | None, Audit] = {}
    for entry in audit.history(session, line, actions=MAKING):
        made.setdefault(entry.version, entry)  # the same fit again gives the version that is there, and made nothing
    return [
        _deployed(entry, made.get(entry.version))
        for entry in audit.history(session, line, actions=DEPLOYING, until=until)
    ]


def judgements(session: Session, line: Line, sha256: str) -> list[Judgement]:
    """Every time the line judged that image, by the instant it did."""
    of_line = select(VERSION.c.number).where(VERSION.c.line_id == line.id)  # one seek a version, along the unique index
    rows = session.execute(
        select(SCORE, VERSION.c.threshold)
        .join(VERSION, (VERSION.c.line_id == SCORE.c.line_id) & (VERSION.c.number == SCORE.c.version))
        .where(SCORE.c.line_id == line.id, SCORE.c.version.in_(of_line), SCORE.c.sha256 == sha256)
        .order_by(SCORE.c.id)
    )
    found = [
        Judgement(
            version=row.version,
            night=row.night,
            name=row.name,
            captured_at=row.captured_at,
            judged_at=row.judged_at or row.captured_at,
            score=row.score,
            threshold=row.threshold,
            rejected=row.rejected,
            shadow=row.shadow,
        )
        for row in rows
    ]
    return sorted(found, key=lambda each: each.judged_at)  # stable: of two at once, the one that was logged first


def answer(changes: Sequence[Deployed], judged: Sequence[Judgement] | None, *, at: datetime) -> Answer:
    """Which version judged the image last up to ``at``, or without an image was champion then, and why it was there.

    Args:
        changes: as `deployments` gives them.
        judged: as `judgements` gives them; None when no image is asked about.
        at: the instant.
    """
    if judged is None:
        before = [change for change in changes if change.at <= at]
        return Answer(before[-1].version, before[-1], None) if before else Answer(None, None, None)
    counted = [each for each in judged if not each.shadow and each.judged_at <= at]
    if not counted:
        return Answer(None, None, None)
    last = counted[-1]
    # By the version, not by the instant: a folder that was begun under one champion is judged by it to its end.
    brought = [change for change in changes if change.version == last.version and change.at <= last.judged_at]
    return Answer(last.version, brought[-1] if brought else None, last)


def parse_instant(text: str, *, time_zone: str) -> datetime:
    """An instant from ISO 8601; a date alone is its end, and a time without a zone is the line's own.

    >>> parse_instant("2026-08-14", time_zone="Europe/Vienna").isoformat()
    '2026-08-14T21:59:59.999999+00:00'

    Raises:
        UsageError: it is neither.
    """
    zone = check_time_zone(time_zone)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            instant = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(
                f"{text!r} is neither a date nor an instant", hint="for example 2026-08-14 or 2026-08-14T06:30"
            ) from error
        return _in_utc(text, lambda: instant if instant.tzinfo else instant.replace(tzinfo=zone))
    return _in_utc(text, lambda: datetime.combine(day + A_DAY, time(), tzinfo=zone)) - timedelta(microseconds=1)


def _in_utc(text: str, instant: Callable[[], datetime]) -> datetime:
    try:
        return instant().astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"{text!r} is at the end of the calendar", hint="for example 2026-08-14") from error


def _deployed(entry: Audit, made: Audit | None) -> Deployed:
    assert entry.version is not None, "every deploying action names its version"
    before = entry.document.get("from")
    return Deployed(
        at=entry.at,
        version=entry.version,
        replaced=None if before is None else int(before),
        action=entry.action,
        actor=entry.actor,
        reason=str(entry.document.get("reason") or _usual_reason(entry)),
        document=dict(entry.document),
        made={} if made is None else {"at": made.at.isoformat(), "action": made.action, **made.document},
    )


def _usual_reason(entry: Audit) -> str:
    return {
        "deployed": "the line's first version",
        "watched": "the line's first scores of a detector that is not halfsigma's",
    }.get(entry.action, "no reason was given")
