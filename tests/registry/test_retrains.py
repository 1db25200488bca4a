"""A retrain moves only along the declared ways, and only one process moves it."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from halfsigma import IllegalTransition, UsageError
from registry import retrains
from registry.database import Database
from registry.retrains import FINAL, OPEN, TRANSITIONS, advance, refuse, request
from registry.tables import RETRAIN_STATES, Line, Retrain

LEGAL = {
    ("requested", "curated"),
    ("curated", "fitted"),
    ("fitted", "gated"),
    ("gated", "registered"),
    ("registered", "promoted"),
    ("registered", "waiting"),
    ("registered", "rejected"),
    ("registered", "shadow"),
    ("shadow", "promoted"),
    ("shadow", "waiting"),
    ("shadow", "rejected"),
    ("waiting", "promoted"),
    ("waiting", "rejected"),
    ("failed", "requested"),
    ("rejected", "requested"),
    *((state, "failed") for state in ("requested", "curated", "fitted", "gated", "registered", "shadow", "waiting")),
}
ILLEGAL = sorted(set(itertools.product(RETRAIN_STATES, repeat=2)) - LEGAL)
NIGHT = date(2026, 11, 23)
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.fixture
def retrain(session: Session, line: Line) -> Retrain:
    return request(session, line, night=NIGHT, base_version=1, reason="drift", document={"n_curated": 0}, at=AT)


def put_into(session: Session, retrain: Retrain, state: str) -> None:
    session.execute(update(Retrain).where(Retrain.id == retrain.id).values(state=state))


def test_every_state_of_the_table_has_its_declared_ways() -> None:
    assert set(TRANSITIONS) == set(RETRAIN_STATES)
    assert {(start, to) for start, ways in TRANSITIONS.items() for to in ways} == LEGAL
    assert {state for state, ways in TRANSITIONS.items() if ways <= {"requested"}} == FINAL | {"failed"}
    assert OPEN | FINAL | {"failed"} == set(RETRAIN_STATES)


@pytest.mark.parametrize(("start", "to"), sorted(LEGAL))
def test_a_declared_way_is_gone(session: Session, retrain: Retrain, start: str, to: str) -> None:
    put_into(session, retrain, start)
    moved = advance(session, retrain.id, start=start, to=to, at=AT + timedelta(hours=1))
    assert moved.state == to
    assert moved.updated_at == AT + timedelta(hours=1)


@pytest.mark.parametrize("start", RETRAIN_STATES)
def test_an_undeclared_way_is_refused_with_its_reason_and_changes_nothing(
    session: Session, retrain: Retrain, start: str
) -> None:
    put_into(session, retrain, start)
    for to in (to for state, to in ILLEGAL if state == start):
        with pytest.raises(IllegalTransition, match=f"'{start}'.*'{to}'"):
            advance(session, retrain.id, start=start, to=to)
        assert retrains.get(session, retrain.id).state == start
        assert refuse(start, to) is not None


def test_a_state_that_does_not_exist_is_refused(session: Session, retrain: Retrain) -> None:
    with pytest.raises(IllegalTransition, match="'done' is no state of a retrain, expected one of requested"):
        advance(session, retrain.id, start="requested", to="done")


def test_a_step_from_a_state_that_is_past_is_refused(session: Session, retrain: Retrain) -> None:
    advance(session, retrain.id, start="requested", to="curated")
    with pytest.raises(IllegalTransition, match="is 'curated', expected 'requested': another process moved it"):
        advance(session, retrain.id, start="requested", to="curated")


def test_a_retrain_is_one_a_line_night_and_base_version(session: Session, line: Line, retrain: Retrain) -> None:
    advance(session, retrain.id, start="requested", to="curated")
    again = request(session, line, night=NIGHT, base_version=1, reason="asked twice")
    other = request(session, line, night=NIGHT, base_version=2, reason="another base")
    assert (again.id, again.state, again.reason) == (retrain.id, "curated", "drift")
    assert other.id != retrain.id
    assert [found.id for found in retrains.list_retrains(session, line)] == [retrain.id, other.id]


def test_a_step_adds_to_the_document_and_keeps_what_was_there(session: Session, retrain: Retrain) -> None:
    advance(session, retrain.id, start="requested", to="curated", document={"n_curated": 240})
    moved = advance(
        session,
        retrain.id,
        start="curated",
        to="fitted",
        document={"gates": [{"name": "recall", "value": float("nan")}]},
        new_version=2,
    )
    assert moved.document == {"n_curated": 240, "gates": [{"name": "recall", "value": None}]}
    assert (moved.new_version, moved.reason) == (2, "drift")


def test_a_failed_retrain_is_run_again_from_the_start(session: Session, line: Line, retrain: Retrain) -> None:
    advance(session, retrain.id, start="requested", to="failed", reason="the disk was full")
    assert retrains.open_retrain(session, line) is None
    again = advance(session, retrain.id, start="failed", to="requested", reason="drift")
    assert again.state == "requested"
    open_one = retrains.open_retrain(session, line)
    assert open_one is not None and open_one.id == retrain.id


def test_the_latest_retrain_of_every_line_is_one_query(session: Session, line: Line, retrain: Retrain) -> None:
    later = request(session, line, night=NIGHT + timedelta(days=1), base_version=1, reason="drift")
    assert {line_id: found.id for line_id, found in retrains.latest_retrains(session).items()} == {line.id: later.id}


def test_an_unknown_retrain_is_said_to_be_unknown(session: Session) -> None:
    with pytest.raises(UsageError, match="no retrain 99"):
        advance(session, 99, start="requested", to="curated")


def test_of_many_that_take_the_same_step_at_once_one_wins(database: Database, line: Line, session: Session) -> None:
    retrain = request(session, line, night=NIGHT, base_version=1, reason="drift")
    session.commit()
    n_threads = 6
    barrier = threading.Barrier(n_threads)
    outcomes: list[str] = []

    def step() -> None:
        barrier.wait()
        try:
            with database.session() as mine:
                advance(mine, retrain.id, start="requested", to="curated")
            outcomes.append("moved")
        except IllegalTransition:
            outcomes.append("refused")

    threads = [threading.Thread(target=step) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["moved"] + ["refused"] * (n_threads - 1)
