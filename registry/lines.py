"""Lines, their versions, and which version carries which alias.

Versions and aliases mirror MLflow, where the truth is: ``record_version`` and ``set_alias`` may be told the
same thing any number of times.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, undefer

from halfsigma import AnotherVersion, UnknownLine, UnknownVersion, UsageError
from registry.columns import utc_now
from registry.database import insert
from registry.tables import ALIASES, LINE_NAME_CHARS, ORIGINS, POLICIES, Alias, Line, Version, table_of

LINE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LINE_NAME_CHARS}}}")  # MLflow's model name is halfsigma.<line>
NAMES_LISTED = 10  # of the known lines in an error message
DEFAULT_FPR_BUDGET = 0.01
ANOTHER_HINT = "MLflow's store was replaced and counts from one again: restore it, or fit a line of another name"
COUNTED = {
    "shadow_nights": (1, 366),
    "probation_nights": (0, 366),
    "cooldown_nights": (0, 366),
    "retrain_budget": (1, 30),
    "approvals": (1, 10),
    "min_labels": (0, 100_000),
}
"""A line's settings that are counted, with the least and the most of each."""


def create_line(
    session: Session,
    name: str,
    *,
    detector: str,
    time_zone: str = "UTC",
    policy: str = "auto",
    fpr_budget: float = DEFAULT_FPR_BUDGET,
    latency_budget_ms: float | None = None,
    at: datetime | None = None,
) -> Line:
    """A new line; UsageError when the name is taken or any value is not of the form asked for."""
    check_line_name(name)
    check_time_zone(time_zone)
    check_policy(policy)
    _check_budgets(fpr_budget, latency_budget_ms)
    row = {
        "name": name,
        "time_zone": time_zone,
        "detector": detector,
        "policy": policy,
        "fpr_budget": fpr_budget,
        "latency_budget_ms": latency_budget_ms,
        "created_at": at or utc_now(),
    }
    statement = insert(session, Line).values(row).on_conflict_do_nothing().returning(table_of(Line).c.id)
    if session.execute(statement).first() is None:
        raise UsageError(f"line {name!r} exists already", hint="choose another name, or fit the existing line again")
    return get_line(session, name)


def get_line(session: Session, name: str) -> Line:
    """The line of that name; UnknownLine, which lists the known names, when there is none."""
    line = find_line(session, name)
    if line is not None:
        return line
    known = list(session.scalars(select(Line.name).order_by(Line.name)))
    if not known:
        raise UnknownLine(f"no line {name!r}: there are no lines yet", hint="make one: halfsigma fit LINE --good DIR")
    listed = ", ".join(known[:NAMES_LISTED]) + (
        f" and {len(known) - NAMES_LISTED} more" if len(known) > NAMES_LISTED else ""
    )
    raise UnknownLine(f"no line {name!r}; known lines: {listed}", hint="check the spelling, or fit it: halfsigma fit")


def find_line(session: Session, name: str) -> Line | None:
    """The line of that name, or None."""
    return session.scalars(select(Line).where(Line.name == name)).one_or_none()


def list_lines(session: Session) -> list[Line]:
    """Every line, by name."""
    return list(session.scalars(select(Line).order_by(Line.name)))


def update_line(
    session: Session,
    line: Line,
    *,
    policy: str | None = None,
    time_zone: str | None = None,
    fpr_budget: float | None = None,
    latency_budget_ms: float | None = None,
    counted: Mapping[str, int | None] | None = None,
) -> Line:
    """Change what is given and leave the rest; ``counted`` are those of `COUNTED`."""
    if policy is not None:
        check_policy(policy)
    if time_zone is not None:
        check_time_zone(time_zone)
    _check_budgets(fpr_budget, latency_budget_ms)
    given: dict[str, Any] = {
        "policy": policy,
        "time_zone": time_zone,
        "fpr_budget": fpr_budget,
        "latency_budget_ms": latency_budget_ms,
    }
    for name, value in (counted or {}).items():
        _check_counted(name, value)
        given[name] = value
    values = {column: value for column, value in given.items() if value is not None}
    if values:
        session.execute(update(Line).where(Line.id == line.id).values(values))
    return session.scalars(select(Line).where(Line.id == line.id).execution_options(populate_existing=True)).one()


def record_version(
    session: Session,
    line: Line,
    number: int,
    *,
    detector: str,
    threshold: float,
    mean_ref: float,
    sd_ref: float,
    n_reference: int,
    reference: Mapping[str, Any],
    origin: str,
    base_version: int | None = None,
    at: datetime | None = None,
) -> Version:
    """Mirror a version of MLflow; a version never changes, so telling it again gives the one recorded.

    Raises:
        AnotherVersion: what is recorded by that number has another threshold or reference.
    """
    if origin not in ORIGINS:
        raise UsageError(f"origin {origin!r}, expected one of {', '.join(ORIGINS)}")
    row = {
        "line_id": line.id,
        "number": number,
        "detector": detector,
        "threshold": threshold,
        "mean_ref": mean_ref,
        "sd_ref": sd_ref,
        "n_reference": n_reference,
        "reference": dict(reference),
        "origin": origin,
        "base_version": base_version,
        "created_at": at or utc_now(),
    }
    known = select(Version.id).where(Version.line_id == line.id, Version.number == number)
    if session.scalar(known) is None:
        # a write, even of nothing new, would lock SQLite until MLflow has answered what follows
        session.execute(insert(session, Version).values(row).on_conflict_do_nothing())
    version = get_version(session, line, number)
    if (version.threshold, version.mean_ref, version.sd_ref) != (threshold, mean_ref, sd_ref):
        raise AnotherVersion(
            f"MLflow's version {number} of line {line.name!r} is another than the one that was recorded by that number on "
            f"{version.created_at:%Y-%m-%d}",
            hint=ANOTHER_HINT,
        )
    return version


def get_version(session: Session, line: Line, number: int | None = None) -> Version:
    """That version, or the champion when no number is given; UnknownVersion when it is not there.

    Its ``reference`` is loaded too, so that a check needs nothing else.
    """
    if number is None:
        number = aliases(session, line).get("champion")
        if number is None:
            raise UnknownVersion(
                f"line {line.name!r} has no champion yet",
                hint=f"make one: halfsigma fit {line.name} --good DIR",
            )
    version = session.scalars(
        select(Version).where(Version.line_id == line.id, Version.number == number).options(undefer(Version.reference))
    ).one_or_none()
    if version is None:
        known = [str(known.number) for known in list_versions(session, line)]
        raise UnknownVersion(
            f"line {line.name!r} has no version {number}; known versions: {', '.join(known) or 'none'}",
            hint=f"see halfsigma status {line.name}",
        )
    return version


def list_versions(session: Session, line: Line) -> list[Version]:
    """Every version of the line, oldest first, without the references."""
    return list(session.scalars(select(Version).where(Version.line_id == line.id).order_by(Version.number)))


def aliases(session: Session, line: Line) -> dict[str, int]:
    """Which version carries which alias, e.g. ``{"champion": 3, "previous": 2}``."""
    rows = session.execute(select(Alias.alias, Alias.version).where(Alias.line_id == line.id))
    return {row[0]: row[1] for row in rows}


def all_aliases(session: Session) -> dict[int, dict[str, int]]:
    """The aliases of every line, by the line's id: one query for a status of all lines."""
    found: dict[int, dict[str, int]] = {}
    for line_id, alias, version in session.execute(select(Alias.line_id, Alias.alias, Alias.version)):
        found.setdefault(line_id, {})[alias] = version
    return found


def set_alias(session: Session, line: Line, alias: str, version: int | None, *, at: datetime | None = None) -> bool:
    """Mirror that MLflow's alias points to this version, or to none; True when that was news.

    Of several processes that mirror the same move at once, exactly one is told True.
    """
    if alias not in ALIASES:
        raise UsageError(f"alias {alias!r}, expected one of {', '.join(ALIASES)}")
    if aliases(session, line).get(alias) == version:
        return False  # the usual case, and it must not queue for the write lock
    table = table_of(Alias)
    if version is None:
        gone = delete(table).where(table.c.line_id == line.id, table.c.alias == alias).returning(table.c.id)
        return session.execute(gone).first() is not None
    since = at or utc_now()
    row = {"line_id": line.id, "alias": alias, "version": version, "since": since}
    statement = (
        insert(session, Alias)
        .values(row)
        .on_conflict_do_update(
            index_elements=["line_id", "alias"],
            set_={"version": version, "since": since},
            where=table.c.version != version,
        )
        .returning(table.c.id)
    )
    return session.execute(statement).first() is not None


def move_champion(session: Session, line: Line, *, start: int | None, to: int, at: datetime | None = None) -> bool:
    """Mirror that the champion went from one version to another; False when the mirror was elsewhere, or there already.

    Of several processes that mirror the same move, or one that looked long ago and one that did since, one is told True.
    The line's detector is its champion's.
    """
    table = table_of(Alias)
    since = at or utc_now()
    if start is None:
        row = {"line_id": line.id, "alias": "champion", "version": to, "since": since}
        new = insert(session, Alias).values(row).on_conflict_do_nothing().returning(table.c.id)
        has_moved = session.execute(new).first() is not None
    else:
        is_start = (table.c.version == start) & (table.c.version != to)
        moved = (
            update(table)
            .where(table.c.line_id == line.id, table.c.alias == "champion", is_start)
            .values(version=to, since=since)
            .returning(table.c.id)
        )
        has_moved = session.execute(moved).first() is not None
    family = session.scalar(select(Version.detector).where(Version.line_id == line.id, Version.number == to))
    if has_moved and family is not None:
        session.execute(update(Line).where(Line.id == line.id).values(detector=family))
    return has_moved


def check_line_name(name: str) -> None:
    """UsageError unless the name can be part of MLflow's model name, a folder and a URL."""
    if not LINE_NAME.fullmatch(name):
        raise UsageError(
            f"line name {name!r}, expected letters, digits, '-' and '_', 1 to {LINE_NAME_CHARS} of them",
            hint="for example: tiles-3 or press_12",
        )


def check_policy(policy: str) -> None:
    """UsageError unless it is a promotion policy."""
    if policy not in POLICIES:
        raise UsageError(f"policy {policy!r}, expected one of {', '.join(POLICIES)}")


def check_time_zone(time_zone: str) -> ZoneInfo:
    """The zone; UsageError unless it is of the IANA database."""
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"time zone {time_zone!r} is not known",
            hint="write it as in the IANA database, e.g. Europe/Vienna",
        ) from error


def parse_night(text: str) -> date:
    """A night from ``YYYY-MM-DD``; UsageError for anything else.

    >>> parse_night("2026-11-24")
    datetime.date(2026, 11, 24)
    """
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise UsageError(f"night {text!r} is not a date, expected YYYY-MM-DD", hint="for example: --night 2026-11-24")


def night_start(night: date, time_zone: str) -> datetime:
    """The instant (UTC) at which the night's date begins in the line's time zone.

    >>> night_start(date(2026, 11, 24), "Europe/Vienna")
    datetime.datetime(2026, 11, 23, 23, 0, tzinfo=datetime.timezone.utc)
    """
    begins = datetime.combine(night, time(), tzinfo=check_time_zone(time_zone))
    try:
        return begins.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"night {night} is at the end of the calendar", hint="for example: 2026-11-24") from error


def night_of(instant: datetime, time_zone: str) -> date:
    """The date in the line's time zone at that instant, which must be aware.

    >>> night_of(datetime(2026, 11, 23, 23, 30, tzinfo=UTC), "Europe/Vienna")
    datetime.date(2026, 11, 24)
    """
    if instant.tzinfo is None:
        raise UsageError(f"{instant.isoformat()} has no time zone", hint="say which: 2026-11-24T02:00:00+01:00")
    return instant.astimezone(check_time_zone(time_zone)).date()


def _check_counted(name: str, value: int | None) -> None:
    least, most = COUNTED[name]
    if value is not None and not least <= value <= most:
        raise UsageError(
            f"{name.replace('_', ' ')} {value}, expected {least} to {most}", hint="see halfsigma configure --help"
        )


def _check_budgets(fpr_budget: float | None, latency_budget_ms: float | None) -> None:
    if fpr_budget is not None and not 0.0 < fpr_budget <= 0.5:
        raise UsageError(
            f"false-positive budget {fpr_budget}, expected a share above 0, at most 0.5", hint="1 % is 0.01"
        )
    if latency_budget_ms is not None and not 0.0 < latency_budget_ms < math.inf:
        raise UsageError(f"latency budget {latency_budget_ms} ms, expected more than 0", hint="give milliseconds")
