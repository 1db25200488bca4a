"""The types of columns that SQLite and PostgreSQL keep alike: instants in UTC, documents in plain JSON, counted ids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, DateTime, Dialect, Integer, Text, TypeDecorator

BigId = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself on SQLite
NaturalOrder = Text().with_variant(Text(collation="C"), "postgresql")  # byte order, as on SQLite


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: refuses naive datetimes, stores UTC, gives back aware UTC on SQLite as well."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None or value.utcoffset() is None:
            raise ValueError(f"{value!r} has no time zone; an instant is stored in UTC: pass an aware datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def storable(text: str) -> str:
    """The text as both databases take it: no lone surrogates (names that are not UTF-8), no NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def plain(value: Any) -> Any:
    """The same document in JSON's own types: what is not a finite number becomes None, dates become ISO text.

    JSON has no NaN, and PostgreSQL refuses it; a statistic that is undefined is ``null`` in a document.

    >>> plain({"p": float("nan"), "night": date(2026, 11, 1), "ci": (0.5, 1)})
    {'p': None, 'night': '2026-11-01', 'ci': [0.5, 1]}
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Mapping):
        return {storable(str(key)): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return str(value)


class Document(TypeDecorator[dict[str, Any]]):
    """A JSON document, made plain on its way in."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else plain(value)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """A CHECK that the column holds one of the values."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)
