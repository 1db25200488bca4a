"""While MLflow is asked what is deployed, other processes promote, move and offer: nothing is put down to the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from registry import audit, moves, promotion, retrains
from registry.database import Database
from registry.deployment import Deployment
from registry.tables import Line
from tests.registry.deployments import fit, follow, promote, registered_retrain
from tests.registry.fake_store import FakeStore


class AskedWhile(FakeStore):
    """While it answers, something else happens, once."""

    def __init__(self, other: FakeStore, *, before: Callable[[], object] | None, after: Callable[[], object] | None):
        self.__dict__ = other.__dict__
        self.meanwhile = {"before": before, "after": after}

    def aliases(self, line: str) -> dict[str, int]:
        self._once("before")
        answer = super().aliases(line)
        self._once("after")
        return answer

    def _once(self, when: str) -> None:
        happens, self.meanwhile[when] = self.meanwhile[when], None
        if happens is not None:
            happens()


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_promotes_while_another_process_asks_mlflow_is_recorded_as_the_one_who_did(
    database: Database, line: Line, session: Session, deployed: FakeStore, tmp_path: Path, when: str
) -> None:
    fit(session, line, deployed, 2)
    session.commit()

    def promotes() -> None:
        with database.session() as other:
            promote(other, line, deployed, 2)

    asked = AskedWhile(deployed, **{"before": None, "after": None, when: promotes})  # type: ignore[arg-type]
    assert follow(session, line, asked, tmp_path) == Deployment(2, 1, None)
    assert deployed.pointing == {"champion": 2, "previous": 1}
    (entry,) = audit.history(session, line, actions=["promoted", "rolled_back", "champion_put_back"])
    assert (entry.action, entry.actor) == ("promoted", "ann")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_move_that_is_under_way_while_another_process_asks_mlflow_is_its_own(
    database: Database, line: Line, session: Session, deployed: FakeStore, tmp_path: Path, when: str
) -> None:
    fit(session, line, deployed, 2)
    session.commit()

    def begins() -> None:
        with database.session() as other:
            moves.begin(other, line, action="promoted", start=1, to=2, actor="bea", document={})
        deployed.set_alias(line.name, "champion", 2)

    asked = AskedWhile(deployed, **{"before": None, "after": None, when: begins})  # type: ignore[arg-type]
    assert follow(session, line, asked, tmp_path) == Deployment(2, 1, None)
    (entry,) = audit.history(session, line, actions=["promoted"])
    assert entry.actor == "bea"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_challenger_that_is_offered_while_another_process_asks_mlflow_is_not_taken_from_the_race(
    database: Database, line: Line, session: Session, deployed: FakeStore, tmp_path: Path, when: str
) -> None:
    retrain = registered_retrain(session, line, deployed)
    session.commit()

    def offers() -> None:
        with database.session() as other:
            promotion.offer(other, line, deployed, 2, kind="challenger_waits")  # type: ignore[arg-type]
            retrains.advance(other, retrain, start="registered", to="waiting")

    asked = AskedWhile(deployed, **{"before": None, "after": None, when: offers})  # type: ignore[arg-type]
    assert follow(session, line, asked, tmp_path).challenger == 2
    session.commit()
    assert retrains.get(session, retrain).state == "waiting"
    assert not audit.history(session, line, actions=["alias_moved"])


def test_a_challenger_that_is_being_offered_was_moved_by_nobody_else(
    session: Session, line: Line, deployed: FakeStore, tmp_path: Path
) -> None:
    """The process that offers it has moved the alias and not said so yet, or was killed before it could."""
    retrain = registered_retrain(session, line, deployed)
    deployed.set_alias(line.name, "challenger", 2)
    follow(session, line, deployed, tmp_path)
    assert not audit.history(session, line, actions=["alias_moved"])
    assert retrains.get(session, retrain).state == "registered"
