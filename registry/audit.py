"""Who did what to a line, when and why; written once, never changed (triggers refuse it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.columns import utc_now
from registry.tables import Audit, Line


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    line: Line | None = None,
    version: int | None = None,
    document: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Audit:
    """Write an entry in the transaction of what it tells of: both are there, or neither is."""
    entry = Audit(
        at=at or utc_now(),
        line_id=line.id if line is not None else None,
        actor=actor,
        action=action,
        version=version,
        document=dict(document or {}),
    )
    session.add(entry)
    session.flush()
    return entry


def history(
    session: Session,
    line: Line | None = None,
    *,
    actions: Sequence[str] | None = None,
    until: datetime | None = None,
) -> list[Audit]:
    """The entries (of a line, of these actions, up to an instant), as they were written: a clock may be put back."""
    query = select(Audit)
    if line is not None:
        query = query.where(Audit.line_id == line.id)
    if actions is not None:
        query = query.where(Audit.action.in_(actions))
    if until is not None:
        query = query.where(Audit.at <= until)
    return list(session.scalars(query.order_by(Audit.id)))


def last_entry(session: Session, line: Line, *, actions: Sequence[str], until: datetime | None = None) -> Audit | None:
    """The entry of these actions that was written last up to an instant.

    With promotions and rollbacks as the actions it answers which version was champion then.
    """
    query = select(Audit).where(Audit.line_id == line.id, Audit.action.in_(actions))
    if until is not None:
        query = query.where(Audit.at <= until)
    return session.scalars(query.order_by(Audit.id.desc()).limit(1)).one_or_none()
