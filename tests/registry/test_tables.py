"""The types of the tables keep what they are given, and refuse what they cannot keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Date, Double, Integer, String, Text, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from halfsigma import DatabaseError
from registry.columns import Document, UtcDateTime, plain
from registry.database import Database
from registry.lines import create_line, get_line
from registry.tables import Base, Line

A_VALUE = {
    Integer: "7",
    Double: "7.5",
    String: "'x'",
    Text: "'x'",
    Date: "'2026-01-01'",
    UtcDateTime: "'2026-01-01 00:00:00'",
    Document: "'{}'",
}


def test_an_instant_comes_back_in_utc_whatever_zone_it_had(session: Session) -> None:
    vienna = timezone(timedelta(hours=2))
    create_line(session, "tiles", detector="patchcore", at=datetime(2026, 7, 1, 1, 30, 0, 123456, tzinfo=vienna))
    session.expire_all()
    created_at = get_line(session, "tiles").created_at
    assert created_at == datetime(2026, 6, 30, 23, 30, 0, 123456, tzinfo=UTC)
    assert created_at.tzinfo is UTC


def test_an_instant_without_a_zone_is_refused(session: Session) -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        create_line(session, "tiles", detector="patchcore", at=datetime(2026, 7, 1))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (table.name, str(check.name).split("_")[-1])
        for table in Base.metadata.sorted_tables
        for check in table.constraints
        if str(check.name).startswith("ck_")
    ],
)
def test_a_value_that_is_not_declared_is_refused_by_the_database_itself(
    database: Database, line: Line, table: str, column: str
) -> None:
    given = {"line_id": str(line.id)}
    for other in Base.metadata.tables[table].columns:
        if not other.nullable and other.server_default is None and other.name not in ("id", "line_id"):
            given[other.name] = A_VALUE[type(other.type)]
    if table == "line":
        del given["line_id"]
    given[column] = "'nonsense'"
    with pytest.raises(DatabaseError, match=f"ck_{table}_{column}"), database.session() as session:
        session.execute(text(f"INSERT INTO {table} ({', '.join(given)}) VALUES ({', '.join(given.values())})"))


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    value: float


def test_plain_documents_are_what_json_can_say() -> None:
    assert plain({1: {"b", "a"}, "x": [True, None, 10**20, "é"]}) == {
        "1": ["a", "b"],
        "x": [True, None, 10**20, "é"],
    }
    assert plain(-float("inf")) is None
    assert plain([Gate(name="recall", value=float("nan"))]) == [{"name": "recall", "value": None}]
    assert plain(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00+00:00"
