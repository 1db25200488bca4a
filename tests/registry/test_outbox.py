"""An alert leaves when what it tells of is committed: at least once, never two at once, never for ever."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from halfsigma import UsageError
from registry import outbox
from registry.database import Database
from registry.outbox import Delivery, backoff_s, deliver_due, enqueue, list_alerts, replay
from registry.tables import Alert, Line
from registry.webhook import Answer

_spec = importlib.util.spec_from_file_location("halfsigma_test_webhook", Path(__file__).with_name("test_webhook.py"))
assert _spec is not None and _spec.loader is not None
_webhook = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_webhook)
receiver = _webhook.receiver
verified = _webhook.verified
SECRET = _webhook.SECRET

ROOT = Path(outbox.__file__).parents[1]
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9/hook"  # the discard port: nobody listens


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def alerts(database: Database) -> Iterator[Any]:
    """The alerts as they are now, by their key."""

    def now() -> dict[str, Alert]:
        with database.session() as session:
            return {alert.dedup_key: alert for alert in list_alerts(session)}

    yield now


def put(database: Database, *keys: str, line: Line | None = None, at: datetime = AT) -> None:
    with database.session() as session:
        for key in keys:
            enqueue(session, kind="drift", dedup_key=key, payload={"shift_sd": 1.15}, line=line, at=at)


def run(database: Database, url: str, clock: Clock, **given: Any) -> Delivery:
    return deliver_due(database, url=url, secret=SECRET, rng=np.random.default_rng(0), clock=clock, **given)


def test_an_alert_leaves_signed_with_its_line_and_figures(
    database: Database, session: Session, line: Line, receiver: Any, clock: Clock, alerts: Any
) -> None:
    put(database, "a", line=line)
    clock.now += timedelta(minutes=1)
    assert run(database, receiver.url, clock) == Delivery(n_delivered=1)
    ((_, headers, body),) = receiver.received
    assert verified(SECRET, headers, body)
    assert json.loads(body) == {
        "type": "drift",
        "timestamp": "2026-11-24T02:00:00+00:00",
        "data": {"line": "tiles", "shift_sd": 1.15},
    }
    alert = alerts()["a"]
    assert (alert.state, alert.attempts, alert.delivered_at) == ("delivered", 1, clock.now)
    assert run(database, receiver.url, clock) == Delivery()


def test_an_alert_of_a_key_is_enqueued_once_whatever_became_of_it(
    database: Database, receiver: Any, clock: Clock
) -> None:
    put(database, "a", "a")
    run(database, receiver.url, clock)
    with database.session() as session:
        assert not enqueue(session, kind="drift", dedup_key="a", payload={})
        assert enqueue(session, kind="drift", dedup_key="b", payload={})
    assert len(receiver.received) == 1


def test_an_alert_of_what_was_rolled_back_never_leaves(database: Database, receiver: Any, clock: Clock) -> None:
    with pytest.raises(RuntimeError), database.session() as session:
        enqueue(session, kind="drift", dedup_key="a", payload={}, at=AT)
        raise RuntimeError("the check failed after all")
    assert run(database, receiver.url, clock) == Delivery()
    assert receiver.received == []


def test_alerts_leave_in_the_order_in_which_they_fell_due(database: Database, receiver: Any, clock: Clock) -> None:
    for minutes, key in ((2, "c"), (0, "a"), (1, "b")):
        with database.session() as session:
            enqueue(session, kind=key, dedup_key=key, payload={}, at=AT + timedelta(minutes=minutes))
    clock.now += timedelta(minutes=5)
    run(database, receiver.url, clock)
    assert [json.loads(body)["type"] for _, _, body in receiver.received] == ["a", "b", "c"]


def test_a_refused_alert_is_sent_again_later_under_the_same_id(
    database: Database, receiver: Any, clock: Clock, alerts: Any
) -> None:
    put(database, "a")
    receiver.status = 500
    assert run(database, receiver.url, clock) == Delivery(n_retried_later=1)
    alert = alerts()["a"]
    assert (alert.state, alert.attempts, alert.last_error) == ("pending", 1, "HTTP 500 Internal Server Error")
    assert run(database, receiver.url, clock) == Delivery()  # not yet
    clock.now = alert.next_attempt_at
    receiver.status = 200
    assert run(database, receiver.url, clock) == Delivery(n_delivered=1)
    (_, first, body), (_, second, again) = receiver.received
    assert first["webhook-id"] == second["webhook-id"] and body == again
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    assert alerts()["a"].last_error is None


def test_one_refused_alert_does_not_hold_up_the_others(database: Database, receiver: Any, clock: Clock) -> None:
    put(database, "a", "b")
    receiver.status = 500
    assert run(database, receiver.url, clock) == Delivery(n_retried_later=2)


def test_a_receiver_that_is_not_there_is_tried_once_a_run(database: Database, clock: Clock, alerts: Any) -> None:
    put(database, "a", "b", "c")
    assert run(database, NOWHERE, clock) == Delivery(n_retried_later=1)
    assert sorted(alert.attempts for alert in alerts().values()) == [0, 0, 1]


def test_after_the_stated_time_of_failures_an_alert_is_dead(database: Database, clock: Clock, alerts: Any) -> None:
    put(database, "a", "b")
    n_runs = 0
    while any(alert.state == "pending" for alert in alerts().values()):
        run(database, NOWHERE, clock, give_up_after=timedelta(hours=6))
        clock.now = max(clock.now, min(alert.next_attempt_at for alert in alerts().values()))
        n_runs += 1
    assert {alert.state for alert in alerts().values()} == {"dead"}
    assert timedelta(hours=6) <= clock.now - AT <= timedelta(hours=8)
    assert 20 < n_runs < 50
    assert all("ConnectError" in (alert.last_error or "") for alert in alerts().values())


def test_what_waited_too_long_behind_a_receiver_that_is_not_there_is_dead_too(
    database: Database, clock: Clock, alerts: Any
) -> None:
    put(database, "a", "b", "c")
    put(database, "young", at=AT + timedelta(days=2))
    clock.now += timedelta(days=3)
    assert run(database, NOWHERE, clock) == Delivery(n_dead=3)
    assert {key: alert.state for key, alert in alerts().items()} == {
        "a": "dead",
        "b": "dead",
        "c": "dead",
        "young": "pending",
    }


def test_a_failure_that_is_written_late_does_not_touch_what_was_replayed_meanwhile(
    database: Database, clock: Clock, alerts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database, "a")

    def slow_post(*given: Any, **options: Any) -> Answer:
        with database.session() as session:
            replay(session, alerts()["a"].id, at=AT)
        return Answer("unreachable", "no answer")

    monkeypatch.setattr(outbox, "post", slow_post)
    run(database, NOWHERE, clock)
    alert = alerts()["a"]
    assert (alert.state, alert.attempts, alert.next_attempt_at, alert.last_error) == ("pending", 0, AT, None)


def test_a_receiver_that_wants_no_more_gets_no_more(
    database: Database, receiver: Any, clock: Clock, alerts: Any
) -> None:
    put(database, "a")
    receiver.status = 410
    assert run(database, receiver.url, clock) == Delivery(n_dead=1)
    assert alerts()["a"].state == "dead"


def test_a_replayed_alert_leaves_again_with_a_fresh_time(
    database: Database, receiver: Any, clock: Clock, alerts: Any
) -> None:
    put(database, "a")
    receiver.status = 410
    run(database, receiver.url, clock)
    clock.now += timedelta(days=30)
    with database.session() as session:
        replay(session, alerts()["a"].id, at=clock.now)
    receiver.status = 503
    assert run(database, receiver.url, clock) == Delivery(n_retried_later=1)  # not dead for its age
    receiver.status = 200
    clock.now += timedelta(hours=1)
    assert run(database, receiver.url, clock) == Delivery(n_delivered=1)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1
    with database.session() as session, pytest.raises(UsageError, match="no alert 999"):
        replay(session, 999)


def test_the_receivers_retry_after_is_respected_up_to_an_hour(
    database: Database, receiver: Any, clock: Clock, alerts: Any
) -> None:
    put(database, "a")
    receiver.status, receiver.headers = 429, {"Retry-After": "1200"}
    run(database, receiver.url, clock)
    assert alerts()["a"].next_attempt_at == AT + timedelta(seconds=1200)
    clock.now = alerts()["a"].next_attempt_at
    receiver.headers = {"Retry-After": "999999"}
    run(database, receiver.url, clock)
    assert alerts()["a"].next_attempt_at == clock.now + timedelta(hours=1)


def test_the_pause_doubles_up_to_an_hour_and_half_of_it_is_random() -> None:
    rng = np.random.default_rng(1)
    for attempts, longest in ((1, 15.0), (2, 30.0), (5, 240.0), (9, 3600.0), (500, 3600.0)):
        pauses = [backoff_s(attempts, rng) for _ in range(300)]
        assert longest / 2 <= min(pauses) < longest * 0.55 and longest * 0.95 < max(pauses) <= longest
    assert backoff_s(3, np.random.default_rng(5)) == backoff_s(3, np.random.default_rng(5))


def test_many_deliverers_at_once_send_each_alert_once(database: Database, receiver: Any, clock: Clock) -> None:
    put(database, *(f"alert{n}" for n in range(20)))
    deliveries: list[Delivery] = []
    threads = [threading.Thread(target=lambda: deliveries.append(run(database, receiver.url, clock))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(delivery.n_delivered for delivery in deliveries) == 20
    ids = [headers["webhook-id"] for _, headers, _ in receiver.received]
    assert len(ids) == len(set(ids)) == 20


def test_a_deliverer_killed_while_it_sends_loses_nothing(
    database: Database, url: str, receiver: Any, clock: Clock, alerts: Any
) -> None:
    """The receiver trickles; the child is killed while it waits for the answer; its lease then runs out."""
    put(database, "a")
    receiver.trickle_s = 30.0
    code = f"""
        import numpy as np
        from datetime import datetime
        from registry.database import open_database
        from registry.outbox import deliver_due
        now = datetime.fromisoformat({AT.isoformat()!r})
        with open_database({url!r}) as database:
            deliver_due(database, url={receiver.url!r}, secret={SECRET!r}, rng=np.random.default_rng(0),
                        clock=lambda: now)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    deadline = datetime.now() + timedelta(seconds=30)
    while not receiver.received and datetime.now() < deadline:
        threading.Event().wait(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    receiver.trickle_s = 0.0

    assert alerts()["a"].state == "pending"
    assert run(database, receiver.url, clock) == Delivery()  # the lease of the dead one still holds
    clock.now += timedelta(seconds=outbox.TIMEOUT_S + outbox.LEASE_MARGIN_S)
    assert run(database, receiver.url, clock) == Delivery(n_delivered=1)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1  # the receiver can tell
    assert alerts()["a"].attempts == 2


def test_a_wrong_address_or_secret_is_refused_before_anything_is_claimed(
    database: Database, clock: Clock, alerts: Any
) -> None:
    put(database, "a")
    for given in ({"url": "mes.plant", "secret": SECRET}, {"url": NOWHERE, "secret": "whsec_"}):
        with pytest.raises(UsageError):
            deliver_due(database, rng=np.random.default_rng(0), clock=clock, **given)
    assert alerts()["a"].attempts == 0


def test_alerts_are_listed_by_state_and_line(database: Database, session: Session, line: Line) -> None:
    put(database, "a", line=line)
    put(database, "b", at=AT + timedelta(minutes=1))
    assert [alert.dedup_key for alert in list_alerts(session)] == ["a", "b"]
    assert [alert.dedup_key for alert in list_alerts(session, line=line)] == ["a"]
    assert list_alerts(session, state="dead") == []
    with pytest.raises(UsageError, match="state 'lost', expected one of pending, delivered, dead"):
        list_alerts(session, state="lost")
