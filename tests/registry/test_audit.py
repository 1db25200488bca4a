"""The audit is written once: neither UPDATE nor DELETE nor any way around them changes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from halfsigma import DatabaseError
from registry import audit
from registry.database import Database
from registry.lines import create_line
from registry.tables import Line

AT = datetime(2026, 8, 14, 12, 0, tzinfo=UTC)
CHANGES = [
    "UPDATE audit SET actor = 'nobody'",
    "UPDATE audit SET version = version",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id = (SELECT min(id) FROM audit)",
]
SQLITE_CHANGES = [
    "REPLACE INTO audit (id, at, actor, action, document) VALUES (1, '2026-01-01', 'x', 'y', '{}')",
    "INSERT OR REPLACE INTO audit (id, at, actor, action, document) VALUES (1, '2026-01-01', 'x', 'y', '{}')",
    "UPDATE OR IGNORE audit SET actor = 'nobody'",
]
POSTGRESQL_CHANGES = ["TRUNCATE audit", "TRUNCATE line CASCADE"]


def test_an_entry_is_never_changed(database: Database, backend: str) -> None:
    with database.session() as session:
        audit.record(session, actor="anna", action="promoted", version=2, document={"why": "gates passed"}, at=AT)
    for change in CHANGES + (SQLITE_CHANGES if backend == "sqlite" else POSTGRESQL_CHANGES):
        with pytest.raises(DatabaseError, match="audit is append-only"), database.session() as session:
            session.execute(text(change))
    with database.session() as session:
        (entry,) = audit.history(session)
    assert (entry.actor, entry.action, entry.version, entry.at) == ("anna", "promoted", 2, AT)
    assert entry.document == {"why": "gates passed"}


def test_an_entry_is_there_only_with_what_it_tells_of(database: Database) -> None:
    with pytest.raises(RuntimeError), database.session() as session:
        create_line(session, "tiles", detector="patchcore")
        audit.record(session, actor="halfsigma", action="created")
        raise RuntimeError("before the commit")
    with database.session() as session:
        assert audit.history(session) == []


def test_history_is_by_line_as_it_was_written(session: Session, line: Line) -> None:
    other = create_line(session, "press", detector="patchcore")
    for days, made_for in ((0, line), (2, line), (1, other)):
        audit.record(session, actor="a", action="promoted", line=made_for, at=AT + timedelta(days=days))
    assert [entry.at for entry in audit.history(session, line)] == [AT, AT + timedelta(days=2)]
    assert len(audit.history(session)) == 3
    assert [entry.at for entry in audit.history(session, line, until=AT)] == [AT]
    assert audit.history(session, line, actions=["fitted"]) == []


def test_a_clock_that_is_put_back_does_not_bring_an_earlier_champion_back(session: Session, line: Line) -> None:
    for minutes, version in ((0, 1), (60, 2), (55, 1), (58, 3)):
        audit.record(
            session, actor="a", action="promoted", line=line, version=version, at=AT + timedelta(minutes=minutes)
        )
    assert [entry.version for entry in audit.history(session, line)] == [1, 2, 1, 3]

    def champion(minutes: float) -> int | None:
        entry = audit.last_entry(session, line, actions=["promoted"], until=AT + timedelta(minutes=minutes))
        return entry.version if entry else None

    assert [champion(minutes) for minutes in (30, 56, 59, 61, 9999)] == [1, 1, 3, 3, 3]


def test_the_last_promotion_before_an_instant_says_who_was_champion(session: Session, line: Line) -> None:
    moves = [(0, "promoted", 1), (10, "promoted", 2), (12, "rolled_back", 1), (11, "checked", None)]
    for days, action, version in moves:
        audit.record(session, actor="a", action=action, line=line, version=version, at=AT + timedelta(days=days))

    def champion(days: float) -> int | None:
        moved = ["promoted", "rolled_back"]
        entry = audit.last_entry(session, line, actions=moved, until=AT + timedelta(days=days))
        return entry.version if entry else None

    assert [champion(days) for days in (-1, 0, 9.9, 10, 11.5, 12, 99)] == [None, 1, 1, 2, 2, 1, 1]
