"""A move of the champion's alias that is under way: written before MLflow is touched, taken away with the audit's entry.

MLflow has no compare-and-set and no history. The row is both: of two promoters the second finds it and is told, and who
finds the alias moved knows by the row who moved it and why, although that process was killed before it could say so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from halfsigma import IllegalTransition, StoreError
from registry.columns import utc_now
from registry.database import insert
from registry.tables import Line, PendingMove, table_of

LEASE = timedelta(minutes=5)
"""How long a promoter has: MLflow's longest answer is about a minute, and a promotion asks it some four times."""
MOVE_TAKES = timedelta(seconds=90)
"""The alias is not moved when less than this remains of the lease: somebody else might begin while it is under way."""

MOVE = table_of(PendingMove)


@dataclass(frozen=True, slots=True)
class Move:
    """From which version to which, by whom and why; ``token`` is this process's own."""

    token: str
    action: str
    start: int | None
    to: int
    actor: str
    document: Mapping[str, Any]
    until: datetime

    def is_theirs(self, now: datetime) -> bool:
        """Whether the process that began it may still be at it."""
        return now < self.until

    def check_lease(self) -> None:
        """StoreError when too little time is left to move the alias safely."""
        if utc_now() + MOVE_TAKES > self.until:
            raise StoreError("MLflow took too long to answer; the champion was not moved", hint="run this again")


@contextmanager
def moving(
    session: Session,
    line: Line,
    *,
    action: Literal["promoted", "rolled_back"],
    start: int | None,
    to: int,
    actor: str,
    document: Mapping[str, Any],
) -> Iterator[Move]:
    """Begin a move; if what is done within fails, others may begin theirs at once. It is ended by `end`."""
    move = begin(session, line, action=action, start=start, to=to, actor=actor, document=document)
    try:
        yield move
    except Exception:
        session.rollback()
        session.execute(
            update(MOVE).where(MOVE.c.line_id == line.id, MOVE.c.token == move.token).values(until=utc_now())
        )
        session.commit()
        raise


def begin(
    session: Session,
    line: Line,
    *,
    action: Literal["promoted", "rolled_back"],
    start: int | None,
    to: int,
    actor: str,
    document: Mapping[str, Any],
) -> Move:
    """Announce a move and commit it, so that every other process sees it.

    The same move (same versions, same action) may be begun by several: a retrain that was killed is run again, and what
    they do in MLflow is the same. One whose lease has ended is replaced.

    Raises:
        IllegalTransition: another move of the line is under way; it says whose.
    """
    now = utc_now()
    row = {
        "line_id": line.id,
        "token": uuid.uuid4().hex,
        "action": action,
        "from_version": start,
        "to_version": to,
        "actor": actor,
        "document": dict(document),
        "until": now + LEASE,
    }
    statement = insert(session, PendingMove).values(row)
    same = (MOVE.c.to_version == to) & (
        MOVE.c.from_version == start if start is not None else MOVE.c.from_version.is_(None)
    )
    taken = session.execute(
        statement.on_conflict_do_update(
            index_elements=["line_id"],
            set_={name: statement.excluded[name] for name in row if name != "line_id"},
            where=or_(MOVE.c.until <= now, same & (MOVE.c.action == action)),
        ).returning(MOVE.c.id)
    ).first()
    other = pending(session, line)
    session.commit()
    if taken is None:
        shown = "another process" if other is None else f"{other.actor} ({other.action}, version {other.to})"
        raise IllegalTransition(
            f"line {line.name!r}: {shown} is changing the champion at this moment; nothing was changed by this call",
            hint=f"see halfsigma status {line.name}, then decide again",
        )
    assert other is not None, "it was written a moment ago, in the same transaction"
    return other


def pending(session: Session, line: Line) -> Move | None:
    """The move that was begun and not ended, whether its process still lives or not."""
    row = session.execute(select(MOVE).where(MOVE.c.line_id == line.id)).first()
    if row is None:
        return None
    return Move(row.token, row.action, row.from_version, row.to_version, row.actor, row.document, row.until)


def end(session: Session, line: Line, move: Move) -> None:
    """Take the announcement away, in the transaction that records what came of it; another's is left."""
    session.execute(delete(MOVE).where(MOVE.c.line_id == line.id, MOVE.c.token == move.token))
