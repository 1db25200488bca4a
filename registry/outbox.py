"""Alerts: written in the transaction of what they tell of, delivered at least once afterwards.

An alert is claimed by moving its next attempt past the lease, in a transaction of its own, before it is
posted: two deliverers never send the same one at once, and one that is killed loses nothing, since the
alert falls due again when its lease ends. What was sent and not noted (killed in between) is sent again
with the same ``webhook-id``, by which the receiver knows it.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry.columns import utc_now
from registry.database import Database, insert
from registry.tables import ALERT_STATES, Alert, Line, table_of
from registry.webhook import Answer, check_url, post, read_secret

GIVE_UP_AFTER = timedelta(days=3)  # a weekend in which nobody mends the receiver
BACKOFF_FIRST_S = 15.0
BACKOFF_FACTOR = 2.0
BACKOFF_LONGEST_S = 3600.0  # so that a mended receiver hears of it within the hour
JITTER_SHARE = 0.5  # of the pause is random: a plant's lines do not all come back at once
TIMEOUT_S = 10.0
LEASE_MARGIN_S = 20.0  # beyond the timeout: for writing down the answer

ALERT = table_of(Alert)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one run of ``deliver_due`` did."""

    n_delivered: int = 0
    n_retried_later: int = 0
    n_dead: int = 0


@dataclass(frozen=True, slots=True)
class _Claim:
    alert_id: int
    message_id: str
    attempts: int
    pending_since: datetime
    body: bytes


def enqueue(
    session: Session,
    *,
    kind: str,
    dedup_key: str,
    payload: Mapping[str, Any],
    line: Line | None = None,
    at: datetime | None = None,
) -> bool:
    """Put an alert into the outbox; False when one of that key was put there before, whatever became of it.

    It leaves if, and only if, the session commits.
    """
    when = at or utc_now()
    statement = insert(session, Alert).values(
        line_id=line.id if line is not None else None,
        kind=kind,
        dedup_key=dedup_key,
        message_id=f"msg_{uuid.uuid4().hex}",
        payload=dict(payload),
        state="pending",
        attempts=0,
        next_attempt_at=when,
        created_at=when,
        pending_since=when,
    )
    return session.execute(statement.on_conflict_do_nothing().returning(ALERT.c.id)).first() is not None


def deliver_due(
    database: Database,
    *,
    url: str,
    secret: str,
    rng: np.random.Generator,
    clock: Callable[[], datetime] = utc_now,
    give_up_after: timedelta = GIVE_UP_AFTER,
    timeout_s: float = TIMEOUT_S,
) -> Delivery:
    """Post every alert that is due, the longest due first, one after the other.

    A receiver that cannot be reached ends the run (the other alerts would fare alike, each after a
    timeout); one that refuses an alert does not. An alert is dead when an attempt fails ``give_up_after``
    after it was put into the outbox, or when the receiver answers 410 Gone.
    """
    check_url(url)
    read_secret(secret)
    tls = ssl.create_default_context() if url.startswith("https") else None
    n_delivered = n_retried_later = n_dead = 0
    while claim := _claim(database, now=clock(), lease_s=timeout_s + LEASE_MARGIN_S):
        answer = post(
            url,
            secret=secret,
            message_id=claim.message_id,
            body=claim.body,
            now=clock(),
            timeout_s=timeout_s,
            tls=tls,
        )
        state = _settle(database, claim, answer, now=clock(), rng=rng, give_up_after=give_up_after)
        n_delivered += state == "delivered"
        n_retried_later += state == "pending"
        n_dead += state == "dead"
        if answer.kind == "unreachable":
            n_dead += _bury_expired(database, now=clock(), give_up_after=give_up_after, detail=answer.detail)
            break
    return Delivery(n_delivered=n_delivered, n_retried_later=n_retried_later, n_dead=n_dead)


def replay(session: Session, alert_id: int, *, at: datetime | None = None) -> None:
    """Make an alert due again at once, whatever became of it, with a fresh time until it is dead.

    It keeps its ``webhook-id``: a receiver that did get it may ignore it.
    """
    when = at or utc_now()
    statement = (
        update(ALERT)
        .where(ALERT.c.id == alert_id)
        .values(state="pending", attempts=0, next_attempt_at=when, pending_since=when, delivered_at=None)
        .returning(ALERT.c.id)
    )
    if session.execute(statement).first() is None:
        raise UsageError(f"no alert {alert_id}", hint="see halfsigma alerts for those there are")


def list_alerts(session: Session, *, state: str | None = None, line: Line | None = None) -> list[Alert]:
    """The alerts (in that state, of that line), oldest first, as they are now."""
    if state is not None and state not in ALERT_STATES:
        raise UsageError(f"state {state!r}, expected one of {', '.join(ALERT_STATES)}")
    query = select(Alert).order_by(Alert.created_at, Alert.id).execution_options(populate_existing=True)
    if state is not None:
        query = query.where(Alert.state == state)
    if line is not None:
        query = query.where(Alert.line_id == line.id)
    return list(session.scalars(query))


def backoff_s(attempts: int, rng: np.random.Generator) -> float:
    """The pause after so many failed attempts: doubling from 15 s up to an hour, half of it random."""
    pause = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * BACKOFF_FACTOR ** min(attempts - 1, 30))
    return pause * (1.0 - JITTER_SHARE * float(rng.random()))


def _claim(database: Database, *, now: datetime, lease_s: float) -> _Claim | None:
    """The longest due alert, ours until the lease ends; None when nothing is due."""
    while True:
        with database.session() as session:
            row = session.execute(
                select(ALERT, Line.name.label("line_name"))
                .outerjoin(Line, Line.id == ALERT.c.line_id)
                .where(ALERT.c.state == "pending", ALERT.c.next_attempt_at <= now)
                .order_by(ALERT.c.next_attempt_at, ALERT.c.id)
                .limit(1)
            ).first()
            if row is None:
                return None
            claimed = session.execute(
                update(ALERT)
                .where(ALERT.c.id == row.id, ALERT.c.state == "pending", ALERT.c.attempts == row.attempts)
                .where(ALERT.c.next_attempt_at == row.next_attempt_at)
                .values(attempts=row.attempts + 1, next_attempt_at=now + timedelta(seconds=lease_s))
                .returning(ALERT.c.id)
            ).first()
        if claimed is not None:
            return _Claim(row.id, row.message_id, row.attempts + 1, row.pending_since, _body(row))


def _body(row: Any) -> bytes:
    """The message as Standard Webhooks recommends it; the same bytes on every attempt."""
    data = {"line": row.line_name, **row.payload} if row.line_name is not None else row.payload
    message = {"type": row.kind, "timestamp": row.created_at.isoformat(), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _settle(
    database: Database,
    claim: _Claim,
    answer: Answer,
    *,
    now: datetime,
    rng: np.random.Generator,
    give_up_after: timedelta,
) -> str:
    """Write down what became of an attempt; the state that follows.

    A delivery counts however late it is written; a failure only while the claim is still ours.
    """
    mine = (ALERT.c.id == claim.alert_id) & (ALERT.c.state == "pending")
    values: dict[str, Any]
    if answer.kind == "delivered":
        values = {"state": "delivered", "delivered_at": now, "last_error": None}
    else:
        mine &= ALERT.c.attempts == claim.attempts
        pause_s = max(backoff_s(claim.attempts, rng), min(answer.retry_after_s or 0.0, BACKOFF_LONGEST_S))
        is_over = answer.kind == "gone" or now - claim.pending_since >= give_up_after
        values = {
            "state": "dead" if is_over else "pending",
            "next_attempt_at": now + timedelta(seconds=pause_s),
            "last_error": answer.detail,
        }
    with database.session() as session:
        session.execute(update(ALERT).where(mine).values(values))
    return str(values["state"])


def _bury_expired(database: Database, *, now: datetime, give_up_after: timedelta, detail: str) -> int:
    """Dead are also those that waited too long behind a receiver that cannot be reached; how many."""
    statement = (
        update(ALERT)
        .where(ALERT.c.state == "pending", ALERT.c.next_attempt_at <= now)
        .where(ALERT.c.pending_since <= now - give_up_after)
        .values(state="dead", last_error=detail)
        .returning(ALERT.c.id)
    )
    with database.session() as session:
        return len(session.execute(statement).all())
