"""A retrain's row and the only ways in which its state may change.

::

    requested → curated → fitted → gated → registered → promoted
      ↑ ↑           ╲        ╲       ╲         ├──────→ waiting → promoted | rejected
      │ │            ╲        ╲       ╲        ├──────→ shadow → promoted | waiting | rejected
      │ └── failed ←──┴────────┴───────┴───────┴──────→ rejected ─┐
      │           (from any state before the end)                 │
      └── (only when labels given since say so) ──────────────────┘

A step says from which state it starts. The database moves the row only if it still is in that state, so of
two processes that do the same step one wins, and the other is told by IllegalTransition.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from halfsigma import IllegalTransition, UsageError
from registry.columns import plain, utc_now
from registry.database import insert
from registry.tables import RETRAIN_STATES, Line, Retrain, table_of

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "requested": frozenset({"curated", "failed"}),
    "curated": frozenset({"fitted", "failed"}),
    "fitted": frozenset({"gated", "failed"}),
    "gated": frozenset({"registered", "failed"}),
    "registered": frozenset({"promoted", "waiting", "shadow", "rejected", "failed"}),
    "shadow": frozenset({"promoted", "waiting", "rejected", "failed"}),
    "waiting": frozenset({"promoted", "rejected", "failed"}),
    "failed": frozenset({"requested"}),
    "promoted": frozenset(),
    "rejected": frozenset({"requested"}),
}
FINAL = frozenset({"promoted", "rejected"})
"""States that nothing leaves by itself; ``failed`` is run again by who asks for it."""

OPEN = frozenset(RETRAIN_STATES) - FINAL - {"failed"}
"""States of a retrain that is under way, scores along, or waits for a person."""
OFFERED = frozenset({"waiting", "shadow"})
"""States in which its version is the line's challenger."""


def request(
    session: Session,
    line: Line,
    *,
    night: date,
    base_version: int,
    reason: str,
    document: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Retrain:
    """The retrain of that line, night and base version: a new one, or the one there is, in whatever state.

    Asking again never starts a second one.
    """
    when = at or utc_now()
    statement = insert(session, Retrain).values(
        line_id=line.id,
        night=night,
        base_version=base_version,
        state="requested",
        document=dict(document or {}),
        reason=reason,
        created_at=when,
        updated_at=when,
    )
    session.execute(statement.on_conflict_do_nothing())
    return session.scalars(
        select(Retrain)
        .where(Retrain.line_id == line.id, Retrain.night == night, Retrain.base_version == base_version)
        .execution_options(populate_existing=True)
    ).one()


def advance(
    session: Session,
    retrain_id: int,
    *,
    start: str,
    to: str,
    document: Mapping[str, Any] | None = None,
    new_version: int | None = None,
    reason: str | None = None,
    at: datetime | None = None,
) -> Retrain:
    """Move a retrain from ``start`` to ``to``, adding to its document; IllegalTransition when that cannot be.

    One that is requested again has nothing but the ``document`` given: what it found before is about other images.
    Refused when the way is not declared, and when the row is not (or no longer) in ``start``.
    """
    refusal = refuse(start, to)
    if refusal:
        raise IllegalTransition(f"retrain {retrain_id}: {refusal}", hint="see halfsigma status for its state")
    values: dict[str, Any] = {"state": to, "updated_at": at or utc_now()}
    if to == "requested":
        values |= {"document": plain(document or {}), "new_version": None}
    elif document is not None:
        values["document"] = {**get(session, retrain_id).document, **plain(document)}
    if new_version is not None:
        values["new_version"] = new_version
    if reason is not None:
        values["reason"] = reason
    table = table_of(Retrain)
    moved = session.execute(
        update(table).where(table.c.id == retrain_id, table.c.state == start).values(values).returning(table.c.id)
    ).first()
    retrain = get(session, retrain_id)
    if moved is None:
        raise IllegalTransition(
            f"retrain {retrain_id} is {retrain.state!r}, expected {start!r}: another process moved it",
            hint="nothing to do; see halfsigma status for how it goes on",
        )
    return retrain


def annotate(session: Session, retrain_id: int, document: Mapping[str, Any]) -> Retrain:
    """Add to a retrain's document, whatever its state."""
    retrain = get(session, retrain_id)
    table = table_of(Retrain)
    values = {"document": {**retrain.document, **plain(document)}}
    session.execute(update(table).where(table.c.id == retrain_id).values(values))
    return get(session, retrain_id)


def refuse(start: str, to: str) -> str | None:
    """Why a retrain cannot go from ``start`` to ``to``, or None when it can.

    >>> refuse("promoted", "requested")
    "a retrain that is 'promoted' is over, it cannot become 'requested'"
    >>> refuse("requested", "curated") is None
    True
    """
    for state in (start, to):
        if state not in TRANSITIONS:
            return f"{state!r} is no state of a retrain, expected one of {', '.join(RETRAIN_STATES)}"
    if to in TRANSITIONS[start]:
        return None
    if not TRANSITIONS[start]:
        return f"a retrain that is {start!r} is over, it cannot become {to!r}"
    ways = ", ".join(state for state in RETRAIN_STATES if state in TRANSITIONS[start])
    return f"a retrain that is {start!r} cannot become {to!r}, only: {ways}"


def get(session: Session, retrain_id: int) -> Retrain:
    """The retrain as the database has it now; UsageError when there is none of that id."""
    retrain = session.get(Retrain, retrain_id, populate_existing=True)
    if retrain is None:
        raise UsageError(f"no retrain {retrain_id}", hint="see halfsigma status for those there are")
    return retrain


def list_retrains(session: Session, line: Line) -> list[Retrain]:
    """The line's retrains, oldest first."""
    return list(session.scalars(select(Retrain).where(Retrain.line_id == line.id).order_by(Retrain.night, Retrain.id)))


def open_retrain(session: Session, line: Line) -> Retrain | None:
    """The line's latest retrain that is under way or waits for a person, if there is one."""
    return session.scalars(
        select(Retrain)
        .where(Retrain.line_id == line.id, Retrain.state.in_(OPEN))
        .order_by(Retrain.night.desc(), Retrain.id.desc())
        .limit(1)
    ).one_or_none()


def latest_retrains(session: Session) -> dict[int, Retrain]:
    """The last retrain of every line, by the line's id: one query for a status of all lines."""
    rank = func.row_number().over(partition_by=Retrain.line_id, order_by=(Retrain.night.desc(), Retrain.id.desc()))
    ranked = select(Retrain.id, rank.label("rank")).subquery()
    last = select(Retrain).join(ranked, ranked.c.id == Retrain.id).where(ranked.c.rank == 1)
    return {retrain.line_id: retrain for retrain in session.scalars(last)}
